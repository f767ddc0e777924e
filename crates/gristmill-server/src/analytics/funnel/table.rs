//! A funnel as a table: one line per step, or per group and step if users are in groups.

use axum::response::Response;
use gristmill_model::{FUNNEL_BOUNDS, FunnelAnswer, FunnelGroups, Micros, Timestamp};

use super::super::csv::Table;
use super::rates::{RatesBody, rates, users};

pub(super) fn of(answer: &FunnelAnswer) -> Response {
    match &answer.groups {
        None => steps(answer),
        Some(groups) => by_group(answer, groups),
    }
}

fn steps(answer: &FunnelAnswer) -> Response {
    let mut columns = [
        "name",
        "users",
        "conversion_rate",
        "avg_time_to_convert_seconds",
        "step_conversion_rate",
        "drop_off",
        "median_time_to_convert_seconds",
    ]
    .map(str::to_owned)
    .to_vec();
    columns.extend(FUNNEL_BOUNDS.map(|bound| format!("below_{}s", bound / Timestamp::SECOND)));
    columns.push("longer".to_owned());
    let mut table = Table::new(&columns.iter().map(String::as_str).collect::<Vec<_>>());
    for (step, rates) in answer.steps.iter().zip(rates(answer, &users(answer))) {
        let times = step.times.as_ref();
        table.text(rates.name);
        table.number(rates.users);
        table.number(rates.conversion_rate);
        seconds(&mut table, times.and_then(|times| times.mean));
        table.number(rates.step_conversion_rate);
        optional(&mut table, rates.drop_off);
        seconds(&mut table, times.and_then(|times| times.median));
        for bucket in 0..=FUNNEL_BOUNDS.len() {
            optional(&mut table, times.map(|times| times.histogram[bucket]));
        }
        table.end_row();
    }
    table.into_response()
}

fn by_group(answer: &FunnelAnswer, groups: &FunnelGroups) -> Response {
    let mut table = Table::new(&[
        "group",
        "value",
        "name",
        "users",
        "conversion_rate",
        "step_conversion_rate",
        "drop_off",
    ]);
    let mut lines = |group: &str, value: &str, users: &[u64]| {
        for step in rates(answer, users) {
            table.text(group);
            table.text(value);
            line(&mut table, &step);
        }
    };
    lines("all", "", &users(answer));
    for group in &groups.groups {
        let kind = if group.value.is_some() { "value" } else { "none" };
        lines(kind, group.value.as_deref().unwrap_or_default(), &group.users);
    }
    if let Some(other) = &groups.other {
        lines("other", "", &other.users);
    }
    table.into_response()
}

fn line(table: &mut Table, step: &RatesBody<'_>) {
    table.text(step.name);
    table.number(step.users);
    table.number(step.conversion_rate);
    table.number(step.step_conversion_rate);
    optional(table, step.drop_off);
    table.end_row();
}

fn seconds(table: &mut Table, time: Option<Micros>) {
    optional(table, time.map(|micros| micros as f64 / 1e6));
}

fn optional(table: &mut Table, number: Option<impl std::fmt::Display>) {
    match number {
        Some(number) => table.number(number),
        None => table.text(""),
    }
}
