//! `GET /v1/analytics/top`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{Field, Selection, TopAnswer, TopQuery, limits};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::csv::Table;
use super::description::Description;
use super::question::{Format, field_term, format, limit, limit_term, selection};
use crate::app::App;
use crate::json;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// How many values are given if nobody says.
const VALUES: usize = 10;

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    values: Vec<ValueBody<'a>>,
}

#[derive(JsonSchema, Serialize)]
struct ValueBody<'a> {
    value: &'a str,
    count: u64,
    unique_users: u64,
}

/// What the document says of [`get`].
pub(crate) fn describe() -> Description {
    let terms = [
        field_term("property", "whose values").required(),
        limit_term("how many values are given", VALUES, limits::TOP_VALUES),
    ];
    let summary = "The most frequent values of a field or property";
    Description::of::<AnswerBody<'_>>("Top", summary, terms)
}

/// The most frequent values of a field or property.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::of(request.uri())?;
    let terms = Terms::take(&mut parameters)?;
    let selection = selection(&app, request.extensions(), &mut parameters).await?;
    parameters.finish()?;
    let answer = app.services.query.top(terms.question(selection)).await?;
    if format(request.headers()) == Format::Csv {
        return Ok(table(&answer));
    }
    let values = answer.values.iter().map(|value| ValueBody {
        value: &value.value,
        count: value.count,
        unique_users: value.unique_users,
    });
    Ok(json::respond(StatusCode::OK, &AnswerBody { values: values.collect() }))
}

/// What a question says beside which events it is about.
pub(crate) struct Terms {
    field: Field,
    limit: usize,
}

impl Terms {
    pub(crate) fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let property = parameters.take("property")?.filter(|name| !name.is_empty());
        let property = property.ok_or_else(|| Problem::argument("`property` is missing"))?;
        let limit = limit(parameters, VALUES, limits::TOP_VALUES)?;
        Ok(Self { field: Field::from_name(&property), limit })
    }

    /// The question about a selection.
    pub(crate) fn question(self, selection: Selection) -> TopQuery {
        let Self { field, limit } = self;
        TopQuery { selection, field, limit }
    }
}

fn table(answer: &TopAnswer) -> Response {
    let mut table = Table::new(&["value", "count", "unique_users"]);
    for value in &answer.values {
        table.text(&value.value);
        table.number(value.count);
        table.number(value.unique_users);
        table.end_row();
    }
    table.into_response()
}
