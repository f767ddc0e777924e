//! What can be done with saved cohorts, whichever protocol asks for it.

use gristmill_model::{CohortAnswer, CohortQuery, ErrorCode, ProjectId, limits};
use gristmill_store::{Document, DocumentKey};
use serde_json::value::RawValue;

use super::super::object::Object;
use super::definition::{KIND, Saved, definition_of};
use crate::app::App;
use crate::problem::Problem;

/// How many users are listed if nobody says.
pub(super) const USERS: usize = 100;

/// A saved cohort.
pub(crate) struct Cohort {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Counts its changes.
    pub(crate) version: u64,
    /// As it was sent.
    pub(crate) definition: Box<RawValue>,
}

/// A cohort as a client sends it.
pub(crate) struct Sent {
    id: Option<String>,
    name: Option<String>,
    definition: Box<RawValue>,
}

impl Sent {
    /// Reads a cohort, and makes sure that it can be asked for.
    pub(crate) fn of_body(app: &App, body: &[u8]) -> Result<Self, Problem> {
        let mut body = Object::of_body(body)?;
        let id = body.take_text("id")?;
        let name = body.take_text("name")?;
        let most = limits::COHORT_NAME_BYTES;
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > most) {
            return Err(Problem::argument(format!("`name` must have 1 to {most} bytes")));
        }
        let definition = body.take("definition")?;
        let definition = definition.ok_or_else(|| Problem::argument("`definition` is missing"))?;
        let definition = definition.raw().to_owned();
        body.finish()?;
        app.services.query.check_cohort(&definition_of(&definition, app.now())?)?;
        Ok(Self { id, name, definition })
    }
}

impl Cohort {
    fn of(document: &Document) -> Result<Self, Problem> {
        let Saved { name, definition } = Saved::of(document)?;
        let (id, version) = (document.id.clone(), document.version);
        Ok(Self { id, name, version, definition: definition.to_owned() })
    }

    /// Who belongs now: those behind `after`, as many as `limit` at most.
    pub(crate) async fn members(
        &self,
        app: &App,
        project: ProjectId<'static>,
        after: Option<String>,
        limit: usize,
    ) -> Result<CohortAnswer, Problem> {
        let definition = definition_of(&self.definition, app.now())?;
        let query = CohortQuery { project, definition, after, limit };
        Ok(app.services.query.cohort(query).await?)
    }
}

/// Saves a cohort under an id that is free.
pub(crate) async fn save(
    app: &App,
    project: &ProjectId<'static>,
    sent: Sent,
) -> Result<Cohort, Problem> {
    let name = sent.name.or_else(|| sent.id.clone());
    let name = name.ok_or_else(|| Problem::argument("`id` and `name` are both missing"))?;
    let id = sent.id.unwrap_or_else(|| id_of(&name));
    if id.is_empty() || id.len() > limits::COHORT_ID_BYTES || !id.bytes().all(is_of_id) {
        let most = limits::COHORT_ID_BYTES;
        return Err(Problem::argument(format!(
            "`id` must be 1 to {most} letters, digits, `-`, `_` and `.` of ASCII; without one it \
             follows from `name`"
        )));
    }
    put(app, project, Cohort { id, name, version: 0, definition: sent.definition }, None).await
}

/// Every cohort, by id.
pub(crate) async fn all(app: &App, project: &ProjectId<'static>) -> Result<Vec<Cohort>, Problem> {
    let documents = app.services.store.documents(project, KIND).await?;
    documents.iter().map(Cohort::of).collect()
}

/// One cohort.
pub(crate) async fn find(
    app: &App,
    project: &ProjectId<'static>,
    id: &str,
) -> Result<Cohort, Problem> {
    let document = app.services.store.document(key(project, id)).await?;
    let document = document.ok_or_else(|| {
        let id: String = id.chars().take(100).collect();
        Problem::new(ErrorCode::NotFound, format!("there is no cohort {id:?}"))
    })?;
    Cohort::of(&document)
}

/// Puts another name and definition in the place of a cohort's, if that still has the expected
/// version.
pub(crate) async fn change(
    app: &App,
    project: &ProjectId<'static>,
    cohort: Cohort,
    expected: u64,
    sent: Sent,
) -> Result<Cohort, Problem> {
    if sent.id.is_some_and(|sent| sent != cohort.id) {
        return Err(Problem::argument("`id` must be that of the path, or missing"));
    }
    let name = sent.name.unwrap_or_else(|| cohort.id.clone());
    let changed = Cohort { name, definition: sent.definition, ..cohort };
    put(app, project, changed, Some(expected)).await
}

/// Removes a cohort, if it still has the expected version. Questions that still ask for it fail.
pub(crate) async fn forget(
    app: &App,
    project: &ProjectId<'static>,
    cohort: &Cohort,
    expected: u64,
) -> Result<(), Problem> {
    Ok(app.services.store.remove_document(key(project, &cohort.id), expected).await?)
}

async fn put(
    app: &App,
    project: &ProjectId<'static>,
    cohort: Cohort,
    expected: Option<u64>,
) -> Result<Cohort, Problem> {
    let saved = Saved { name: cohort.name.clone(), definition: &cohort.definition };
    // Its keys are strings, so it has a text.
    let text = serde_json::to_string(&saved).unwrap_or_default();
    let key = key(project, &cohort.id);
    let version = app.services.store.put_document(key, expected, text).await?;
    Ok(Cohort { version, ..cohort })
}

fn key<'a>(project: &ProjectId<'static>, id: &'a str) -> DocumentKey<'a> {
    DocumentKey { project: project.clone(), kind: KIND, id }
}

/// The id that follows from a name: its letters and digits, and a `-` for all between.
fn id_of(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

fn is_of_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}
