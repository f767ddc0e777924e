//! Stopping and starting: in good order, twice on one folder, with what was acknowledged intact.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gristmill_testkit::{Connection, Request, TestServer, http, wait_until};
use serde_json::json;

use crate::profiles::on_each_profile;
use crate::support::{server, summary, wait_for_total};

#[test]
fn orderly_stop_under_load_answers_what_it_took_and_keeps_it() -> anyhow::Result<()> {
    on_each_profile(&server(), |deployment| {
        let address = deployment.front().address();
        let accepted = AtomicU64::new(0);
        let is_stopped = AtomicBool::new(false);

        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (accepted, is_stopped) = (&accepted, &is_stopped);
                scope.spawn(move || write(address, writer, accepted, is_stopped));
            }
            let loaded = wait_until("some answers", Duration::from_secs(30), || {
                (accepted.load(Ordering::SeqCst) > 100).then_some(())
            });
            let stopped = loaded.and_then(|()| deployment.stop());
            is_stopped.store(true, Ordering::SeqCst);
            stopped
        })?;

        deployment.start()?;
        let total = summary(deployment.front())?["total_events"].as_u64().unwrap_or_default();
        let accepted = accepted.into_inner();
        // A connection that was cut after its event was taken leaves that event unknown to its writer.
        assert!((accepted..=accepted + 4).contains(&total), "{total} of {accepted} acknowledged");
        Ok(())
    })
}

/// Posts events until the server is stopped.
fn write(address: SocketAddr, writer: u64, accepted: &AtomicU64, is_stopped: &AtomicBool) {
    for number in 0_u64.. {
        let id = format!("{writer}-{number}");
        let event = json!({"id": id, "user_id": "u", "event_type": "t"});
        let request = Request::post_json("/v1/events", event.to_string());
        match http::send(address, &request) {
            Ok(answer) if answer.status == 200 => {
                accepted.fetch_add(1, Ordering::SeqCst);
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
            // Between the signal and the end a connection may be refused or cut.
            Err(_) => {}
        }
        if is_stopped.load(Ordering::SeqCst) {
            return;
        }
    }
}

#[test]
fn answers_are_the_same_after_stop_and_kill() -> anyhow::Result<()> {
    on_each_profile(&server(), |deployment| {
        let events: Vec<_> = (0..1_000)
            .map(|n| {
                let (event_type, plan) = (["view", "like", "buy"][n % 3], ["free", "paid"][n % 2]);
                json!({
                    "id": format!("e{n}"),
                    "user_id": format!("u{}", n % 37),
                    "session_id": format!("s{}", n % 101),
                    "event_type": event_type,
                    "timestamp": 1_700_000_000 + n * 600,
                    "page_url": format!("/p/{}", n % 11),
                    "properties": {"plan": plan, "n": n},
                })
            })
            .collect();
        let answer = deployment
            .front()
            .post_json("/v1/events/batch?wait=visible", &json!({"events": events}))?;
        assert_eq!(answer["accepted"], 1_000);

        let questions = [
            "/v1/analytics/summary",
            "/v1/analytics/timeseries?metric=count&granularity=day&tz=Asia/Kolkata",
            "/v1/analytics/timeseries?metric=unique_users&granularity=day&group_by=plan",
            "/v1/analytics/top?property=page_url&event_type=view&limit=5",
            "/v1/analytics/users/u7",
        ];
        // As tables, which say nothing of when and how fast they were made.
        let ask = |server: &TestServer| {
            let answers = questions.iter().map(|question| {
                let answer = server.send(&Request::get(question).header("accept", "text/csv"))?;
                anyhow::ensure!(answer.status == 200, "{question}: {}", answer.text());
                Ok(answer.text())
            });
            answers.collect::<anyhow::Result<Vec<_>>>()
        };
        let before = ask(deployment.front())?;
        assert!(
            before[0].starts_with("name,event_type,value\r\ntotal_events,,1000\r\n"),
            "{before:?}"
        );

        deployment.restart()?;
        assert_eq!(ask(deployment.front())?, before, "after an orderly stop");
        deployment.crash()?;
        assert_eq!(ask(deployment.front())?, before, "after a kill");

        let answer = deployment
            .front()
            .post_json("/v1/events/batch?wait=visible", &json!({"events": events}))?;
        assert_eq!(answer["accepted"], 1_000);
        assert_eq!(answer["results"][999]["status"], "duplicate");
        wait_for_total(deployment.front(), 1_000)
    })
}

#[test]
fn second_process_on_the_same_folder_refuses_and_harms_nothing() -> anyhow::Result<()> {
    let server = server().start()?;
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().unwrap_or_default();
    let output = server.command(&["serve", "--data-dir", data_dir, "--listen", "127.0.0.1:0"])?;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(data_dir) || said.contains("lock"), "{said}");

    let event = Request::post_json("/v1/events", r#"{"user_id":"u","event_type":"t"}"#);
    assert_eq!(Connection::open(server.address())?.send(&event)?.status, 200);
    wait_for_total(&server, 1)
}

#[test]
fn any_address_but_loopback_needs_a_word() -> anyhow::Result<()> {
    let server = server().start()?;
    let output = server.command(&["serve", "--data-dir", "other", "--listen", "0.0.0.0:0"])?;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("--insecure-no-auth"), "{said}");
    Ok(())
}
