//! What the document says of questions, and what it says of each of them.

use gristmill_model::limits;
use http::StatusCode;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::live;
use super::posted::select_terms;
use super::question::{at_least_term, selection_parameters};
use crate::body;
use crate::openapi::{Answer, Operation, Parameter, Tag, Term, object, reference};

/// What the document says of a question.
pub(crate) struct Description {
    /// What its schemas are called by.
    name: &'static str,
    summary: &'static str,
    /// What it takes beside what all questions take.
    terms: Vec<Term>,
    path: Option<Parameter>,
    answer: Answer,
}

impl Description {
    /// A question with the type of its answer.
    pub(super) fn of<T: JsonSchema>(
        name: &'static str,
        summary: &'static str,
        terms: impl IntoIterator<Item = Term>,
    ) -> Self {
        let about = "The answer. Asked live, each revision of it is the `data` of an event.";
        let events = json!({
            "type": "string",
            "description": "server-sent events: `revision` with the answer as JSON and a position \
                as its id, or at last `problem` with `status`, `code` and `detail`",
        });
        let answer = Answer::json::<T>(&format!("{name}Answer"), about)
            .or_csv()
            .or("text/event-stream", &events)
            .with_header("server-timing");
        Self { name, summary, terms: Vec::from_iter(terms), path: None, answer }
    }

    /// The same with a part of the path.
    pub(super) fn at(self, path: Term) -> Self {
        Self { path: Some(path.in_path()), ..self }
    }

    /// The same, whose tables are told with a header.
    pub(super) fn with_header(self, name: &'static str) -> Self {
        Self { answer: self.answer.with_header(name), ..self }
    }

    /// The question as parameters.
    pub(crate) fn asked(self) -> Operation {
        let own = self.terms.into_iter().map(Term::in_target);
        operation(self.summary, self.answer).takes(self.path).takes(own).takes(of_all())
    }

    /// The question as a body.
    pub(crate) fn posted(self) -> Operation {
        let name = format!("{}Question", self.name);
        operation(self.summary, self.answer)
            .reads(&name, question(self.terms))
            .takes([body::describe_encoding()])
            .takes(of_all())
    }

    /// The question as a parameter that is a body.
    pub(crate) fn in_target(self) -> Operation {
        let name = format!("{}Question", self.name);
        let most = limits::URI_BYTES;
        let about = format!("the question, as far as it fits into a target of {most} bytes");
        let parameter = Term::new("question", about, reference(&name)).required();
        operation(self.summary, self.answer)
            .with_schema(&name, question(self.terms))
            .takes([parameter.in_target_as_json()])
            .takes(of_all())
    }
}

fn operation(summary: &'static str, answer: Answer) -> Operation {
    Operation::new(Tag::Analytics, summary).answers(StatusCode::OK, answer)
}

/// The parameters that every question takes, in whatever form.
fn of_all() -> impl Iterator<Item = Parameter> {
    let parameters = selection_parameters().into_iter().chain(live::parameters());
    parameters.map(Parameter::shared)
}

/// The object that is a question.
fn question(terms: Vec<Term>) -> Value {
    object(terms.into_iter().chain(select_terms()).chain([at_least_term()]))
}
