//! What others see: other processes, other logs, and older systems' SQL.

use gristmill_model::SessionId;
use gristmill_testkit::Stopwatch;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_other_processes_are_heard_of() {
    let database = TestDatabase::create().unwrap();
    let (writer, reader) = (Open::at(&database).await, Open::at(&database).await);
    let since = Stopwatch::start();
    for offset in 0..20 {
        commit(&writer.store, &records(offset, offset + 1)).await;
        reader.knows_of(offset + 1).await;
    }
    let elapsed = since.elapsed();
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}: they are found by looking only");
    assert_eq!(totals(&reader.store), [20, 0, 0]);
    // A change that nobody tells of is found by looking.
    database.run("UPDATE gristmill.positions SET next = 21").unwrap();
    reader.knows_of(21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_of_one_log_say_nothing_of_another() {
    let database = TestDatabase::create().unwrap();
    let first = Open::at(&database).await;
    let mut second = Open::begin(&database.url(), "another log");
    second.reached().await.unwrap();
    commit(&first.store, &records(0, 3)).await;
    // The same offsets of another log are other records; two are of events that are there.
    let events = [1, 2, 5, 6].map(event).to_vec();
    let outcomes = commit(&second.store, &batch(0, events)).await;
    use Outcome::{Duplicate, Stored};
    assert_eq!(outcomes, [Duplicate, Duplicate, Stored, Stored]);
    assert_eq!(counted(&database), [5; 3]);
    let next = |open: &Open| open.store.progress().committed.next(FEED);
    assert_eq!((next(&first), next(&second)), (3, 4));
    let again = Open::at(&database).await;
    assert_eq!((next(&again), totals(&again.store)), (3, [3, 0, 0]), "totals are those of the log");
    second.knows_of(4).await;
    assert_eq!(totals(&second.store), [2, 2, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_systems_find_their_tables() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    let mut records = records(0, 4);
    let elsewhere = &mut records.rows[3].event;
    elsewhere.project = ProjectId::new("other");
    elsewhere.session = Some(SessionId::new("s"));
    records.rows[1].event.page_url = "".into();
    records.rows[1].event.session = Some(SessionId::new("s1"));
    records.rows[1].event.properties = r#"{"b":1, "a":"\u0000"}"#.into();
    let twice = records.rows[0].event.clone();
    records.rows[2].event = Event { id: EventId::new("again"), ..twice };
    commit(&open.store, &records).await;

    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let utc = "SET timezone = 'UTC'; ";
    let clicks = "SELECT event_id, user_id, event_type, page_url, time_stamp FROM click_events \
                  ORDER BY event_id";
    let time = "2023-11-14 22:13:20+00";
    assert_eq!(
        database.run(&format!("{utc}{clicks}")).unwrap(),
        [row(&["again", "u0", "view", "/p0", time]), row(&["e0", "u0", "view", "/p0", time])]
    );
    let count = "SELECT click_count FROM page_clicks WHERE user_id = 'u0' AND page_url = '/p0'";
    assert_eq!(database.run(count).unwrap(), [row(&["2"])]);
    let sessions = "SELECT event_id, session_id, event_type, ts, payload->>'payload', \
                    payload->>'ts', payload @> '{\"eventType\":\"view\"}' FROM web_events";
    let time = "2023-11-14 22:13:20.000001+00";
    assert_eq!(
        database.run(&format!("{utc}{sessions}")).unwrap(),
        [row(&[
            "e1",
            "s1",
            "view",
            time,
            r#"{"b":1, "a":"\u0000"}"#,
            "2023-11-14T22:13:20.000001Z",
            "t"
        ])]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_not_written_to() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    let mut records = records(0, 4);
    records.rows[0].event.session = Some(SessionId::new("s"));
    commit(&open.store, &records).await;
    for statement in [
        "DELETE FROM click_events",
        "UPDATE page_clicks SET click_count = 0",
        "INSERT INTO page_clicks VALUES ('u', '/', 1)",
        "DELETE FROM web_events",
    ] {
        let error = format!("{:#}", database.run(statement).unwrap_err());
        assert!(error.contains("cannot be written"), "{statement}: {error}");
        assert_eq!(counted(&database), [4; 3]);
    }
}
