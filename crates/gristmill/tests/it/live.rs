//! Live questions over events in columns.

use gristmill_testkit::{Connection, Request, TestServer, http};
use serde_json::json;

use crate::support::{metric, server, wait_for_total};

const USERS: usize = 4_000;
const BATCH: usize = 500;

#[test]
fn a_live_funnel_looks_only_at_users_near_those_with_new_events() -> anyhow::Result<()> {
    let server = server().start()?;
    let users: Vec<usize> = (0..USERS).collect();
    for some in users.chunks(BATCH) {
        let views = some.iter().map(|user| event(&user.to_string(), "view", 10));
        let events: Vec<_> =
            views.chain(some.iter().map(|user| event(&user.to_string(), "buy", 20))).collect();
        take_in(&server, &json!(events))?;
    }
    wait_for_total(&server, 2 * USERS as u64)?;
    let done = server.command(&["compact", &format!("--url=http://{}", server.address())])?;
    assert!(done.status.success(), "{done:?}");

    let steps = json!({"steps": [{"event_type": "view"}, {"event_type": "buy"}]});
    let target = format!("/v1/analytics/funnel?question={}", http::encode(&steps.to_string()));
    let mut live = Connection::open(server.address())?;
    live.write(&Request::get(&target).header("accept", "text/event-stream").to_bytes())?;
    live.read_through(&format!(r#""total_users":{USERS}"#))?;
    let walked_first = metric(&server, "gristmill_live_rows_total")?;
    assert!(walked_first >= 2 * USERS as u64, "{walked_first}");

    take_in(&server, &json!([event("somebody", "buy", 20)]))?;
    let revision = live.read_through(&format!(r#""total_users":{}"#, USERS + 1))?;
    assert!(!revision.contains(&format!(r#""users":{}"#, USERS + 1)), "{revision}");
    // What comes late is of an earlier time.
    take_in(&server, &json!([event("somebody", "view", 10)]))?;
    let both = format!(r#""users":{}"#, USERS + 1);
    let revision = live.read_through(&both)?;
    assert!(revision.contains("event: revision"), "{revision}");
    let walked = metric(&server, "gristmill_live_rows_total")? - walked_first;
    assert!(walked * 10 < walked_first, "{walked} rows after {walked_first}");
    Ok(())
}

fn event(user: &str, event_type: &str, second: u8) -> serde_json::Value {
    json!({
        "id": format!("{user}-{event_type}"),
        "user_id": user,
        "event_type": event_type,
        "timestamp": format!("2024-05-01T12:00:{second}Z"),
    })
}

fn take_in(server: &TestServer, events: &serde_json::Value) -> anyhow::Result<()> {
    server.post_json("/v1/events/batch", events).map(drop)
}
