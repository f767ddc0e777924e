//! What the document says of one method of a path.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_model::ErrorCode;
use http::{Method, StatusCode};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::term::{Parameter, reference};

/// What an operation is about.
#[derive(Clone, Copy)]
pub(crate) enum Tag {
    Events,
    Analytics,
    Cohorts,
    Keys,
    Operations,
}

impl Tag {
    /// Every tag.
    pub(super) const ALL: [Self; 5] =
        [Self::Events, Self::Analytics, Self::Cohorts, Self::Keys, Self::Operations];

    /// Its name, and what it is about.
    pub(super) fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Events => ("events", "Post events."),
            Self::Analytics => ("analytics", "Ask questions."),
            Self::Cohorts => ("cohorts", "Saved sets of users by what they did."),
            Self::Keys => ("keys", "API keys, with which projects are made."),
            Self::Operations => ("operations", "What operators and their machines ask."),
        }
    }
}

/// What may go wrong with every request.
const ANY: [ErrorCode; 10] = [
    ErrorCode::InvalidArgument,
    ErrorCode::Unauthenticated,
    ErrorCode::PermissionDenied,
    ErrorCode::UriTooLong,
    ErrorCode::HeadersTooLarge,
    ErrorCode::QuotaExceeded,
    ErrorCode::Overloaded,
    ErrorCode::NotReady,
    ErrorCode::DeadlineExceeded,
    ErrorCode::Internal,
];
/// What may go wrong with a body.
pub(crate) const OF_BODY: [ErrorCode; 4] = [
    ErrorCode::InvalidBody,
    ErrorCode::RequestTimeout,
    ErrorCode::TooLarge,
    ErrorCode::UnsupportedMedia,
];

/// What every answer carries.
const EVERYWHERE: &str = "x-request-id";

/// One method of a path.
pub(crate) struct Operation {
    tag: Tag,
    summary: &'static str,
    parameters: Vec<Parameter>,
    body: Option<Value>,
    answers: BTreeMap<u16, Answer>,
    errors: BTreeSet<u16>,
    schemas: BTreeMap<String, Value>,
    /// Its name, where the path gives none of its own.
    id: Option<&'static str>,
}

/// What operations share, by name.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) schemas: BTreeMap<String, Value>,
    pub(super) parameters: BTreeMap<String, Value>,
    /// The statuses of problems.
    pub(super) problems: BTreeSet<u16>,
}

impl Operation {
    /// An operation that takes nothing.
    pub(crate) fn new(tag: Tag, summary: &'static str) -> Self {
        Self {
            tag,
            summary,
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            errors: ANY.map(ErrorCode::status).into(),
            schemas: BTreeMap::new(),
            id: None,
        }
    }

    /// The same under another name than that of its path.
    pub(crate) fn called(self, id: &'static str) -> Self {
        Self { id: Some(id), ..self }
    }

    /// The same with more parameters.
    pub(crate) fn takes(mut self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// The same with a body, whose schema stands under a name in the document.
    pub(crate) fn reads(self, name: &str, schema: Value) -> Self {
        let body = json!({"application/json": {"schema": reference(name)}});
        self.with_schema(name, schema).reads_any(&body)
    }

    /// The same with a body of one of several media types, each with its schema.
    pub(crate) fn reads_any(mut self, content: &Value) -> Self {
        self.body = Some(json!({"required": true, "content": content}));
        self.fails_with(&OF_BODY)
    }

    /// The same with a schema that stands under a name in the document.
    pub(crate) fn with_schema(mut self, name: &str, schema: Value) -> Self {
        self.schemas.insert(name.to_owned(), schema);
        self
    }

    /// The same with an answer of a status.
    pub(crate) fn answers(mut self, status: StatusCode, mut answer: Answer) -> Self {
        self.schemas.extend(answer.schema.take());
        self.answers.insert(status.as_u16(), answer);
        self
    }

    /// The same with more errors.
    pub(crate) fn fails_with(mut self, codes: &[ErrorCode]) -> Self {
        self.errors.extend(codes.iter().map(|code| code.status()));
        self
    }

    /// The operation as the document has it. What it shares with others goes into `shared`.
    pub(super) fn into_json(self, method: &Method, path: &str, shared: &mut Shared) -> Value {
        shared.schemas.extend(self.schemas);
        let parameters = self.parameters.into_iter();
        let parameters: Vec<_> =
            parameters.map(|parameter| shared_or_own(parameter, shared)).collect();
        let errors = self.errors.into_iter().filter(|status| !self.answers.contains_key(status));
        let mut responses = Map::new();
        for status in errors {
            shared.problems.insert(status);
            let name = format!("#/components/responses/Problem{status}");
            responses.insert(status.to_string(), json!({"$ref": name}));
        }
        for (status, answer) in self.answers {
            responses.insert(status.to_string(), answer.into_json());
        }
        let (tag, _) = self.tag.told();
        let mut operation = json!({
            "operationId": self.id.map_or_else(|| id(method, path), str::to_owned),
            "tags": [tag],
            "summary": self.summary,
            "responses": responses,
        });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }
}

fn shared_or_own(parameter: Parameter, shared: &mut Shared) -> Value {
    if !parameter.is_shared {
        return parameter.value;
    }
    shared.parameters.insert(parameter.name.to_owned(), parameter.value);
    json!({"$ref": format!("#/components/parameters/{}", parameter.name)})
}

/// The name of an operation: `getAnalyticsUsersById` of `GET /v1/analytics/users/{id}`.
fn id(method: &Method, path: &str) -> String {
    let words = path.split(['/', '.']).filter(|word| !["", "v1"].contains(word));
    let word = |word: &str| match word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
        Some(name) => format!("By{}", capital(name)),
        None => capital(word),
    };
    method.as_str().to_ascii_lowercase() + &words.map(word).collect::<String>()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// An answer of one status.
pub(crate) struct Answer {
    about: &'static str,
    content: Map<String, Value>,
    headers: Vec<&'static str>,
    /// The schema that stands under a name in the document.
    schema: Option<(String, Value)>,
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn empty(about: &'static str) -> Self {
        Self { about, content: Map::new(), headers: vec![EVERYWHERE], schema: None }
    }

    /// A value of a type as JSON. Its schema stands under a name in the document.
    pub(crate) fn json<T: JsonSchema>(name: &str, about: &'static str) -> Self {
        Self::of(name, schema_of::<T>(), about)
    }

    /// A value of a schema as JSON. The schema stands under a name in the document.
    pub(crate) fn of(name: &str, schema: Value, about: &'static str) -> Self {
        let answer = Self::empty(about).or("application/json", &reference(name));
        Self { schema: Some((name.to_owned(), schema)), ..answer }
    }

    /// The same, also as another media type.
    pub(crate) fn or(mut self, media: &str, schema: &Value) -> Self {
        self.content.insert(media.to_owned(), json!({"schema": schema}));
        self
    }

    /// The same, also as a table.
    pub(crate) fn or_csv(self) -> Self {
        let about = "a line of column names, then the rows";
        self.or("text/csv", &json!({"type": "string", "description": about}))
    }

    /// The same with a header.
    pub(crate) fn with_header(mut self, name: &'static str) -> Self {
        self.headers.push(name);
        self
    }

    fn into_json(self) -> Value {
        let header = |name: &&str| (name.to_string(), header_reference(name));
        let headers: Map<_, _> = self.headers.iter().map(header).collect();
        let mut answer = json!({"description": self.about, "headers": headers});
        if !self.content.is_empty() {
            answer["content"] = self.content.into();
        }
        answer
    }
}

fn header_reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// The problem of a status, with the codes that have it.
pub(super) fn problem(status: u16) -> Value {
    let codes = ErrorCode::ALL.into_iter().filter(|code| code.status() == status);
    let names: Vec<_> = codes.clone().map(ErrorCode::name).collect();
    let mut headers = json!({EVERYWHERE: header_reference(EVERYWHERE)});
    if codes.clone().any(ErrorCode::is_retryable) {
        headers["retry-after"] = header_reference("retry-after");
    }
    if codes.clone().any(|code| code == ErrorCode::Unauthenticated) {
        headers["www-authenticate"] = header_reference("www-authenticate");
    }
    if codes.clone().any(|code| code == ErrorCode::QuotaExceeded) {
        headers["ratelimit-policy"] = header_reference("ratelimit-policy");
        headers["ratelimit"] = header_reference("ratelimit");
    }
    json!({
        "description": format!("`{}`", names.join("` or `")),
        "headers": headers,
        "content": {"application/problem+json": {"schema": reference("Problem")}},
    })
}

/// The schema of what a type is written as. What it is made of stands within it, so that types of
/// different modules may have the same name.
fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    schema.into()
}
