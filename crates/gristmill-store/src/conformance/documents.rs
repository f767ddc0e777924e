//! Documents, beside the events.

use gristmill_model::{ProjectId, limits};

use super::Subject;
use crate::port::{Store, StoreError};
use crate::{Document, DocumentKey};

fn key<'a>(project: &'a str, kind: &'a str, id: &'a str) -> DocumentKey<'a> {
    DocumentKey { project: ProjectId::new(project), kind, id }
}

async fn put(store: &dyn Store, id: &str, expected: Option<u64>, body: &str) -> Option<u64> {
    match store.put_document(key("default", "cohort", id), expected, body.to_owned()).await {
        Ok(version) => Some(version),
        Err(StoreError::Conflict(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn remove(store: &dyn Store, id: &str, expected: u64) -> bool {
    match store.remove_document(key("default", "cohort", id), expected).await {
        Ok(()) => true,
        Err(StoreError::Conflict(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn texts(store: &dyn Store, project: &'static str, kind: &str) -> Vec<(String, String)> {
    let documents = store.documents(&ProjectId::new(project), kind).await.unwrap();
    documents.into_iter().map(|document| (document.id, document.body)).collect()
}

pub(super) async fn change_from_a_known_version_only(mut subject: impl Subject) {
    let pair = |id: &str, body: &str| (id.to_owned(), body.to_owned());
    let first = put(subject.store(), "b", None, "1").await.unwrap();
    assert_eq!(put(subject.store(), "b", None, "x").await, None);
    subject.settle().await;
    assert_eq!(put(subject.store(), "b", Some(first + 1), "x").await, None);
    assert_eq!(put(subject.store(), "none", Some(first), "x").await, None);
    let second = put(subject.store(), "b", Some(first), "2 \n\u{1f600}\"").await.unwrap();
    assert!(second > first);
    assert!(!remove(subject.store(), "b", first).await);
    let other = put(subject.store(), "a", None, "").await.unwrap();
    assert!(other > second);
    for (project, kind) in [("other", "cohort"), ("default", "cohorts")] {
        let elsewhere = key(project, kind, "b");
        subject.store().put_document(elsewhere, None, "far".to_owned()).await.unwrap();
    }
    subject.settle().await;
    let found = subject.store().document(key("default", "cohort", "b")).await.unwrap();
    let body = "2 \n\u{1f600}\"".to_owned();
    let (kind, id) = ("cohort".to_owned(), "b".to_owned());
    let project = ProjectId::new("default");
    assert_eq!(found, Some(Document { project, kind, id, version: second, body: body.clone() }));
    assert_eq!(
        texts(subject.store(), "default", "cohort").await,
        [pair("a", ""), pair("b", &body)]
    );
    assert_eq!(texts(subject.store(), "other", "cohort").await, [pair("b", "far")]);
    assert_eq!(texts(subject.store(), "default", "none").await, []);

    assert!(remove(subject.store(), "b", second).await);
    assert!(!remove(subject.store(), "b", second).await);
    subject.settle().await;
    assert_eq!(subject.store().document(key("default", "cohort", "b")).await.unwrap(), None);
    assert_eq!(texts(subject.store(), "default", "cohort").await, [pair("a", "")]);
    assert_eq!(texts(subject.store(), "default", "cohorts").await, [pair("b", "far")]);
    // What was removed is not what is put in its place, also not by its version.
    let again = put(subject.store(), "b", None, "again").await.unwrap();
    assert!(again > other);
    assert_eq!(put(subject.store(), "b", Some(second), "x").await, None);
    subject.settle().await;
    assert_eq!(texts(subject.store(), "default", "cohort").await[1], pair("b", "again"));
}

pub(super) async fn are_bounded(mut subject: impl Subject) {
    let body = |bytes| "x".repeat(bytes);
    let key = || key("default", "cohort", "a");
    let refused = subject.store().put_document(key(), None, body(limits::DOCUMENT_BYTES + 1)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    subject.settle().await;
    assert_eq!(subject.store().document(key()).await.unwrap(), None);
    subject.store().put_document(key(), None, body(limits::DOCUMENT_BYTES)).await.unwrap();
    subject.settle().await;
    let found = subject.store().document(key()).await.unwrap().unwrap();
    assert_eq!(found.body.len(), limits::DOCUMENT_BYTES);
}
