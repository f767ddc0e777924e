//! The document as a client reads it, and values held against its schemas.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::support::Api;

/// The document that a server answers.
pub(super) struct Document(pub(super) Value);

/// One method of a path.
#[derive(Clone)]
pub(super) struct Operation<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) value: &'a Value,
}

impl Document {
    pub(super) async fn of(api: &Api) -> Self {
        let answer = api.get("/v1/openapi.json").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (200, "application/json")
        );
        Self(answer.json())
    }

    pub(super) fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let paths = members(&self.0["paths"]);
        paths.flat_map(|(path, methods)| {
            members(methods).map(move |(method, value)| Operation { method, path, value })
        })
    }

    pub(super) fn operation(&self, id: &str) -> Operation<'_> {
        let operation = self.operations().find(|operation| operation.id() == id);
        operation.unwrap_or_else(|| panic!("no operation {id}"))
    }

    /// What a reference leads to, or the value itself if it is none.
    pub(super) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(name) = value["$ref"].as_str() else { return value };
        let pointer = name.strip_prefix('#').unwrap_or_else(|| panic!("{name} leads elsewhere"));
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{name} leads nowhere"))
    }

    /// What is wrong with a value of a schema, if anything. A member that the schema does not name
    /// is wrong unless it says otherwise, and so is a word of a schema that means nothing here:
    /// whatever is described is checked.
    pub(super) fn fault(&self, schema: &Value, value: &Value) -> Option<String> {
        let schema = self.resolve(schema);
        if *schema == Value::Bool(true) {
            return None;
        }
        members(schema).find_map(|(word, bound)| self.fault_of(schema, word, bound, value))
    }

    fn fault_of(&self, schema: &Value, word: &str, bound: &Value, value: &Value) -> Option<String> {
        let length = value.as_array().map(Vec::len);
        let is_right = match word {
            "type" => one_or_more(bound).any(|kind| is_of(kind, value)),
            "enum" => one_or_more(bound).any(|one| one == value),
            "required" => {
                let mut names = one_or_more(bound).filter_map(Value::as_str);
                names.all(|name| value.as_object().is_none_or(|value| value.contains_key(name)))
            }
            "minimum" => value.as_f64().is_none_or(|value| value >= bound.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|value| value <= bound.as_f64().unwrap()),
            "minItems" => length.is_none_or(|length| length as u64 >= bound.as_u64().unwrap()),
            "maxItems" => length.is_none_or(|length| length as u64 <= bound.as_u64().unwrap()),
            "maxLength" => {
                let length = value.as_str().map(|text| text.chars().count() as u64);
                length.is_none_or(|length| length <= bound.as_u64().unwrap())
            }
            "anyOf" => one_or_more(bound).any(|schema| self.fault(schema, value).is_none()),
            "allOf" => return one_or_more(bound).find_map(|schema| self.fault(schema, value)),
            "items" => {
                let mut items = value.as_array().into_iter().flatten();
                return items.find_map(|item| self.fault(bound, item));
            }
            "properties" => return self.fault_of_member(schema, value),
            "additionalProperties" if schema["properties"].is_null() => {
                return members(value).find_map(|(_, value)| self.fault(bound, value));
            }
            "additionalProperties" | "description" | "default" => true,
            "format" if bound == "date-time" => value.as_str().is_none_or(is_time),
            "format" => ["double", "uint", "uint64"].contains(&bound.as_str().unwrap()),
            _ => panic!("the document says {word}, which no test understands"),
        };
        (!is_right).then(|| format!("{value} is not of {word} {bound}"))
    }

    fn fault_of_member(&self, schema: &Value, value: &Value) -> Option<String> {
        members(value).find_map(|(name, value)| {
            let fault = match schema["properties"].get(name) {
                Some(schema) => self.fault(schema, value)?,
                None if schema["additionalProperties"] == true => return None,
                None => "is not described".to_owned(),
            };
            Some(format!("{name}: {fault}"))
        })
    }
}

impl<'a> Operation<'a> {
    pub(super) fn id(&self) -> &'a str {
        self.value["operationId"].as_str().unwrap()
    }

    /// The schema of an answer.
    pub(super) fn answer(&self, document: &'a Document, status: u16, media: &str) -> &'a Value {
        let answer = document.resolve(&self.value["responses"][status.to_string()]);
        let schema = &answer["content"][media]["schema"];
        assert!(!schema.is_null(), "{} has no answer {status} as {media}", self.id());
        schema
    }

    /// The media types of its answer.
    pub(super) fn media(&self) -> impl Iterator<Item = &'a String> {
        members(&self.value["responses"]["200"]["content"]).map(|(media, _)| media)
    }

    pub(super) fn parameters(&self, document: &'a Document) -> impl Iterator<Item = &'a Value> {
        one_or_more(&self.value["parameters"]).map(|parameter| document.resolve(parameter))
    }

    /// The schema of its body as JSON.
    pub(super) fn body(&self) -> &'a Value {
        &self.value["requestBody"]["content"]["application/json"]["schema"]
    }
}

/// The members of an object; nothing of any other value.
pub(super) fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// The values of an array, or the value if it is none; nothing of `null`.
pub(super) fn one_or_more(value: &Value) -> impl Iterator<Item = &Value> {
    let one = Some(value).filter(|value| !value.is_array() && !value.is_null());
    value.as_array().into_iter().flatten().chain(one)
}

/// The names of all references in a value.
pub(super) fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    found.extend(value["$ref"].as_str());
    members(value).for_each(|(_, value)| references(value, found));
    value.as_array().into_iter().flatten().for_each(|value| references(value, found));
}

/// Whether a text looks like `2026-01-05T09:30:00Z`, with or without a fraction.
fn is_time(text: &str) -> bool {
    let shape = text.replace(|c: char| c.is_ascii_digit(), "0");
    shape.starts_with("0000-00-00T00:00:00") && shape.ends_with('Z')
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|value| value.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        kind => panic!("no type is called {kind}"),
    }
}
