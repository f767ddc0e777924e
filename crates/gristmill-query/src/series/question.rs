//! What a question for series may not ask.

use std::collections::HashSet;

use gristmill_model::{Compare, SeriesQuery, limits};

use super::formula::ReadyFormula;
use crate::QueryError;

/// Refuses what makes no sense.
pub(super) fn check(query: &SeriesQuery) -> Result<(), QueryError> {
    let refuse = |wrong: String| Err(QueryError::Invalid(wrong));
    let most = limits::SERIES;
    if !(1..=most).contains(&query.series.len()) {
        return refuse(format!("`series` must be from 1 to {most}"));
    }
    let most = limits::FORMULAS;
    if query.formulas.len() > most {
        return refuse(format!("`formulas` must be {most} at most"));
    }
    let most = limits::SERIES_GROUP_FIELDS;
    if query.group_by.len() > most {
        return refuse(format!("`group_by` must be {most} fields at most"));
    }
    if let [first, second] = query.group_by.as_slice()
        && first.name() == second.name()
    {
        return refuse(format!("`group_by` names `{}` twice", first.name()));
    }
    let most = limits::SERIES_GROUPS;
    if query.top.is_some_and(|top| !(1..=most).contains(&top)) {
        return refuse(format!("`top` must be from 1 to {most}"));
    }
    if query.top.is_some() && query.group_by.is_empty() {
        return refuse("`top` needs a `group_by`".to_owned());
    }
    let range = query.selection.range;
    let is_open = range.start.is_none() || range.end.is_none();
    if query.compare == Compare::PreviousPeriod && is_open {
        return refuse("`compare` needs a range with `start` and `end`".to_owned());
    }
    check_names(query)?;
    formulas(query).map(drop)
}

fn check_names(query: &SeriesQuery) -> Result<(), QueryError> {
    let series = query.series.iter().map(|series| ("series", &series.name)).enumerate();
    let formulas = query.formulas.iter().map(|formula| ("formulas", &formula.name)).enumerate();
    let mut known = HashSet::new();
    let most = limits::SERIES_NAME_BYTES;
    for (index, (list, name)) in series.chain(formulas) {
        let wrong = if name.is_empty() {
            "is empty".to_owned()
        } else if name.len() > most {
            format!("is longer than {most} bytes")
        } else if !known.insert(name) {
            format!("is already that of another one: {name:?}")
        } else {
            continue;
        };
        return Err(QueryError::Invalid(format!("`{list}[{index}].name` {wrong}")));
    }
    Ok(())
}

/// The formulas with their names.
pub(super) fn formulas(query: &SeriesQuery) -> Result<Vec<(String, ReadyFormula)>, QueryError> {
    let names: Vec<&str> = query.series.iter().map(|series| series.name.as_str()).collect();
    let formulas = query.formulas.iter().enumerate().map(|(index, formula)| {
        let ready = ReadyFormula::of(&formula.expression, &names).map_err(|wrong| {
            QueryError::Invalid(format!("`formulas[{index}].expression` {wrong}"))
        })?;
        Ok((formula.name.clone(), ready))
    });
    formulas.collect()
}
