//! Documents, each change one statement that names the version it starts from.

use gristmill_model::ProjectId;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::session::{PATIENCE, column, in_time, unavailable};
use crate::document::{Standing, expect_version};
use crate::{Document, DocumentKey, StoreError};

/// Puts a document, and gives its version.
///
/// The bounds are checked a moment before the change. So writers at the same moment may go beyond
/// them by what they write, but none of them overwrites what another has changed.
pub(super) async fn put(
    client: &Client,
    key: &DocumentKey<'_>,
    expected: Option<u64>,
    body: &str,
) -> Result<u64, StoreError> {
    refuse_nul([key.project.as_str(), key.kind, key.id, body])?;
    in_time(PATIENCE, standing(client, key)).await?.allows(key, expected, body)?;
    let (project, kind, id) = (key.project.as_str(), key.kind, key.id);
    let expected_version = expected.map(|version| version as i64);
    let written = match expected_version {
        None => {
            let insert = "INSERT INTO gristmill.documents (project, kind, id, version, body) \
                          VALUES ($1, $2, $3, nextval('gristmill.document_versions'), $4) \
                          ON CONFLICT DO NOTHING RETURNING version";
            changed(client.query_opt(insert, &[&project, &kind, &id, &body])).await
        }
        Some(version) => {
            let update = "UPDATE gristmill.documents \
                          SET version = nextval('gristmill.document_versions'), body = $4 \
                          WHERE project = $1 AND kind = $2 AND id = $3 AND version = $5 \
                          RETURNING version";
            changed(client.query_opt(update, &[&project, &kind, &id, &body, &version])).await
        }
    };
    match written? {
        Some(row) => column::<i64>(&row, 0).map(|version| version as u64),
        None => Err(overtaken(key)),
    }
}

/// Removes a version of a document.
pub(super) async fn remove(
    client: &Client,
    key: &DocumentKey<'_>,
    expected: u64,
) -> Result<(), StoreError> {
    let standing = in_time(PATIENCE, standing(client, key)).await?;
    expect_version(key, standing.version, Some(expected))?;
    let delete = "DELETE FROM gristmill.documents \
                  WHERE project = $1 AND kind = $2 AND id = $3 AND version = $4";
    let (project, version) = (key.project.as_str(), expected as i64);
    let values: [&(dyn ToSql + Sync); 4] = [&project, &key.kind, &key.id, &version];
    match changed(client.execute(delete, &values)).await? {
        0 => Err(overtaken(key)),
        _ => Ok(()),
    }
}

/// A document, if it is there.
pub(super) async fn get(
    client: &Client,
    key: &DocumentKey<'_>,
) -> Result<Option<Document>, StoreError> {
    let question = "SELECT project, kind, id, version, body FROM gristmill.documents \
                    WHERE project = $1 AND kind = $2 AND id = $3";
    let found = client.query_opt(question, &[&key.project.as_str(), &key.kind, &key.id]).await;
    found.map_err(|error| unavailable(&error))?.as_ref().map(document).transpose()
}

/// All documents of a project and kind, by id.
pub(super) async fn of_kind(
    client: &Client,
    project: &ProjectId<'_>,
    kind: &str,
) -> Result<Vec<Document>, StoreError> {
    let question = "SELECT project, kind, id, version, body FROM gristmill.documents \
                    WHERE project = $1 AND kind = $2 ORDER BY id";
    let rows = client.query(question, &[&project.as_str(), &kind]).await;
    rows.map_err(|error| unavailable(&error))?.iter().map(document).collect()
}

async fn standing(client: &Client, key: &DocumentKey<'_>) -> Result<Standing, StoreError> {
    let question = "SELECT \
        max(version) FILTER (WHERE project = $1 AND kind = $2 AND id = $3), \
        count(*) FILTER (WHERE project = $1 AND kind = $2), \
        coalesce(sum(octet_length(body)) \
            FILTER (WHERE (project, kind, id) IS DISTINCT FROM ($1, $2, $3)), 0)::bigint \
        FROM gristmill.documents";
    let row = client.query_one(question, &[&key.project.as_str(), &key.kind, &key.id]).await;
    let row = row.map_err(|error| unavailable(&error))?;
    Ok(Standing {
        version: column::<Option<i64>>(&row, 0)?.map(|version| version as u64),
        alike: column::<i64>(&row, 1)? as usize,
        bytes_of_others: column::<i64>(&row, 2)? as usize,
    })
}

fn document(row: &Row) -> Result<Document, StoreError> {
    Ok(Document {
        project: ProjectId::new(column::<String>(row, 0)?),
        kind: column(row, 1)?,
        id: column(row, 2)?,
        version: column::<i64>(row, 3)? as u64,
        body: column(row, 4)?,
    })
}

/// Waits for a change. One whose answer does not come may have been made, so this is not to be taken
/// for a store that was away.
async fn changed<T>(
    change: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    let change = async { change.await.map_err(|error| unavailable(&error)) };
    in_time(PATIENCE, change).await.map_err(|error| {
        let text = format!("nobody knows whether the document was changed: {error}");
        StoreError::Io(std::io::Error::other(text))
    })
}

fn overtaken(key: &DocumentKey<'_>) -> StoreError {
    let (kind, id) = (key.kind, key.id);
    StoreError::Conflict(format!("the {kind} {id:?} has just been changed by somebody else"))
}

fn refuse_nul(texts: [&str; 4]) -> Result<(), StoreError> {
    if texts.iter().any(|text| text.contains('\0')) {
        let text = "a document with a NUL character cannot be stored in PostgreSQL";
        return Err(StoreError::Refused(text.to_owned()));
    }
    Ok(())
}
