//! Migrations: how the tables come to be what this version needs.
//!
//! All that are missing are applied in one transaction, under a lock that the replicas that start
//! together wait for. What is applied is never changed; a change is a further migration.

use tokio_postgres::Client;

use super::session::{column, unavailable};
use crate::StoreError;

/// In the order of their versions, which count from 1.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
];

/// The key of the lock: `gristmil` in ASCII.
const LOCK: i64 = 0x6772_6973_746d_696c;

/// The oldest server that has all that is used here.
const OLDEST_SERVER: i32 = 130_000;

/// Has what older systems read come to lie in the schema where they look first. A user called
/// `gristmill` would look into ours.
const PLACE: &str = "SELECT set_config('search_path', quote_ident(name), true) FROM (
    SELECT name FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, place)
    WHERE name <> 'gristmill' ORDER BY place LIMIT 1
) AS first";

/// Brings the tables up to date, and makes sure that the server is one that can hold them.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    check_server(client).await?;
    apply(client).await
}

async fn check_server(client: &Client) -> Result<(), StoreError> {
    let question = "SELECT current_setting('server_version_num')::int, \
                    current_setting('server_encoding')";
    let row = client.query_one(question, &[]).await.map_err(|error| unavailable(&error))?;
    let (version, encoding): (i32, &str) = (column(&row, 0)?, column(&row, 1)?);
    if version < OLDEST_SERVER {
        let (found, least) = (version / 10_000, OLDEST_SERVER / 10_000);
        let text = format!("PostgreSQL is version {found}, {least} or newer is needed");
        return Err(StoreError::Damaged(text));
    }
    if encoding != "UTF8" {
        let text =
            format!("the database's encoding is {encoding}: create one with ENCODING 'UTF8'");
        return Err(StoreError::Damaged(text));
    }
    Ok(())
}

async fn apply(client: &mut Client) -> Result<(), StoreError> {
    let failed = |error| unavailable(&error);
    let change = client.transaction().await.map_err(failed)?;
    // Indexes take as long as they take, whatever the user's limits are.
    let patience = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0";
    change.batch_execute(patience).await.map_err(failed)?;
    change.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(failed)?;
    let schema = "SELECT to_regclass('gristmill.migrations') IS NOT NULL";
    let is_there: bool = column(&change.query_one(schema, &[]).await.map_err(failed)?, 0)?;
    if !is_there {
        let create = "CREATE SCHEMA IF NOT EXISTS gristmill; \
                      CREATE TABLE gristmill.migrations \
                      (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())";
        change.batch_execute(create).await.map_err(failed)?;
    }
    let found = change.query_opt(PLACE, &[]).await.map_err(failed)?;
    if found.is_none() {
        let text = "the user's search_path names no schema that exists, so there is none for views";
        return Err(StoreError::Damaged(text.to_owned()));
    }
    let newest = "SELECT coalesce(max(version), 0) FROM gristmill.migrations";
    let applied: i32 = column(&change.query_one(newest, &[]).await.map_err(failed)?, 0)?;
    let known = MIGRATIONS.len() as i32;
    if applied > known {
        let text = format!(
            "the tables are of version {applied}, this program knows {known}: run a newer one"
        );
        return Err(StoreError::Damaged(text));
    }
    for (version, migration) in (1..).zip(MIGRATIONS).skip(applied as usize) {
        change.batch_execute(migration).await.map_err(failed)?;
        let note = "INSERT INTO gristmill.migrations (version) VALUES ($1)";
        change.execute(note, &[&version]).await.map_err(failed)?;
        tracing::info!(version, "the tables in PostgreSQL were brought up to date");
    }
    change.commit().await.map_err(failed)
}
