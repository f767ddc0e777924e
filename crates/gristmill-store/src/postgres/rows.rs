//! Rows on their way into the tables.

use std::pin::pin;

use gristmill_model::SessionId;
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use xxhash_rust::xxh3::xxh3_64;

use super::Opened;
use super::commit::Manner;
use super::page_counts;
use super::types::{Hash, JsonText};
use crate::Row;
use crate::identity::IdentityHasher;

/// A row that was not there before its commit, and its identity.
pub(super) struct FreshRow<'a> {
    pub(super) row: &'a Row<'a>,
    pub(super) identity: Hash,
}

impl<'a> FreshRow<'a> {
    pub(super) fn of(row: &'a Row<'a>, hasher: &IdentityHasher) -> Self {
        let event = &row.event;
        let identity =
            hasher.identity(event.project.as_str(), event.user.as_str(), event.id.as_str());
        Self { row, identity: Hash(identity) }
    }
}

/// The hash by which users are put in order and spread over shards. It is in the tables, so it must
/// never change.
pub(super) fn user_hash(user: &str) -> i64 {
    xxh3_64(user.as_bytes()).cast_signed()
}

/// Inserts rows that are new, and counts them.
pub(super) async fn insert(
    change: &Transaction<'_>,
    opened: &Opened,
    rows: &[&FreshRow<'_>],
    manner: Manner,
) -> Result<(), tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    copy_in(change, opened.log, rows).await?;
    page_counts::add(change, &opened.hasher, rows, manner).await
}

/// Copies rows into the table of events.
async fn copy_in(
    change: &Transaction<'_>,
    log: i32,
    rows: &[&FreshRow<'_>],
) -> Result<(), tokio_postgres::Error> {
    let copy = "COPY gristmill.events (project, user_hash, user_id, time_us, log, log_partition, \
                log_offset, received_us, event_id, session_id, event_type, source, page_url, \
                origin, properties) FROM STDIN (FORMAT binary)";
    let types = [
        Type::TEXT,
        Type::INT8,
        Type::TEXT,
        Type::INT8,
        Type::INT4,
        Type::INT4,
        Type::INT8,
        Type::INT8,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::INT2,
        Type::JSON,
    ];
    let mut writer = pin!(BinaryCopyInWriter::new(change.copy_in(copy).await?, &types));
    for FreshRow { row: Row { position, event }, .. } in rows {
        let values: [&(dyn ToSql + Sync); 15] = [
            &event.project.as_str(),
            &user_hash(event.user.as_str()),
            &event.user.as_str(),
            &event.time.0,
            &log,
            &(position.partition.0 as i32),
            &(position.offset as i64),
            &event.received.0,
            &event.id.as_str(),
            &event.session.as_ref().map(SessionId::as_str),
            &event.event_type.as_ref(),
            &event.source.as_ref(),
            &event.page_url.as_ref(),
            &i16::from(event.origin.number()),
            &JsonText(&event.properties),
        ];
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await?;
    Ok(())
}
