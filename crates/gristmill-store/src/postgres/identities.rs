//! The identities of events, of which each is stored once.

use std::collections::HashSet;
use std::pin::pin;

use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::commit::Manner;
use super::rows::FreshRow;
use super::types::Hash;

/// Keeps the identities and says of each row whether its is new. Of several rows with the same
/// identity the first one is.
pub(super) async fn keep(
    change: &Transaction<'_>,
    fresh: &[FreshRow<'_>],
    manner: Manner,
) -> Result<Vec<bool>, tokio_postgres::Error> {
    let mut hashes: Vec<Hash> = fresh.iter().map(|row| row.identity).collect();
    // In one order, so that two transactions with the same identities do not lock each other out.
    hashes.sort_unstable();
    hashes.dedup();
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    let mut new = match manner {
        Manner::Quick => copy_missing(change, hashes).await?,
        Manner::Patient => insert_missing(change, &hashes).await?,
    };
    Ok(fresh.iter().map(|row| new.remove(&row.identity)).collect())
}

/// Copies in those that nobody can be seen to have kept, and gives them.
async fn copy_missing(
    change: &Transaction<'_>,
    mut hashes: Vec<Hash>,
) -> Result<HashSet<Hash>, tokio_postgres::Error> {
    let look = "SELECT hash FROM gristmill.identities WHERE hash = ANY($1::uuid[])";
    let held = set_of(&change.query_typed(look, &[(&hashes, Type::UUID_ARRAY)]).await?)?;
    hashes.retain(|hash| !held.contains(hash));
    if !hashes.is_empty() {
        let sink = change.copy_in("COPY gristmill.identities FROM STDIN (FORMAT binary)").await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::UUID]));
        for hash in &hashes {
            writer.as_mut().write(&[hash]).await?;
        }
        writer.finish().await?;
    }
    Ok(hashes.into_iter().collect())
}

/// Inserts those that nobody has kept, and gives them.
async fn insert_missing(
    change: &Transaction<'_>,
    hashes: &[Hash],
) -> Result<HashSet<Hash>, tokio_postgres::Error> {
    let insert = "INSERT INTO gristmill.identities SELECT unnest($1::uuid[]) \
                  ON CONFLICT DO NOTHING RETURNING hash";
    set_of(&change.query_typed(insert, &[(&hashes, Type::UUID_ARRAY)]).await?)
}

fn set_of(rows: &[tokio_postgres::Row]) -> Result<HashSet<Hash>, tokio_postgres::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}
