//! The JSON form of a filter.
//!
//! `{"field", "op", "value"}` is a condition on a field, `{"cohort": "ID"}` one on the user;
//! `{"and": [...]}`, `{"or": [...]}` and `{"not": {...}}` put filters together. Every error names the place of the mistake.

use gristmill_model::{Comparison, Field, Filter, Test, Value, limits};
use serde_json::{Value as Json, json};

use super::object::{Member, Object, Scalar};
use crate::openapi::{Term, object, one_or_more, reference};
use crate::problem::Problem;

/// The names of the tests that a condition may make.
const OPERATORS: [&str; 14] = [
    "=",
    "!=",
    "in",
    "not_in",
    "<",
    "<=",
    ">",
    ">=",
    "contains",
    "not_contains",
    "starts_with",
    "ends_with",
    "regex",
    "exists",
];

/// The schema of a filter.
pub(crate) fn schema() -> Json {
    let one = || reference("Filter");
    let all = || json!({"type": "array", "items": one()});
    let scalar = json!({"type": ["string", "number", "boolean"]});
    let about = "an array for `in` and `not_in`; may be missing for `exists`";
    let condition = [
        Term::text("field", "a built-in field or a property; dots lead into nested ones")
            .required(),
        Term::name("op", "how the field's value must stand to `value`", OPERATORS).by_default("="),
        Term::new("value", about, one_or_more(&scalar)),
    ];
    let filters = [
        object(condition),
        object([Term::text("cohort", "the id of a cohort that the user belongs to").required()]),
        object([Term::new("and", "all of these hold", all()).required()]),
        object([Term::new("or", "at least one of these holds", all()).required()]),
        object([Term::new("not", "this does not hold", one()).required()]),
    ];
    json!({"description": "Which events are kept.", "anyOf": filters})
}

/// The filter that a member of a body is, if it is given.
pub(super) fn take_filter(body: &mut Object<'_>, name: &str) -> Result<Option<Filter>, Problem> {
    body.take(name)?.map(|member| filter_of(member, 1)).transpose()
}

/// The filter that the text of a parameter is.
pub(crate) fn filter_of_text(name: &str, text: &str) -> Result<Filter, Problem> {
    let value = serde_json::from_str(text).map_err(|error| {
        Problem::argument(format!("`{name}` must be a filter in JSON: {error}"))
    })?;
    filter_of(Member::new(name, value), 1)
}

fn filter_of(member: Member<'_>, depth: usize) -> Result<Filter, Problem> {
    let most = limits::FILTER_DEPTH;
    let name = member.name().to_owned();
    if depth > most {
        let name: String = name.chars().take(100).collect();
        return Err(Problem::argument(format!("`{name}` is nested more than {most} levels deep")));
    }
    let mut object = member.object()?;
    if ["field", "cohort", "and", "or", "not"].iter().filter(|kind| object.has(kind)).count() != 1 {
        let detail = format!("`{name}` must have one of `field`, `cohort`, `and`, `or` and `not`");
        return Err(Problem::argument(detail));
    }
    let all = |filters: Vec<Member<'_>>| -> Result<Vec<Filter>, Problem> {
        filters.into_iter().map(|filter| filter_of(filter, depth + 1)).collect()
    };
    let filter = if let Some(filters) = object.take_array("and")? {
        Filter::All(all(filters)?)
    } else if let Some(filters) = object.take_array("or")? {
        Filter::Any(all(filters)?)
    } else if let Some(filter) = object.take("not")? {
        Filter::Not(Box::new(filter_of(filter, depth + 1)?))
    } else if let Some(id) = object.take_text("cohort")? {
        Filter::cohort(id)
    } else {
        condition(&mut object, &name)?
    };
    object.finish()?;
    Ok(filter)
}

fn condition(object: &mut Object<'_>, name: &str) -> Result<Filter, Problem> {
    let missing = || Problem::argument(format!("`{name}.field` is missing"));
    let field = object.take_text("field")?.ok_or_else(missing)?;
    let field = Field::from_name(&field);
    let op = object.take_text("op")?.unwrap_or_else(|| "=".to_owned());
    let (op, is_negated) = match op.as_str() {
        "!=" => ("=", true),
        "not_in" => ("in", true),
        "not_contains" => ("contains", true),
        op => (op, false),
    };
    let operand = object.take("value")?;
    let place = object.name_of("value");
    let operand = || operand.ok_or_else(|| Problem::argument(format!("`{place}` is missing")));
    let test = match op {
        "exists" => match operand() {
            Err(_) => Test::Exists,
            Ok(member) => match member.scalar()? {
                Scalar::Flag(true) => Test::Exists,
                Scalar::Flag(false) => {
                    return Ok(Filter::Not(Box::new(Filter::Where(field, Test::Exists))));
                }
                _ => return Err(member.must_be("true or false")),
            },
        },
        "=" => Test::In(vec![value(&operand()?)?]),
        "in" => {
            let values = operand()?.array()?;
            let (count, most) = (values.len(), limits::IN_VALUES);
            if count > most {
                let detail = format!("`{place}` has {count} values, more than {most}");
                return Err(Problem::argument(detail));
            }
            Test::In(values.iter().map(value).collect::<Result<_, _>>()?)
        }
        "contains" => Test::Contains(text(&operand()?)?),
        "starts_with" => Test::StartsWith(text(&operand()?)?),
        "ends_with" => Test::EndsWith(text(&operand()?)?),
        "regex" => Test::Matches(text(&operand()?)?),
        "<" => Test::Compare(Comparison::Less, value(&operand()?)?),
        "<=" => Test::Compare(Comparison::AtMost, value(&operand()?)?),
        ">" => Test::Compare(Comparison::Greater, value(&operand()?)?),
        ">=" => Test::Compare(Comparison::AtLeast, value(&operand()?)?),
        _ => {
            return Err(Problem::argument(format!(
                "`{}` must be one of {}",
                object.name_of("op"),
                OPERATORS.join(", ")
            )));
        }
    };
    let filter = Filter::Where(field, test);
    Ok(if is_negated { Filter::Not(Box::new(filter)) } else { filter })
}

fn value(member: &Member<'_>) -> Result<Value, Problem> {
    Ok(match member.scalar()? {
        Scalar::Text(text) => Value::Text(text),
        Scalar::Number(number) => Value::Number(number),
        Scalar::Flag(flag) => Value::Text(flag.to_string()),
    })
}

fn text(member: &Member<'_>) -> Result<String, Problem> {
    match member.scalar()? {
        Scalar::Text(text) => Ok(text),
        _ => Err(member.must_be("a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        filter_of_text("where", text).unwrap_err().detail().to_owned()
    }

    #[test]
    fn filters_are_read() {
        let text = r#"{"and": [{"field": "plan", "value": "pro"},
            {"or": [{"field": "n", "op": "<", "value": 5}, {"field": "n", "op": "exists", "value": false}]},
            {"not": {"field": "user_id", "op": "in", "value": ["a", 1, true]}},
            {"cohort": "loyal"}, {"field": "page_url", "op": "!=", "value": "/"}]}"#;
        let n = || Field::from_name("n");
        let texts = |text: &str| Value::Text(text.to_owned());
        let is_any = vec![texts("a"), Value::Number(1.0), texts("true")];
        let expected = Filter::All(vec![
            Filter::equals(Field::from_name("plan"), "pro"),
            Filter::Any(vec![
                Filter::Where(n(), Test::Compare(Comparison::Less, Value::Number(5.0))),
                Filter::Not(Box::new(Filter::Where(n(), Test::Exists))),
            ]),
            Filter::Not(Box::new(Filter::Where(Field::UserId, Test::In(is_any)))),
            Filter::cohort("loyal"),
            Filter::Not(Box::new(Filter::equals(Field::PageUrl, "/"))),
        ]);
        assert_eq!(filter_of_text("where", text).unwrap(), expected);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        assert!(error("{").starts_with("`where` must be a filter in JSON"));
        assert_eq!(error("[]"), "`where` must be an object");
        assert_eq!(
            error("{}"),
            "`where` must have one of `field`, `cohort`, `and`, `or` and `not`"
        );
        assert_eq!(error(r#"{"or": [{"field": "a"}]}"#), "`where.or[0].value` is missing");
        assert_eq!(error(r#"{"and": {}}"#), "`where.and` must be an array");
        let op = error(r#"{"not": {"field": "a", "op": "~", "value": 1}}"#);
        assert!(op.starts_with("`where.not.op` must be one of ="), "{op}");
        let contains = r#"{"field": "a", "op": "contains", "value": 1}"#;
        assert_eq!(error(contains), "`where.value` must be a string");
        let list = r#"{"field": "a", "op": "in", "value": [[]]}"#;
        assert_eq!(error(list), "`where.value[0]` must be a string, a number, true or false");
        let unknown = r#"{"field": "a", "value": 1, "values": 1}"#;
        assert_eq!(error(unknown), "`where.values` is unknown");
        let deep = format!("{}{{}}{}", r#"{"not":"#.repeat(20), "}".repeat(20));
        assert!(error(&deep).contains("nested more than 16 levels deep"));
    }
}
