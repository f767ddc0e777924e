//! What a request may say: values with a name, which are parameters of its target or members of
//! its body.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

/// A value with its name, its JSON Schema and whether a request must have it.
pub(crate) struct Term {
    name: &'static str,
    schema: Value,
    is_required: bool,
}

impl Term {
    /// A value of a schema.
    pub(crate) fn new(name: &'static str, about: impl Into<String>, mut schema: Value) -> Self {
        schema["description"] = about.into().into();
        Self { name, schema, is_required: false }
    }

    /// A text.
    pub(crate) fn text(name: &'static str, about: impl Into<String>) -> Self {
        Self::new(name, about, json!({"type": "string"}))
    }

    /// A text of a length, in bytes.
    pub(crate) fn text_up_to(name: &'static str, about: &str, most: usize) -> Self {
        // Schemas count characters, of which there are never more than bytes.
        let about = format!("{about}; at most {most} bytes");
        Self::new(name, about, json!({"type": "string", "maxLength": most}))
    }

    /// `true` or `false`.
    pub(crate) fn flag(name: &'static str, about: impl Into<String>) -> Self {
        Self::new(name, about, json!({"type": "boolean"}))
    }

    /// A whole number within bounds.
    pub(crate) fn whole(
        name: &'static str,
        about: impl Into<String>,
        bounds: RangeInclusive<usize>,
    ) -> Self {
        let (least, most) = (bounds.start(), bounds.end());
        let schema = json!({"type": "integer", "minimum": least, "maximum": most});
        Self::new(name, about, schema)
    }

    /// A name of a table of choices.
    pub(crate) fn choice<T>(
        name: &'static str,
        about: impl Into<String>,
        choices: &[(&'static str, T)],
    ) -> Self {
        Self::name(name, about, choices.iter().map(|(name, _)| *name))
    }

    /// One of some names.
    pub(crate) fn name(
        name: &'static str,
        about: impl Into<String>,
        names: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        Self::new(name, about, json!({"type": "string", "enum": names}))
    }

    /// An array of so many values of a schema.
    pub(crate) fn list(
        name: &'static str,
        about: impl Into<String>,
        items: &Value,
        counts: RangeInclusive<usize>,
    ) -> Self {
        let (least, most) = (counts.start(), counts.end());
        let schema = json!({"type": "array", "items": items, "minItems": least, "maxItems": most});
        Self::new(name, about, schema)
    }

    /// What is meant if it is missing.
    pub(crate) fn by_default(mut self, value: impl Into<Value>) -> Self {
        self.schema["default"] = value.into();
        self
    }

    /// A request must have it.
    pub(crate) fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// A parameter of the target.
    pub(crate) fn in_target(self) -> Parameter {
        self.parameter("query", |schema| ("schema", schema))
    }

    /// A part of the path.
    pub(crate) fn in_path(self) -> Parameter {
        self.required().parameter("path", |schema| ("schema", schema))
    }

    /// A header.
    pub(crate) fn in_head(self) -> Parameter {
        self.parameter("header", |schema| ("schema", schema))
    }

    /// A parameter of the target that is JSON text.
    pub(crate) fn in_target_as_json(self) -> Parameter {
        self.parameter("query", |schema| {
            ("content", json!({"application/json": {"schema": schema}}))
        })
    }

    /// Parameters of the target, `NAME[KEY]=VALUE` for each member of an object.
    pub(crate) fn in_target_as_map(self) -> Parameter {
        let mut parameter = self.in_target();
        parameter.value["style"] = "deepObject".into();
        parameter
    }

    /// A parameter that stands somewhere and has its schema in some form.
    fn parameter(mut self, place: &str, form: fn(Value) -> (&'static str, Value)) -> Parameter {
        // What a value is stands beside its schema here, and within it in a body.
        let about = self.schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut value = json!({"name": self.name, "in": place, "description": about});
        if self.is_required {
            value["required"] = true.into();
        }
        let (key, schema) = form(self.schema);
        value[key] = schema;
        Parameter { name: self.name, value, is_shared: false }
    }
}

/// A parameter as the document has it.
pub(crate) struct Parameter {
    pub(super) name: &'static str,
    pub(super) value: Value,
    pub(super) is_shared: bool,
}

impl Parameter {
    /// The same, told once for all operations that have it.
    pub(crate) fn shared(mut self) -> Self {
        self.is_shared = true;
        self
    }
}

/// An object that has these members and no others.
pub(crate) fn object(terms: impl IntoIterator<Item = Term>) -> Value {
    let mut object = open_object(terms);
    object["additionalProperties"] = false.into();
    object
}

/// An object that has these members, and maybe others.
pub(crate) fn open_object(terms: impl IntoIterator<Item = Term>) -> Value {
    let (mut members, mut required) = (Map::new(), Vec::new());
    for term in terms {
        if term.is_required {
            required.push(term.name);
        }
        members.insert(term.name.to_owned(), term.schema);
    }
    let mut object = json!({"type": "object", "properties": members, "additionalProperties": true});
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

/// One value of a schema or an array of them.
pub(crate) fn one_or_more(schema: &Value) -> Value {
    json!({"anyOf": [schema, {"type": "array", "items": schema}]})
}

/// The schema of a name.
pub(crate) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}
