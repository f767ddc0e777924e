//! Events that PostgreSQL does not take: which, and why.

use tokio_postgres::Client;

use super::Opened;
use super::commit::Manner;
use super::rows::store;
use super::session::{text_of, unavailable};
use crate::{Row, StoreError, Unacceptable};

/// Refuses the rows with a NUL character, which no text of PostgreSQL can hold. All are told at
/// once, for this is the one thing that a client can easily send.
pub(super) fn check_texts(rows: &[Row<'_>]) -> Result<(), StoreError> {
    let unfit: Vec<_> = rows.iter().filter_map(unfit).collect();
    if unfit.is_empty() { Ok(()) } else { Err(StoreError::Unacceptable(unfit)) }
}

fn unfit(row: &Row<'_>) -> Option<Unacceptable> {
    let event = &row.event;
    let texts = [
        ("project", event.project.as_str()),
        ("id", event.id.as_str()),
        ("user_id", event.user.as_str()),
        ("session_id", event.session.as_ref().map_or("", |session| session.as_str())),
        ("event_type", &event.event_type),
        ("source", &event.source),
        ("page_url", &event.page_url),
        ("properties", &event.properties),
    ];
    let (field, _) = texts.into_iter().find(|(_, text)| text.contains('\0'))?;
    let reason = format!("{field} has a NUL character, which PostgreSQL cannot hold");
    Some(Unacceptable { position: row.position, reason })
}

/// What a statement means that failed on its data: one of the rows is at fault, if it can be found.
pub(super) async fn explain(
    client: &mut Client,
    opened: &Opened,
    rows: &[&Row<'_>],
    error: &tokio_postgres::Error,
) -> StoreError {
    match find(client, opened, rows).await {
        Ok(Some(refused)) => StoreError::Unacceptable(vec![refused]),
        Ok(None) => unavailable(error),
        Err(error) => error,
    }
}

/// Whether it is a data exception or a limit of the program, by the class of the code.
pub(super) fn blames_data(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| ["22", "54"].contains(&&code.code()[..2]))
}

/// Finds a row that the server refuses, by trying halves without keeping any.
async fn find(
    client: &mut Client,
    opened: &Opened,
    mut rows: &[&Row<'_>],
) -> Result<Option<Unacceptable>, StoreError> {
    let Some(mut reason) = refused(client, opened, rows).await? else { return Ok(None) };
    while rows.len() > 1 {
        let (first, second) = rows.split_at(rows.len() / 2);
        rows = match refused(client, opened, first).await? {
            Some(why) => {
                reason = why;
                first
            }
            None => second,
        };
    }
    if let Some(why) = refused(client, opened, rows).await? {
        reason = why;
    }
    Ok(rows.first().map(|row| Unacceptable { position: row.position, reason }))
}

/// Why the server does not take these rows, if it does not.
async fn refused(
    client: &mut Client,
    opened: &Opened,
    rows: &[&Row<'_>],
) -> Result<Option<String>, StoreError> {
    let trial = client.transaction().await.map_err(|error| unavailable(&error))?;
    let tried = store(&trial, opened, rows, Manner::Patient).await;
    trial.rollback().await.map_err(|error| unavailable(&error))?;
    match tried {
        Ok(_) => Ok(None),
        Err(error) if blames_data(&error) => Ok(Some(text_of(&error))),
        Err(error) => Err(unavailable(&error)),
    }
}
