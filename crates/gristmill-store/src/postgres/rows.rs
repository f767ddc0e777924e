//! Rows on their way into the tables.
//!
//! The key of the table of events is their identity, so that it is the table that says which of them
//! are there.

use std::collections::HashSet;
use std::pin::pin;

use gristmill_model::{Partition, Position, SessionId};
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use xxhash_rust::xxh3::xxh3_64;

use super::Opened;
use super::commit::Manner;
use super::page_counts;
use super::types::JsonText;
use crate::Row;

/// The hash by which users are put in order and spread over shards. It is in the tables, so it must
/// never change.
pub(super) fn user_hash(user: &str) -> i64 {
    xxh3_64(user.as_bytes()).cast_signed()
}

/// Stores the rows whose events are not there, counts them, and says of each row whether it was
/// stored. Of several rows of the same event the first one is.
pub(super) async fn store(
    change: &Transaction<'_>,
    opened: &Opened,
    rows: &[&Row<'_>],
    manner: Manner,
) -> Result<Vec<bool>, tokio_postgres::Error> {
    let mut stored = first_of_each(rows);
    let firsts = chosen(rows, &stored);
    match manner {
        Manner::Quick => copy_in(change, opened.log, &firsts).await?,
        Manner::Careful => {
            let held = look_for(change, &firsts).await?;
            keep_new(&mut stored, |first| !held.contains(&first));
            copy_in(change, opened.log, &chosen(rows, &stored)).await?;
        }
        Manner::Patient => {
            let inserted = insert_missing(change, opened.log, &firsts).await?;
            keep_new(&mut stored, |first| inserted.contains(&firsts[first].position));
        }
    }
    page_counts::add(change, &opened.hasher, &chosen(rows, &stored), manner).await?;
    Ok(stored)
}

/// Which rows are the first of their events.
fn first_of_each(rows: &[&Row<'_>]) -> Vec<bool> {
    let mut seen = HashSet::with_capacity(rows.len());
    let identities = rows
        .iter()
        .map(|Row { event, .. }| (event.project.as_str(), event.user.as_str(), event.id.as_str()));
    identities.map(|identity| seen.insert(identity)).collect()
}

fn chosen<'a>(rows: &[&'a Row<'a>], are_chosen: &[bool]) -> Vec<&'a Row<'a>> {
    rows.iter().zip(are_chosen).filter(|(_, is_chosen)| **is_chosen).map(|(row, _)| *row).collect()
}

/// Leaves those chosen that are new, given their numbers among the chosen ones.
fn keep_new(are_chosen: &mut [bool], is_new: impl Fn(usize) -> bool) {
    let chosen = are_chosen.iter_mut().filter(|is_chosen| **is_chosen);
    chosen.enumerate().for_each(|(number, is_chosen)| *is_chosen = is_new(number));
}

/// The numbers of the rows whose events are there.
async fn look_for(
    change: &Transaction<'_>,
    rows: &[&Row<'_>],
) -> Result<HashSet<usize>, tokio_postgres::Error> {
    let look = "SELECT number FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) \
                WITH ORDINALITY AS came (project, user_hash, user_id, event_id, number) \
                JOIN gristmill.events USING (project, user_hash, user_id, event_id)";
    let values: [(&(dyn ToSql + Sync), Type); 4] = [
        (&column(rows, |row| row.event.project.as_str()), Type::TEXT_ARRAY),
        (&column(rows, |row| user_hash(row.event.user.as_str())), Type::INT8_ARRAY),
        (&column(rows, |row| row.event.user.as_str()), Type::TEXT_ARRAY),
        (&column(rows, |row| row.event.id.as_str()), Type::TEXT_ARRAY),
    ];
    let found = change.query_typed(look, &values).await?;
    found.iter().map(|row| Ok(row.try_get::<_, i64>(0)? as usize - 1)).collect()
}

/// Copies rows into the table of events: with numbers in the order in which they came, and in the order of
/// their keys, so that two transactions with the same events do not lock each other out.
async fn copy_in(
    change: &Transaction<'_>,
    log: i32,
    rows: &[&Row<'_>],
) -> Result<(), tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let numbers = draw_numbers(change, rows.len()).await?;
    let numbered = in_order_of_keys(numbers.into_iter().zip(rows.iter().copied()));
    let copy = "COPY gristmill.events (id, project, user_hash, user_id, time_us, log, log_partition, \
                log_offset, received_us, event_id, session_id, event_type, source, page_url, \
                origin, properties) FROM STDIN (FORMAT binary)";
    let types = [
        Type::INT8,
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
    for (number, hash, Row { position, event }) in numbered {
        let values: [&(dyn ToSql + Sync); 16] = [
            &number,
            &event.project.as_str(),
            &hash,
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
    writer.finish().await.map(drop)
}

/// Rows with a number each, and the hashes of their users between.
fn in_order_of_keys<'r, 'e>(
    numbered: impl Iterator<Item = (i64, &'r Row<'e>)>,
) -> Vec<(i64, i64, &'r Row<'e>)> {
    fn key<'r>(hash: i64, Row { event, .. }: &'r Row<'_>) -> (&'r str, i64, &'r str, &'r str) {
        (event.project.as_str(), hash, event.user.as_str(), event.id.as_str())
    }
    let with_hash =
        |(number, row): (i64, &'r Row<'e>)| (number, user_hash(row.event.user.as_str()), row);
    let mut rows: Vec<_> = numbered.map(with_hash).collect();
    rows.sort_unstable_by(|(_, a, of_a), (_, b, of_b)| key(*a, of_a).cmp(&key(*b, of_b)));
    rows
}

/// So many new numbers, in ascending order.
async fn draw_numbers(
    change: &Transaction<'_>,
    count: usize,
) -> Result<Vec<i64>, tokio_postgres::Error> {
    let draw = "SELECT array_agg(nextval(name)) \
                FROM CAST(pg_get_serial_sequence('gristmill.events', 'id') AS regclass) AS name, \
                    generate_series(1, $1)";
    let drawn = change.query_typed_one(draw, &[(&(count as i64), Type::INT8)]).await?;
    let mut numbers: Vec<i64> = drawn.try_get(0)?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// As copies are: numbers in the order in which events came, keys in theirs.
const INSERT: &str = "
    INSERT INTO gristmill.events (id, log, project, user_hash, user_id, event_id, session_id,
        event_type, source, page_url, time_us, received_us, log_partition, log_offset, origin,
        properties)
    OVERRIDING SYSTEM VALUE
    SELECT * FROM (
        SELECT nextval((SELECT pg_get_serial_sequence('gristmill.events', 'id')::regclass)), $1::int, *
        FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::int[], $13::bigint[],
            $14::smallint[], $15::json[]) AS came (project, user_hash, user_id, event_id)
    ) AS numbered
    ORDER BY project, user_hash, user_id, event_id
    ON CONFLICT (project, user_hash, user_id, event_id) DO NOTHING
    RETURNING log_partition, log_offset";

/// Inserts the rows whose events are not there, and gives the positions of those.
async fn insert_missing(
    change: &Transaction<'_>,
    log: i32,
    rows: &[&Row<'_>],
) -> Result<HashSet<Position>, tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let hashes = column(rows, |row| user_hash(row.event.user.as_str()));
    let sessions = column(rows, |row| row.event.session.as_ref().map(SessionId::as_str));
    let partitions = column(rows, |row| row.position.partition.0 as i32);
    let properties = column(rows, |row| JsonText(&row.event.properties));
    let values: [(&(dyn ToSql + Sync), Type); 15] = [
        (&log, Type::INT4),
        (&column(rows, |row| row.event.project.as_str()), Type::TEXT_ARRAY),
        (&hashes, Type::INT8_ARRAY),
        (&column(rows, |row| row.event.user.as_str()), Type::TEXT_ARRAY),
        (&column(rows, |row| row.event.id.as_str()), Type::TEXT_ARRAY),
        (&sessions, Type::TEXT_ARRAY),
        (&column(rows, |row| row.event.event_type.as_ref()), Type::TEXT_ARRAY),
        (&column(rows, |row| row.event.source.as_ref()), Type::TEXT_ARRAY),
        (&column(rows, |row| row.event.page_url.as_ref()), Type::TEXT_ARRAY),
        (&column(rows, |row| row.event.time.0), Type::INT8_ARRAY),
        (&column(rows, |row| row.event.received.0), Type::INT8_ARRAY),
        (&partitions, Type::INT4_ARRAY),
        (&column(rows, |row| row.position.offset as i64), Type::INT8_ARRAY),
        (&column(rows, |row| i16::from(row.event.origin.number())), Type::INT2_ARRAY),
        (&properties, Type::JSON_ARRAY),
    ];
    let inserted = change.query_typed(INSERT, &values).await?;
    let position = |row: &tokio_postgres::Row| {
        let partition = Partition(row.try_get::<_, i32>(0)? as u32);
        Ok(Position { partition, offset: row.try_get::<_, i64>(1)? as u64 })
    };
    inserted.iter().map(position).collect()
}

/// Something of each row.
fn column<'a, T>(rows: &[&'a Row<'_>], of: impl Fn(&'a Row<'_>) -> T) -> Vec<T> {
    rows.iter().map(|row| of(row)).collect()
}
