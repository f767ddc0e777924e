//! Real data, imported with the binary's own command, answers every question as ClickHouse did.
//! The data sets lie outside the repository; where they are absent the tests say so.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::Context;
use gristmill_testkit::{ServerOptions, TestServer, data_file};
use serde_json::{Value, json};

use crate::support::{server, store_number, summary};

/// A data set and how its fields are named.
pub(crate) struct DataSet {
    pub(crate) file: &'static str,
    pub(crate) events: u64,
    flags: &'static [&'static str],
}

pub(crate) const GHARCHIVE: DataSet = DataSet {
    file: "gharchive-2015.ndjson.gz",
    events: 127_397,
    flags: &["--time=dt", "--type=type", "--user=actor", "--page-url=https://github.com/{repo}"],
};

pub(crate) const DESKDROP: DataSet = DataSet {
    file: "deskdrop-interactions.csv.gz",
    events: 72_312,
    flags: &["--type=eventType", "--user=personId", "--session=sessionId"],
};

const WIKIPEDIA: DataSet = DataSet {
    file: "wikipedia-edits-2015-09-12.ndjson.gz",
    events: 39_199,
    flags: &["--type=channel", "--page-url=page"],
};

const ACCESS_LOG: DataSet = DataSet { file: "apache-access.log.gz", events: 10_000, flags: &[] };

#[test]
fn gharchive_answers_equal_the_expected_ones() -> anyhow::Result<()> {
    answers_hold(&GHARCHIVE, gharchive_answers)
}

#[test]
fn deskdrop_answers_equal_the_expected_ones() -> anyhow::Result<()> {
    answers_hold(&DESKDROP, deskdrop_answers)
}

#[test]
fn second_import_is_all_duplicates_even_with_a_window_of_a_second() -> anyhow::Result<()> {
    for set in [&GHARCHIVE, &DESKDROP] {
        let Some(file) = data_file(set.file) else {
            return Ok(());
        };
        let mut server = small_server().setting("GRISTMILL__STORE__WINDOW", "1s").start()?;
        assert_eq!(import(&server, set, &file)?, Report::stored(set.events));
        assert_eq!(import(&server, set, &file)?, Report::duplicates(set.events));
        server.terminate()?;
        server.restart()?;
        assert_eq!(import(&server, set, &file)?, Report::duplicates(set.events));
        assert_eq!(summary(&server)?["total_events"], set.events);
    }
    Ok(())
}

/// Events without ids whose text is the same are one event; the importer tells them apart by their lines.
#[test]
fn rows_that_repeat_exactly_count_once_when_posted_without_ids() -> anyhow::Result<()> {
    let (Some(file), Some(expected)) = (data_file(DESKDROP.file), data_file("expected.json"))
    else {
        return Ok(());
    };
    let expected: Value = serde_json::from_slice(&std::fs::read(expected)?)?;
    let distinct = &expected["deskdrop.distinct_rows"][0][0];
    let rows = csv::Reader::from_reader(flate2::read::GzDecoder::new(File::open(file)?))
        .deserialize()
        .collect::<Result<Vec<BTreeMap<String, String>>, _>>()?;
    assert_eq!(rows.len() as u64, DESKDROP.events);
    let server = small_server().start()?;
    for batch in rows.chunks(5_000) {
        let event = |row: &BTreeMap<String, String>| {
            json!({
                "event_type": row["eventType"],
                "user_id": row["personId"],
                "timestamp": row["timestamp"].parse::<u64>().ok(),
                "properties": row,
            })
        };
        let events = batch.iter().map(event).collect();
        let answer = server.post_json("/v1/events/batch?wait=visible", &events)?;
        assert_eq!(answer["accepted"], batch.len());
    }
    assert_eq!(summary(&server)?["total_events"], *distinct);
    let duplicates = store_number(&server, "duplicate")?;
    assert_eq!(json!(DESKDROP.events - duplicates), *distinct);
    Ok(())
}

#[test]
fn other_files_import_whole() -> anyhow::Result<()> {
    for set in [&WIKIPEDIA, &ACCESS_LOG] {
        let Some(file) = data_file(set.file) else {
            return Ok(());
        };
        let server = server().start()?;
        assert_eq!(import(&server, set, &file)?, Report::stored(set.events));
        assert_eq!(summary(&server)?["total_events"], set.events);
    }
    Ok(())
}

/// A server that keeps little in memory, so that these small data sets are spread over many
/// files, which are merged.
fn small_server() -> ServerOptions {
    server().setting("GRISTMILL__STORE__SEAL_BYTES", "512 KiB")
}

/// Imports a data set and holds the answers: at once, after a restart, after all merging.
fn answers_hold(
    set: &DataSet,
    answers: fn(&TestServer, &Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (Some(file), Some(expected)) = (data_file(set.file), data_file("expected.json")) else {
        return Ok(());
    };
    let expected: Value = serde_json::from_slice(&std::fs::read(expected)?)?;
    let mut server = small_server().start()?;
    assert_eq!(import(&server, set, &file)?, Report::stored(set.events));
    answers(&server, &expected).context("after the import")?;

    server.terminate()?;
    server.restart()?;
    answers(&server, &expected).context("after a restart")?;

    merge_all(&server)?;
    answers(&server, &expected).context("after all merging")?;

    server.kill9()?;
    // Next to nothing of what questions read can be kept for the next one.
    server.change_setting("GRISTMILL__QUERY__MEMORY_BYTES", "64 KiB");
    server.restart()?;
    answers(&server, &expected).context("after a kill, with little memory for questions")?;

    assert_eq!(import(&server, set, &file)?, Report::duplicates(set.events));
    answers(&server, &expected).context("after a second import")
}

pub(crate) fn gharchive_answers(server: &TestServer, expected: &Value) -> anyhow::Result<()> {
    let all = &expected["gharchive.total"][0];
    let total = summary(server)?;
    assert_eq!(total["total_events"], all[0]);
    assert_eq!(total["unique_users"], all[1]);
    assert_same_time(&total["first_event"], &all[2]);
    assert_same_time(&total["last_event"], &all[3]);

    let types = top(server, "property=event_type&limit=100")?;
    assert_eq!(types, expected["gharchive.by_type"]);
    let pages = top(server, "property=page_url&limit=10")?;
    assert_eq!(pages, expected["gharchive.top_pages"]);
    let users = top(server, "property=user_id&limit=5")?;
    let users: Vec<_> = rows(&users).iter().map(|row| json!([row[0], row[1]])).collect();
    assert_eq!(json!(users), expected["gharchive.top_users"]);

    let hours = series(
        server,
        "granularity=hour&event_type=push&start=2015-02-22T00:00:00Z&end=2015-04-24T00:00:00Z",
    )?;
    assert_eq!(times_in_utc(&expected["gharchive.per_hour_push"]), hours);

    let expected = &expected["gharchive.funnel_create_push_issue_1h"];
    funnel(server, &["create", "push", "issue"], "3600s", expected)
}

pub(crate) fn deskdrop_answers(server: &TestServer, expected: &Value) -> anyhow::Result<()> {
    let all = &expected["deskdrop.total"][0];
    let total = summary(server)?;
    assert_eq!(total["total_events"], all[0]);
    assert_eq!(total["unique_users"], all[1]);
    assert_eq!(total["sessions"], all[2]);
    assert_same_time(&total["first_event"], &all[3]);
    assert_same_time(&total["last_event"], &all[4]);

    let types = top(server, "property=event_type&limit=100")?;
    assert_eq!(types, expected["deskdrop.by_type"]);
    let countries = top(server, "property=userCountry&event_type=VIEW&limit=5")?;
    assert_eq!(countries, expected["deskdrop.view_by_country_top5"]);

    assert_eq!(
        times_in_utc(&expected["deskdrop.monthly_active"]),
        series(server, "granularity=month")?
    );
    // The clock of Sao Paulo went from -03:00 to -02:00 at the start of 16 October 2016: that day
    // begins at 01:00, an hour short.
    let days = series(
        server,
        "granularity=day&tz=America/Sao_Paulo&start=2016-10-15T03:00:00Z&end=2016-10-18T02:00:00Z",
    )?;
    let starts = ["2016-10-15T03:00:00Z", "2016-10-16T03:00:00Z", "2016-10-17T02:00:00Z"];
    let wanted = rows(&expected["deskdrop.daily_sao_paulo_oct2016_first3"]);
    let wanted: Vec<_> =
        starts.iter().zip(wanted).map(|(day, row)| json!([day, row[1], row[2]])).collect();
    assert_eq!(json!(wanted), days);

    let levels = &expected["deskdrop.funnel_view_like_comment_7d"];
    funnel(server, &["VIEW", "LIKE", "COMMENT CREATED"], "604800s", levels)?;

    let answer = server.post_json("/v1/analytics/retention", &json!({"granularity": "week"}))?;
    let first = &answer["cohorts"][0];
    assert_eq!(first["start"], "2016-03-14T00:00:00Z");
    let weeks = rows(&first["retained"]).iter().enumerate().filter(|(_, users)| **users != 0);
    let wanted = rows(&expected["deskdrop.retention_weekly_first_cohort"]);
    let weeks = weeks.map(|(week, users)| json!([week, users])).take(wanted.len());
    assert_eq!(weeks.collect::<Vec<_>>(), wanted);
    Ok(())
}

/// What an import tells of its rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    stored: u64,
    duplicates: u64,
    rejected: u64,
}

impl Report {
    pub(crate) fn stored(stored: u64) -> Self {
        Self { stored, duplicates: 0, rejected: 0 }
    }

    pub(crate) fn duplicates(duplicates: u64) -> Self {
        Self { stored: 0, duplicates, rejected: 0 }
    }

    /// Reads `read 1,234, accepted 1,234, stored 1,234, duplicates 0, rejected 0`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let number = |name: &str| -> anyhow::Result<u64> {
            let (_, rest) = text.split_once(&format!("{name} ")).context(name.to_owned())?;
            let digits = rest.split([' ', '\n']).next().unwrap_or_default().replace(',', "");
            Ok(digits.parse()?)
        };
        let (stored, duplicates) = (number("stored")?, number("duplicates")?);
        Ok(Self { stored, duplicates, rejected: number("rejected")? })
    }
}

/// Runs the import and gives its report.
pub(crate) fn import(server: &TestServer, set: &DataSet, file: &Path) -> anyhow::Result<Report> {
    let url = format!("--url=http://{}", server.address());
    let mut arguments = vec!["import", &url];
    arguments.extend(set.flags);
    arguments.push(file.to_str().context("a path that is not UTF-8")?);
    let output = server.command(&arguments)?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "the import of {} failed: {said}", set.file);
    Report::parse(&said).with_context(|| said.into_owned())
}

/// A top list as rows of value, events, users.
fn top(server: &TestServer, question: &str) -> anyhow::Result<Value> {
    let answer = server.get_json(&format!("/v1/analytics/top?{question}"))?;
    let row = |value: &Value| json!([value["value"], value["count"], value["unique_users"]]);
    Ok(rows(&answer["values"]).iter().map(row).collect())
}

/// A series as rows of time, events, users; empty buckets are left out.
fn series(server: &TestServer, question: &str) -> anyhow::Result<Value> {
    let ask = |metric: &str| {
        server.get_json(&format!("/v1/analytics/timeseries?metric={metric}&{question}"))
    };
    let (counts, users) = (ask("count")?, ask("unique_users")?);
    let (counts, users) = (rows(&counts["series"]), rows(&users["series"]));
    anyhow::ensure!(counts.len() == users.len(), "{} and {} buckets", counts.len(), users.len());
    let points = counts.iter().zip(users).filter(|(count, _)| count["value"] != 0);
    let row = |(count, users): (&Value, &Value)| {
        json!([count["timestamp"], count["value"], users["value"]])
    };
    Ok(points.map(row).collect())
}

/// Asks for a funnel and holds it against the number of users that reached each level and no
/// higher, level 0 being those that did not start.
fn funnel(
    server: &TestServer,
    event_types: &[&str],
    window: &str,
    levels: &Value,
) -> anyhow::Result<()> {
    let steps: Vec<_> =
        event_types.iter().map(|name| json!({"name": name, "event_type": name})).collect();
    let question = json!({"steps": steps, "window": window});
    let answer = server.post_json("/v1/analytics/funnel", &question)?;
    let users_from = |level: usize| -> u64 {
        let reached = rows(levels).iter().filter(|row| row[0].as_u64() >= Some(level as u64));
        reached.filter_map(|row| row[1].as_u64()).sum()
    };
    for (index, step) in rows(&answer["steps"]).iter().enumerate() {
        assert_eq!(step["users"], users_from(index + 1), "step {index} of {answer}");
    }
    assert_eq!(rows(&answer["steps"]).len(), event_types.len());
    let overall = users_from(event_types.len()) as f64 / users_from(1) as f64;
    let told = answer["overall_conversion_rate"].as_f64().context("no overall rate")?;
    assert!((told - overall).abs() < 1e-9, "{told} is not {overall}");
    Ok(())
}

/// Has everything written to files and all files merged that can be, so that merging once more
/// changes nothing. How many parts there were before says nothing: merging goes on beside the
/// test, and splits parts by slice as well as making fewer of them.
fn merge_all(server: &TestServer) -> anyhow::Result<()> {
    let merged = compact(server)?;
    anyhow::ensure!(0 < merged, "there are no parts");
    anyhow::ensure!(store_number(server, "hot_rows")? == 0, "not all is in files");
    let again = compact(server)?;
    anyhow::ensure!(merged == again, "{merged} merged parts became {again}");
    Ok(())
}

/// Runs the command and gives the number of parts there are then.
fn compact(server: &TestServer) -> anyhow::Result<u64> {
    let done = server.command(&["compact", &format!("--url=http://{}", server.address())])?;
    anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    store_number(server, "parts")
}

/// Rows whose first cell is a time as `2015-02-22 21:00:00` or a date, with that time in RFC 3339.
fn times_in_utc(expected: &Value) -> Value {
    let row = |row: &Value| {
        let mut row = row.clone();
        row[0] = json!(rfc_3339(row[0].as_str().unwrap_or_default()));
        row
    };
    rows(expected).iter().map(row).collect()
}

fn rfc_3339(text: &str) -> String {
    let (day, time) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    format!("{day}T{}Z", time.trim_end_matches(".000"))
}

fn assert_same_time(told: &Value, expected: &Value) {
    assert_eq!(told, &json!(rfc_3339(expected.as_str().unwrap_or_default())));
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
