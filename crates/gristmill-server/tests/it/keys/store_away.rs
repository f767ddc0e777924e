//! Keys while the store is away.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use async_trait::async_trait;
use gristmill_model::{Outcome, Partition, ProjectId};
use gristmill_server::{Access, Front, ServerConfig};
use gristmill_store::{
    Commit, Document, DocumentKey, Progress, Quarantined, Snapshot, Store, StoreError, StoreStats,
};
use tokio::sync::watch;

use super::{Keyed, send};
use crate::support::{ADMIN_KEY, with_admin_key};

const SUMMARY: &str = "/v1/analytics/summary";

/// A store that says when it is away.
struct Leaving {
    store: Arc<dyn Store>,
    is_away: AtomicBool,
}

#[async_trait]
impl Store for Leaving {
    async fn commit(&self, commit: Commit<'_>) -> Result<Vec<Outcome>, StoreError> {
        self.store.commit(commit).await
    }

    fn progress(&self) -> Progress {
        self.store.progress()
    }

    fn watch(&self) -> watch::Receiver<Progress> {
        self.store.watch()
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.store.snapshot().await
    }

    async fn outcomes(
        &self,
        partition: Partition,
        offsets: Range<u64>,
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        self.store.outcomes(partition, offsets).await
    }

    fn is_available(&self) -> bool {
        !self.is_away.load(Relaxed)
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    async fn quarantined(&self, limit: usize) -> Result<Vec<Quarantined>, StoreError> {
        self.store.quarantined(limit).await
    }

    async fn put_document(
        &self,
        key: DocumentKey<'_>,
        expected: Option<u64>,
        body: String,
    ) -> Result<u64, StoreError> {
        self.store.put_document(key, expected, body).await
    }

    async fn remove_document(&self, key: DocumentKey<'_>, expected: u64) -> Result<(), StoreError> {
        self.store.remove_document(key, expected).await
    }

    async fn document(&self, key: DocumentKey<'_>) -> Result<Option<Document>, StoreError> {
        self.store.document(key).await
    }

    async fn documents(
        &self,
        project: &ProjectId<'_>,
        kind: &str,
    ) -> Result<Vec<Document>, StoreError> {
        self.store.documents(project, kind).await
    }
}

/// Another process over the same store, which may be away from there.
fn process(keyed: &Keyed, config: ServerConfig) -> (Front, Arc<Leaving>) {
    let store = Arc::clone(&keyed.services.store);
    let store = Arc::new(Leaving { store, is_away: AtomicBool::new(false) });
    let mut services = keyed.services.clone();
    services.store = Arc::clone(&store) as _;
    (Front::new(config, services), store)
}

async fn status(front: &Front, key: &str) -> u16 {
    send(front, "GET", SUMMARY, &[("x-api-key", key)], "").await.status.as_u16()
}

#[tokio::test]
async fn known_keys_go_on_and_of_others_nobody_knows() {
    let keyed = Keyed::new();
    let (known, _) = keyed.key("p", &["read"]).await;
    let (revoked, id) = keyed.key("p", &["read"]).await;
    let (front, store) = process(&keyed, with_admin_key());
    front.refresh_keys().await.unwrap();
    store.is_away.store(true, Relaxed);
    front.refresh_keys().await.unwrap_err();
    let (new, _) = keyed.key("p", &["read"]).await;
    keyed.revoke(&id).await;
    for (key, expected) in [
        (known.as_str(), 200),
        (&revoked, 200),
        (ADMIN_KEY, 200),
        (&new, 503),
        // What is no key at all is wrong, whatever the store says.
        ("mistyped", 401),
    ] {
        assert_eq!(status(&front, key).await, expected, "{key:.9}");
    }
    let answer = send(&front, "GET", SUMMARY, &[("x-api-key", &new)], "").await;
    assert_eq!(answer.json()["code"], "not_ready");
    store.is_away.store(false, Relaxed);
    front.refresh_keys().await.unwrap();
    for (key, expected) in [(&known, 200), (&revoked, 401), (&new, 200)] {
        assert_eq!(status(&front, key).await, expected, "{key:.9}");
    }
}

#[tokio::test]
async fn a_process_that_starts_meanwhile_knows_the_key_of_its_settings_only() {
    let keyed = Keyed::new();
    let (key, _) = keyed.key("p", &["read"]).await;
    let had_keys = ServerConfig {
        access: Access { had_keys: true, ..Access::default() },
        ..ServerConfig::default()
    };
    for (config, of_key, of_admin) in [
        (with_admin_key(), 503, 200),
        (had_keys, 503, 401),
        // It cannot know that there is a key.
        (ServerConfig::default(), 200, 200),
    ] {
        let (front, store) = process(&keyed, config);
        store.is_away.store(true, Relaxed);
        front.refresh_keys().await.unwrap_err();
        assert_eq!(
            (status(&front, &key).await, status(&front, ADMIN_KEY).await),
            (of_key, of_admin)
        );
    }
}
