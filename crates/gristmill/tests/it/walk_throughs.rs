//! The walk-throughs of the four older systems' documents, each of their services a process of its own
//! over Kafka, PostgreSQL and Redis: what is posted, what lies in the topic, and what SQL finds.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Curl, Request, Response, SeededEntropy, ServerOptions, TestDatabase, TestRedis, TestServer,
    TestTopic, http, shared_redis, wait_until,
};
use serde_json::{Value, json};

use crate::dialect_curls::metrics_of_stream;
use crate::kafka;
use crate::manuals::{
    ACTIVITY, CLICK, CLICK_COUNT, HEALTH, METRICS_STREAM, PLATFORM_EVENT, PLATFORM_SUMMARY,
    SESSION_EVENT,
};
use crate::profiles::split;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn clicks_are_counted_as_their_document_says() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    let redis = TestRedis::start()?;
    let roles = ["ingest", "process", "query"];
    let mut deployment = split(&topic, &database, &redis.address(), &roles)?;
    // Ingestion and the gateway had an address each.
    let addresses = [deployment.behind()[0].address(), deployment.front().address()];
    let run = |command: &str| -> anyhow::Result<Response> {
        let Curl { port, request } = Curl::parse(command)?;
        Ok(http::send(addresses[usize::from(port - 8080)], &request)?)
    };
    let counted = |count: u64| {
        let told = json!({"count": count, "page_url": "https://example.com", "user_id": "user_1"});
        wait_until("the clicks to be counted", PATIENCE, || {
            (run(CLICK_COUNT).ok()?.json().ok()? == told).then_some(())
        })
    };
    for _ in 0..3 {
        assert_eq!(run(CLICK)?.json()?["event_id"], "test_123");
    }
    counted(1)?;
    assert_eq!(run(&CLICK.replace("test_123", "test_124"))?.status, 200);
    counted(2)?;

    let rows =
        "SELECT (SELECT count(*) FROM click_events), (SELECT sum(click_count) FROM page_clicks)";
    assert_eq!(database.run(rows)?, [["2", "2"]]);
    assert_eq!(redis.run(&["get", "user_1__+__https://example.com"])?.trim(), "2");
    let records = topic.read()?;
    assert_eq!(records.len(), 4);
    for record in records {
        let value: Value = serde_json::from_str(&record.value)?;
        assert_eq!((&value["page_url"], &*record.key), (&json!("https://example.com"), "user_1"));
    }
    let told = || (topic.committed().ok()?.values().sum::<i64>() == 4).then_some(());
    wait_until("tools to see how far the group is", PATIENCE, told)
}

#[test]
fn platform_events_are_counted_as_their_document_says() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    let options = kafka::with_postgres(&topic, &database).argument("--preset").argument("platform");
    let options = options.setting("REDIS_ADDR", &shared_redis()?);
    let services = [(8081, "ingest"), (8082, "process"), (8083, "query")];
    let system = System::start(&options, &services)?;

    let told =
        json!({"success": true, "message": "Event sent successfully", "event_id": "event_123"});
    assert_eq!(system.run(PLATFORM_EVENT)?.json()?, told);
    let event = |id: &str, user: &str, kind: &str| json!({"id": id, "user_id": user, "event_type": kind, "properties": {}, "timestamp": 1_640_995_200, "source": "app"});
    let answer = system.post(8081, "/events/async", &event("b", "bob", "user_action"))?;
    assert_eq!((answer.status, &answer.json()?["event_id"]), (202, &json!("b")));
    // One of them has been sent before.
    let events = [event("c", "bob", "error_event"), event("event_123", "user_456", "page_view")];
    let answer = system.post(8081, "/events/batch", &json!({"events": events}))?;
    assert_eq!((answer.status, &answer.json()?["message"]), (200, &json!("Processed 2/2 events")));

    let types = json!({"page_view": 1, "user_action": 1, "error_event": 1});
    wait_until("the events to be counted", PATIENCE, || {
        let summary = system.run(PLATFORM_SUMMARY).ok()?.json().ok()?;
        let is_whole = summary["events_by_type"] == types
            && (&summary["total_events"], &summary["total_users"]) == (&json!(3), &json!(2));
        is_whole.then_some(())
    })?;
    let records = topic.read()?;
    assert_eq!(records.len(), 4);
    for record in &records {
        let value: Value = serde_json::from_str(&record.value)?;
        assert_eq!((&value["user_id"], &value["origin"]), (&json!(record.key), &json!("platform")));
        assert_eq!(record.headers["producer_id"], "analytics-producer");
        let first = records.iter().find(|other| other.key == record.key).context("itself")?;
        assert_eq!(first.partition, record.partition, "a user is in one partition");
    }
    platform_reports(&system, topic.name())
}

/// What each service says of itself.
fn platform_reports(system: &System, topic: &str) -> anyhow::Result<()> {
    for (port, path) in [8081, 8082, 8083]
        .iter()
        .flat_map(|port| ["/health", "/ready", "/stats", "/metrics"].map(|path| (*port, path)))
    {
        let answer = system.get(port, path)?;
        assert_eq!(answer.status, 200, "{port} {path}: {}", answer.text());
    }
    let health = system.get(8081, "/health")?.json()?;
    assert_eq!(
        (&health["status"], &health["kafka_health"]["is_healthy"]),
        (&json!("healthy"), &json!(true))
    );
    assert_eq!(health["kafka_health"]["topics"], json!([topic]));
    assert_eq!(system.get(8081, "/ready")?.json()?["producer_ready"], true);
    assert_eq!(system.get(8081, "/stats")?.json()?["messages_sent"], 4);
    assert_eq!(system.get(8082, "/ready")?.json()?["consumer_ready"], true);
    assert_eq!(system.get(8082, "/stats")?.json()?["consumer"]["processed_events"], 4);
    let lag = system.get(8082, "/lag")?.json()?;
    assert_eq!(lag["lag"], json!({topic: {"0": 0, "1": 0, "2": 0}}), "three partitions");
    Ok(())
}

#[test]
fn activities_are_summed_as_their_document_says() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    let processors = [(8080, "ingest"), (0, "process"), (0, "process"), (0, "process")];
    let mut system = System::start(&activity_options(&topic, &database)?, &processors)?;
    assert_eq!(system.run(HEALTH)?.json()?["status"], "healthy");
    columns_are(
        &database,
        "user_activity_metrics",
        &["id", "timestamp", "unique_users", "page_view_count", "created_at"],
    )?;

    // As many users as page views, so that each window can be held against itself.
    for number in 0..100 {
        system.activity(number, &format!("u{number}"), "page_view")?;
    }
    let windows = || -> anyhow::Result<Vec<(u64, u64)>> {
        let sql = "SELECT * FROM user_activity_metrics ORDER BY created_at DESC LIMIT 10;";
        let rows = database.run(sql)?;
        rows.iter().map(|row| Ok((row[2].parse()?, row[3].parse()?))).collect()
    };
    let sum = |windows: &[(u64, u64)]| windows.iter().map(|(_, views)| views).sum::<u64>();
    let all = || windows().ok().filter(|windows| sum(windows) >= 100);
    let first = wait_until("the windows to be written", PATIENCE, all)?;
    assert!(first.iter().all(|(users, views)| users == views && *users > 0), "{first:?}");
    // Three workers in each of three processes share three partitions, once the last has joined.
    let shared = || -> Option<()> {
        let members = topic.describe_group(&["--members"]).ok()?;
        let shares = members.iter().map(|member| member["#PARTITIONS"].parse());
        let shares: Vec<u32> = shares.collect::<Result<_, _>>().ok()?;
        ((shares.len(), shares.iter().sum()) == (9, 3)).then_some(())
    };
    wait_until("nine workers to share the partitions", PATIENCE, shared)?;

    // Windows without events go by, two at least, and leave nothing.
    let closed =
        || database.run("SELECT extract(epoch FROM max(window_closed))::text FROM gristmill.logs");
    for _ in 0..3 {
        let before = closed()?;
        let later = || closed().ok().filter(|now| *now != before);
        wait_until("a window to close", PATIENCE, later)?;
    }
    assert_eq!(windows()?, first);

    // From here on a window is only closed when the processors stop, and once by all of them.
    system.restart_processors(&[("FLUSH_INTERVAL_SEC", "3600"), ("BATCH_SIZE", "1000")])?;
    assert_eq!(windows()?, first, "the window was empty");
    let last = random_activities(&system, &topic)?;
    let counted =
        || (database.run("SELECT count(*) FROM click_events").ok()? == [["201"]]).then_some(());
    wait_until("the activities to be counted", PATIENCE, counted)?;
    let told = || -> Option<()> {
        let partitions = topic.describe_group(&[]).ok()?;
        let is_even = partitions.len() == 3 && partitions.iter().all(|row| row["LAG"] == "0");
        is_even.then_some(())
    };
    wait_until("the group to be even", PATIENCE, told)?;
    assert_eq!(windows()?, first, "the window is open");
    system.restart_processors(&[])?;
    let mut wanted = first;
    wanted.insert(0, last);
    assert_eq!(windows()?, wanted);
    system.restart_processors(&[])?;
    assert_eq!(windows()?, wanted, "nothing is left to be written");
    Ok(())
}

/// The environment of its document.
fn activity_options(topic: &TestTopic, database: &TestDatabase) -> anyhow::Result<ServerOptions> {
    let url = database.url();
    let (_, rest) = url.split_once("://").context("no scheme")?;
    let (who, rest) = rest.split_once('@').context("no user")?;
    let (user, password) = who.split_once(':').context("no password")?;
    let (place, name) = rest.split_once('/').context("no name")?;
    let (host, port) = place.split_once(':').context("no port")?;
    let options = kafka::server(topic).argument("--preset").argument("activity");
    let settings = [
        ("NUM_WORKERS", "3"),
        ("FLUSH_INTERVAL_SEC", "1"),
        ("BATCH_SIZE", "100"),
        ("DB_HOST", host),
        ("DB_PORT", port),
        ("DB_USER", user),
        ("DB_PASSWORD", password),
        ("DB_NAME", name),
    ];
    Ok(settings.iter().fold(options, |options, (name, value)| options.setting(name, value)))
}

/// Sends the activity of the document and 100 random ones, writes nonsense into the topic among them,
/// and gives how many users there were and how many page views.
fn random_activities(system: &System, topic: &TestTopic) -> anyhow::Result<(u64, u64)> {
    let answer = system.run(ACTIVITY)?;
    assert_eq!(answer.json()?, json!({"message": "Activity published successfully"}));
    let (mut users, mut views) = (BTreeSet::from(["12345".to_owned()]), 1);
    let dice = SeededEntropy::new(u64::from(std::process::id()));
    for number in 0..100 {
        if number == 50 {
            (0..3).try_for_each(|partition| topic.write(partition, &[("k", Some("{no JSON"))]))?;
        }
        let user = format!("user_{}", dice.below(20));
        let kind = ["page_view", "click", "scroll", "purchase"][dice.below(4) as usize];
        system.activity(1_000 + number, &user, kind)?;
        users.insert(user);
        views += u64::from(kind == "page_view");
    }
    Ok((users.len() as u64, views))
}

#[test]
fn sessions_are_kept_as_their_document_says() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    let options = kafka::with_postgres(&topic, &database).argument("--preset").argument("sessions");
    let services =
        [(8081, "ingest"), (8082, "process"), (0, "process"), (0, "process"), (0, "query")];
    let mut system = System::start(&options, &services)?;
    for port in [8081, 8082] {
        let health = system.get(port, "/actuator/health")?;
        assert_eq!((health.status, &health.json()?["status"]), (200, &json!("UP")));
    }
    wait_until("the partitions to be shared", PATIENCE, || shares_are(&topic, &["2", "2", "2"]))?;

    let answer = system.run(SESSION_EVENT)?;
    assert_eq!((answer.status, answer.text().as_str()), (202, ""));
    let event = json!({"eventId": "e1", "sessionId": "test-2", "eventType": "click", "payload": "{\"path\": \"/a\" }", "ts": "2025-09-21T15:00:00Z"});
    for _ in 0..3 {
        assert_eq!(system.post(8081, "/events", &event)?.status, 202);
    }
    system.sessions(0..60)?;
    wait_for_sessions(&database, 62)?;
    columns_are(
        &database,
        "web_events",
        &["id", "event_id", "session_id", "event_type", "ts", "payload"],
    )?;
    let row = |id: &str| {
        database.run(&format!("SELECT event_id, session_id, event_type, payload, extract(epoch FROM ts)::bigint FROM web_events WHERE session_id = '{id}'"))
    };
    let rows = row("test-2")?;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0][0..3], &*rows[0][4]),
        (&["e1", "test-2", "click"].map(str::to_owned)[..], "1758466800")
    );
    let payload: Value = serde_json::from_str(&rows[0][3])?;
    for name in ["eventId", "sessionId", "eventType", "payload"] {
        assert_eq!(payload[name], event[name], "the column holds the whole event");
    }
    let payload: Value = serde_json::from_str(&row("test-1")?[0][3])?;
    assert_eq!(payload["payload"], "{\"path\":\"/home\"}");

    let records = topic.read()?;
    assert_eq!(records.len(), 64);
    let partitions: BTreeSet<_> = records.iter().map(|record| record.partition).collect();
    assert_eq!(partitions.len(), 6, "sessions are spread over six partitions");
    for record in records {
        let value: Value = serde_json::from_str(&record.value)?;
        assert_eq!([&value["session_id"], &value["user_id"]], [&json!(record.key); 2]);
    }
    let streaming = system.of_role("process").context("nobody streams")?;
    let numbers = metrics_of_stream(streaming.address(), &Curl::parse(METRICS_STREAM)?.request)?;
    // Repeats were received too.
    assert_eq!(numbers["writtenTotal"], 62.0, "{numbers}");
    assert!(numbers["receivedTotal"].as_f64() >= Some(62.0), "{numbers}");

    // A processor dies, the others have its partitions, and it comes back.
    let processor = system.processors().next().context("no processor")?;
    processor.kill9()?;
    wait_until("two to share", PATIENCE, || shares_are(&topic, &["3", "3"]))?;
    system.sessions(60..120)?;
    wait_for_sessions(&database, 122)?;
    system.processors().next().context("no processor")?.restart()?;
    wait_until("three to share", PATIENCE, || shares_are(&topic, &["2", "2", "2"]))?;
    system.sessions(120..180)?;
    wait_for_sessions(&database, 182)
}

/// Whether the members of a group have so many partitions each.
fn shares_are(topic: &TestTopic, wanted: &[&str]) -> Option<()> {
    let members = topic.describe_group(&["--members"]).ok()?;
    members.iter().map(|member| &*member["#PARTITIONS"]).eq(wanted.iter().copied()).then_some(())
}

fn wait_for_sessions(database: &TestDatabase, count: u64) -> anyhow::Result<()> {
    let wanted = [[count.to_string(), count.to_string()]];
    let found = || database.run("SELECT count(*), count(DISTINCT event_id) FROM web_events").ok();
    let is_there = || found().filter(|found| *found == wanted).map(drop);
    wait_until("the rows", PATIENCE, is_there).with_context(|| format!("{:?} of {count}", found()))
}

fn columns_are(database: &TestDatabase, table: &str, wanted: &[&str]) -> anyhow::Result<()> {
    let columns = database.run(&format!("SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"))?;
    assert_eq!(columns.concat(), wanted);
    Ok(())
}

/// An older system: processes in the place of its services.
struct System {
    services: Vec<Service>,
}

struct Service {
    /// The port that its document gives it, 0 if none.
    port: u16,
    role: &'static str,
    server: TestServer,
}

impl System {
    /// Starts a process for each port and role.
    fn start(options: &ServerOptions, services: &[(u16, &'static str)]) -> anyhow::Result<Self> {
        let start = |&(port, role): &(u16, &'static str)| {
            // The preset's addresses for gRPC may be others' here.
            let server = options.clone().role(role).grpc().start_unready()?;
            Ok(Service { port, role, server })
        };
        let mut services = services.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
        for service in &mut services {
            service.server.wait_ready().with_context(|| service.role)?;
        }
        Ok(Self { services })
    }

    /// Runs a command of the document at the process that stands for its port.
    fn run(&self, command: &str) -> anyhow::Result<Response> {
        let Curl { port, request } = Curl::parse(command)?;
        self.at(port)?.send(&request)
    }

    fn get(&self, port: u16, path: &str) -> anyhow::Result<Response> {
        self.at(port)?.send(&Request::get(path))
    }

    fn post(&self, port: u16, path: &str, body: &Value) -> anyhow::Result<Response> {
        self.at(port)?.send(&Request::post_json(path, body.to_string()))
    }

    /// Posts an activity of a second of its own; without an id, one that says the same is the same.
    fn activity(&self, second: u32, user: &str, kind: &str) -> anyhow::Result<()> {
        let activity = json!({"user_id": user, "activity_type": kind, "timestamp": format!("2024-07-01T12:{:02}:{:02}Z", second / 60, second % 60), "metadata": {"page_url": "https://example.com/home"}});
        let answer = self.post(8080, "/activity", &activity)?;
        anyhow::ensure!(answer.status == 200, "{}", answer.text());
        Ok(())
    }

    fn sessions(&self, numbers: std::ops::Range<u32>) -> anyhow::Result<()> {
        for number in numbers {
            let event = json!({"eventId": format!("s{number}"), "sessionId": format!("session-{number}"), "eventType": "page_view", "payload": "{}"});
            let answer = self.post(8081, "/events", &event)?;
            anyhow::ensure!(answer.status == 202, "{}", answer.text());
        }
        Ok(())
    }

    /// Stops the processors as `docker-compose stop` does, and starts them with other settings.
    fn restart_processors(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        for processor in self.processors() {
            let status = processor.terminate()?;
            anyhow::ensure!(status.success(), "{status}: {}", processor.log());
            settings.iter().for_each(|(name, value)| processor.change_setting(name, value));
        }
        self.processors().try_for_each(TestServer::spawn)?;
        self.processors().try_for_each(|processor| processor.wait_ready().map(drop))
    }

    fn processors(&mut self) -> impl Iterator<Item = &mut TestServer> {
        let processors = self.services.iter_mut().filter(|service| service.role == "process");
        processors.map(|service| &mut service.server)
    }

    fn of_role(&self, role: &str) -> Option<&TestServer> {
        self.services.iter().rfind(|service| service.role == role).map(|service| &service.server)
    }

    fn at(&self, port: u16) -> anyhow::Result<&TestServer> {
        let service = self.services.iter().find(|service| service.port == port);
        service.map(|service| &service.server).with_context(|| format!("nobody is at {port}"))
    }
}
