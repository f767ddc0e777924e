//! The client library against the real binary: its examples, its questions, and what it promises
//! when the server is killed under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gristmill_client::questions::{
    Events, Formula, Funnel, FunnelStep, FunnelUsers, NewCohort, Paths, Retention, Selection,
    Series, Sessions, Summary, TimeSeries, TimeSeriesMany, Top, User, UserList,
};
use gristmill_client::{
    Client, Delivered, Event, Observer, Sender, SenderConfig, StreamTarget, Timestamp, Undelivered,
};
use gristmill_testkit::{Ledger, TestServer};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::support::{counts_of_type, server, summary, wait_for_more, wait_for_total};

#[allow(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../../gristmill-client/examples/batching.rs"]
mod batching;
#[allow(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../../gristmill-client/examples/grpc_client.rs"]
mod grpc_client;
#[allow(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../../gristmill-client/examples/offline.rs"]
mod offline;
#[allow(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../../gristmill-client/examples/quickstart.rs"]
mod quickstart;
#[allow(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../../gristmill-client/examples/streaming.rs"]
mod streaming;

const KILLS: usize = 3;
/// What one question tells one by one.
const MOST_EVENTS: u64 = 9_000;
const EVENT_TYPE: &str = "survivor";
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn examples_over_http_do_what_they_say() -> anyhow::Result<()> {
    let server = server().start()?;
    let url = format!("http://{}", server.address());
    let runtime = Runtime::new()?;
    runtime.block_on(quickstart::run(&url))?;
    runtime.block_on(batching::run(&url))?;
    runtime.block_on(offline::run(&url))?;
    wait_for_total(&server, 10_101)?;
    let counts = summary(&server)?["events_by_type"].take();
    assert_eq!(counts["page_view"], 1, "{counts}");
    assert_eq!(counts["kept"], 100, "{counts}");
    let batched = counts["view"].as_u64().unwrap_or(0) + counts["purchase"].as_u64().unwrap_or(0);
    assert_eq!(batched, 10_000, "{counts}");
    Ok(())
}

#[test]
fn examples_over_grpc_do_what_they_say() -> anyhow::Result<()> {
    let server = server().grpc().start()?;
    let url = server.grpc_url()?;
    let runtime = Runtime::new()?;
    runtime.block_on(streaming::run(&url))?;
    runtime.block_on(grpc_client::run(&url))?;
    wait_for_total(&server, 10_001)
}

#[test]
fn kill_nine_under_a_sender_loses_nothing_and_counts_nothing_twice() -> anyhow::Result<()> {
    let server = server().start()?;
    let client = Client::at(&format!("http://{}", server.address()))?;
    survives(server, |config, observer| async move {
        Ok(Sender::start_observed(&client, config, observer).await?)
    })
}

#[test]
fn kill_nine_under_a_stream_loses_nothing_and_counts_nothing_twice() -> anyhow::Result<()> {
    let server = server().grpc().start()?;
    let target = StreamTarget::at(&server.grpc_url()?)?;
    survives(server, |config, observer| async move {
        Ok(Sender::stream_observed(&target, config, observer).await?)
    })
}

/// Kills the server under a sender, again and again, and holds the ledger against it.
fn survives<F>(
    mut server: TestServer,
    start: impl FnOnce(SenderConfig, Arc<dyn Observer>) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Sender>>,
{
    let runtime = Runtime::new()?;
    let notes = Arc::new(Notes::default());
    let config = SenderConfig {
        batch_events: 50,
        linger: Duration::from_millis(2),
        longest_backoff: Duration::from_millis(100),
        ..SenderConfig::default()
    };
    let observer = Arc::clone(&notes) as Arc<dyn Observer>;
    let sender = Arc::new(runtime.block_on(start(config, observer))?);
    let stop = Arc::new(AtomicBool::new(false));
    let producer =
        runtime.spawn(produce(Arc::clone(&sender), Arc::clone(&notes), Arc::clone(&stop)));
    for _ in 0..KILLS {
        wait_for_more(&notes.delivered, 100, DELIVERED_WITHIN)?;
        server.kill9()?;
        server.restart()?;
    }
    wait_for_more(&notes.delivered, 100, DELIVERED_WITHIN)?;
    stop.store(true, Ordering::SeqCst);
    runtime.block_on(producer)??;
    let report = runtime.block_on(sender.close());
    assert!(report.is_complete(), "{report:?}");
    runtime.block_on(
        Client::at(&format!("http://{}", server.address()))?.wait_visible(&report.position),
    )?;
    let tally = notes.ledger.check(&counts_of_type(&server, EVENT_TYPE)?)?;
    assert_eq!(tally.accepted, notes.ledger.len(), "{tally:?}");
    Ok(())
}

/// Sends at an even pace until it shall stop.
async fn produce(
    sender: Arc<Sender>,
    notes: Arc<Notes>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) && number < MOST_EVENTS {
        let id = format!("s{number}");
        notes.ledger.sending(&id);
        sender.send(&Event::new(EVENT_TYPE).id(id).user(format!("u{}", number % 7))).await?;
        number += 1;
        if number % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Notes {
    ledger: Ledger,
    delivered: AtomicU64,
}

impl Observer for Notes {
    fn delivered(&self, events: &Delivered) {
        events.ids().iter().for_each(|id| self.ledger.accepted(id));
        self.delivered.fetch_add(events.count(), Ordering::SeqCst);
    }

    fn undelivered(&self, events: Vec<Undelivered>) -> Vec<Undelivered> {
        let certain = events.iter().filter(|event| !event.may_have_arrived);
        certain.for_each(|event| self.ledger.rejected(&event.id()));
        events
    }
}

#[test]
fn every_question_is_answered_typed() -> anyhow::Result<()> {
    let server = server().start()?;
    let client = Client::at(&format!("http://{}", server.address()))?;
    Runtime::new()?.block_on(ask_all(&client))
}

async fn ask_all(client: &Client) -> anyhow::Result<()> {
    let position = small_world(client).await?;
    let select = Selection::all().at_least(position);
    let summary = client.ask(&Summary { select: select.clone(), top: None }).await?;
    assert_eq!((summary.total_events, summary.unique_users), (6, 3));
    let top = Top { property: "plan".to_owned(), ..Top::default() };
    assert_eq!(client.ask(&top).await?.values[0].value, "pro");
    let series = TimeSeries { group_by: vec!["event_type".to_owned()], ..TimeSeries::default() };
    let points = client.ask(&series).await?.series;
    assert_eq!(points.iter().filter_map(|point| point.value).sum::<f64>(), 6.0);
    let buys = Series { event_types: vec!["buy".to_owned()], ..Series::default() };
    let share = Formula { expression: "A / B".to_owned(), name: Some("share".to_owned()) };
    let many = TimeSeriesMany {
        series: vec![buys, Series::default()],
        formulas: vec![share],
        ..TimeSeriesMany::default()
    };
    let points = client.ask(&many).await?.series;
    assert!(points.iter().any(|point| point.series.as_deref() == Some("share")), "{points:?}");

    let user = User { include_sessions: Some(true), ..User::of("ann") };
    let ann = client.ask(&user).await?;
    assert_eq!((ann.user_profile.total_events, ann.events.len()), (3, 3));
    assert_eq!(ann.sessions.len(), 1);
    let list = UserList { min_events: Some(2), ..UserList::default() };
    assert_eq!(client.ask(&list).await?.total_users, 2);
    ask_about_order(client).await?;
    keep_a_cohort(client).await
}

/// Ann views, views and buys, bob views and buys, and eve views.
async fn small_world(client: &Client) -> anyhow::Result<String> {
    let sender = Sender::start(client, SenderConfig::default()).await?;
    let noon: Timestamp = "2026-03-01T12:00:00Z".parse()?;
    let story = [
        ("ann", "view"),
        ("bob", "view"),
        ("eve", "view"),
        ("ann", "view"),
        ("ann", "buy"),
        ("bob", "buy"),
    ];
    for (minute, (user, event_type)) in (0..).zip(story) {
        let at = noon.plus(minute * 60 * Timestamp::SECOND);
        let event = Event::new(event_type).user(user).session(format!("{user}-1")).at(at);
        sender.send(&event.page(format!("/{event_type}")).property("plan", "pro")).await?;
    }
    let report = sender.close().await;
    assert!(report.is_complete(), "{report:?}");
    Ok(report.position)
}

async fn ask_about_order(client: &Client) -> anyhow::Result<()> {
    let steps = vec![FunnelStep::of("view"), FunnelStep::of("buy")];
    let funnel = Funnel { steps, window: Some("1h".to_owned()), ..Funnel::default() };
    let answer = client.ask(&funnel).await?;
    assert_eq!(answer.steps.iter().map(|step| step.users).collect::<Vec<_>>(), [3, 2]);
    let users = FunnelUsers { step: 2, funnel, ..FunnelUsers::default() };
    assert_eq!(client.ask(&users).await?.users.len(), 2);
    let retention = Retention { start_event: Events::of("view"), ..Retention::default() };
    assert_eq!(client.ask(&retention).await?.cohorts[0].users, 3);
    let sessions = Sessions { granularity: Some("day".to_owned()), ..Sessions::default() };
    let sessions = client.ask(&sessions).await?;
    assert_eq!((sessions.totals.sessions, sessions.series.len()), (3, 1));
    let paths = Paths { anchor: Events::of("view"), depth: Some(1), ..Paths::default() };
    assert_eq!(client.ask(&paths).await?.unique_users, 3);
    Ok(())
}

async fn keep_a_cohort(client: &Client) -> anyhow::Result<()> {
    let definition = json!({"event_type": "buy"});
    let cohort = NewCohort { name: Some("Buyers".to_owned()), definition, ..NewCohort::default() };
    let saved = client.create_cohort(&cohort).await?;
    assert_eq!((saved.id.as_str(), saved.version), ("buyers", 1));
    assert_eq!(client.cohort("buyers").await?.size, Some(2));
    assert_eq!(client.cohort_users("buyers", 1, None).await?.next.as_deref(), Some("ann"));
    let replaced = client.replace_cohort("buyers", Some(1), &cohort).await?;
    assert!(client.replace_cohort("buyers", Some(1), &cohort).await.is_err(), "{replaced:?}");
    assert_eq!(client.cohorts().await?.cohorts.len(), 1);
    client.delete_cohort("buyers").await?;
    assert_eq!(client.cohorts().await?.cohorts.len(), 0);
    Ok(())
}
