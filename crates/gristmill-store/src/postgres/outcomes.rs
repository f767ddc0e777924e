//! What became of records, as the tables tell it: the truth also where another process committed.

use std::ops::Range;

use gristmill_model::{Outcome, Partition};
use tokio_postgres::Client;

use super::session::{column, unavailable};
use crate::StoreError;

/// In one statement, so that all of it is of one moment. A record that was taken in, and lies neither
/// here nor there, was a duplicate.
const QUESTION: &str = "
    SELECT next, 'next' FROM gristmill.positions WHERE log = $1 AND partition = $2
    UNION ALL
    SELECT log_offset, 'stored' FROM gristmill.events
    WHERE log = $1 AND log_partition = $2 AND log_offset >= $3 AND log_offset < $4
    UNION ALL
    SELECT log_offset, 'quarantined' FROM gristmill.quarantine
    WHERE log = $1 AND log_partition = $2 AND log_offset >= $3 AND log_offset < $4";

/// The outcomes of some records of a partition; `None` for those that were not taken in.
pub(super) async fn read(
    client: &Client,
    log: i32,
    partition: Partition,
    offsets: Range<u64>,
) -> Result<Vec<Option<Outcome>>, StoreError> {
    let (first, end) = (offsets.start as i64, offsets.end as i64);
    let values = [&log as _, &(partition.0 as i32) as _, &first as _, &end as _];
    let rows = client.query(QUESTION, &values).await.map_err(|error| unavailable(&error))?;
    let mut told: Vec<Option<Outcome>> = offsets.map(|_| None).collect();
    let mut taken = 0;
    for row in &rows {
        let place = column::<i64>(row, 0)? - first;
        let outcome = match column(row, 1)? {
            "stored" => Outcome::Stored,
            "quarantined" => Outcome::Quarantined,
            _ => {
                taken = usize::try_from(place).unwrap_or_default();
                continue;
            }
        };
        if let Some(known) = usize::try_from(place).ok().and_then(|place| told.get_mut(place)) {
            *known = Some(outcome);
        }
    }
    for outcome in told.iter_mut().take(taken) {
        outcome.get_or_insert(Outcome::Duplicate);
    }
    Ok(told)
}
