//! How many events each user made on each page.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;

use gristmill_model::Event;
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use super::commit::Manner;
use super::types::Hash;
use crate::Row;
use crate::identity::IdentityHasher;

/// The key of a count, in the order in which transactions lock them: a user's are beside each other.
type Key<'a> = (&'a str, Hash);

/// What an event adds to.
struct Added<'a> {
    event: &'a Event<'a>,
    events: i64,
}

/// Adds the rows to the counts.
pub(super) async fn add(
    change: &Transaction<'_>,
    hasher: &IdentityHasher,
    rows: &[&Row<'_>],
    manner: Manner,
) -> Result<(), tokio_postgres::Error> {
    let mut counts: BTreeMap<Key<'_>, Added<'_>> = BTreeMap::new();
    for Row { event, .. } in rows {
        if !event.page_url.is_empty() {
            let (project, user) = (event.project.as_str(), event.user.as_str());
            let hash = Hash(hasher.identity(project, user, &event.page_url));
            counts.entry((user, hash)).or_insert(Added { event, events: 0 }).events += 1;
        }
    }
    if counts.is_empty() {
        return Ok(());
    }
    match manner {
        Manner::Quick | Manner::Careful => {
            let held = update(change, &counts).await?;
            counts.retain(|(_, hash), _| !held.contains(hash));
            copy_in(change, &counts).await
        }
        Manner::Patient => insert_or_update(change, &counts).await,
    }
}

/// Adds to the counts that are there, and tells which those are.
async fn update(
    change: &Transaction<'_>,
    counts: &BTreeMap<Key<'_>, Added<'_>>,
) -> Result<HashSet<Hash>, tokio_postgres::Error> {
    let (users, hashes): (Vec<&str>, Vec<Hash>) = counts.keys().copied().unzip();
    let numbers: Vec<i64> = counts.values().map(|added| added.events).collect();
    let update = "UPDATE gristmill.page_counts AS held SET events = held.events + new.events \
                  FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS new (user_id, hash, events) \
                  WHERE held.user_id = new.user_id AND held.hash = new.hash \
                  RETURNING held.hash";
    let held = change
        .query_typed(
            update,
            &[
                (&users, Type::TEXT_ARRAY),
                (&hashes, Type::UUID_ARRAY),
                (&numbers, Type::INT8_ARRAY),
            ],
        )
        .await?;
    held.iter().map(|row| row.try_get(0)).collect()
}

/// Copies in counts that are not there.
async fn copy_in(
    change: &Transaction<'_>,
    counts: &BTreeMap<Key<'_>, Added<'_>>,
) -> Result<(), tokio_postgres::Error> {
    if counts.is_empty() {
        return Ok(());
    }
    let copy = "COPY gristmill.page_counts (hash, project, user_id, page_url, events) \
                FROM STDIN (FORMAT binary)";
    let types = [Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8];
    let mut writer = pin!(BinaryCopyInWriter::new(change.copy_in(copy).await?, &types));
    for ((user, hash), Added { event, events }) in counts {
        let (project, page) = (event.project.as_str(), event.page_url.as_ref());
        writer.as_mut().write(&[hash, &project, user, &page, events]).await?;
    }
    writer.finish().await.map(drop)
}

async fn insert_or_update(
    change: &Transaction<'_>,
    counts: &BTreeMap<Key<'_>, Added<'_>>,
) -> Result<(), tokio_postgres::Error> {
    let (users, hashes): (Vec<&str>, Vec<Hash>) = counts.keys().copied().unzip();
    let events = || counts.values().map(|added| added.event);
    let projects: Vec<&str> = events().map(|event| event.project.as_str()).collect();
    let pages: Vec<&str> = events().map(|event| event.page_url.as_ref()).collect();
    let numbers: Vec<i64> = counts.values().map(|added| added.events).collect();
    let add = "INSERT INTO gristmill.page_counts AS held (hash, project, user_id, page_url, events) \
               SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[]) \
               ON CONFLICT (user_id, hash) DO UPDATE SET events = held.events + excluded.events";
    let columns: [(&(dyn ToSql + Sync), Type); 5] = [
        (&hashes, Type::UUID_ARRAY),
        (&projects, Type::TEXT_ARRAY),
        (&users, Type::TEXT_ARRAY),
        (&pages, Type::TEXT_ARRAY),
        (&numbers, Type::INT8_ARRAY),
    ];
    change.execute_typed(add, &columns).await.map(drop)
}
