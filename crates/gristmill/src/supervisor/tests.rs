//! The supervisor's promises, with signals that the tests give.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// What has happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A part with a thread that runs until it is stopped and notes both.
fn part(name: &'static str, diary: &Diary) -> Part {
    let stop = CancellationToken::new();
    let (stopping, asked, ended) = (stop.clone(), diary.clone(), diary.clone());
    let mut part = Part::new(name, async move {
        asked.note(format!("stop {name}"));
        stopping.cancel();
    });
    let runtime = tokio::runtime::Handle::current();
    let run = move || {
        runtime.block_on(stop.cancelled());
        ended.note(format!("end {name}"));
        Ok(())
    };
    part.thread(name, run).unwrap();
    part
}

/// A part that cannot be stopped.
fn stubborn(name: &'static str) -> Part {
    let mut part = Part::new(name, async {});
    part.task(name, std::future::pending());
    part
}

fn error_of(result: anyhow::Result<()>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[tokio::test]
async fn a_signal_stops_the_parts_one_after_the_other() {
    let diary = Diary::default();
    let parts = vec![part("server", &diary), part("log", &diary), part("store", &diary)];
    let mut signals = vec!["SIGTERM"];
    let next = async || match signals.pop() {
        Some(signal) => signal,
        None => std::future::pending().await,
    };
    supervise(parts, PATIENCE, next).await.unwrap();
    let expected = ["stop server", "end server", "stop log", "end log", "stop store", "end store"];
    assert_eq!(diary.entries(), expected);
}

#[tokio::test]
async fn the_first_exit_ends_everything_and_is_named() {
    for (result, says) in [(Err(anyhow!("disk on fire")), "disk on fire"), (Ok(()), "asked")] {
        let diary = Diary::default();
        let mut failing = Part::new("log", async {});
        failing.thread("log-writer", move || result).unwrap();
        let parts = vec![part("server", &diary), failing, part("store", &diary)];
        let error = error_of(supervise(parts, PATIENCE, std::future::pending).await);
        assert!(error.contains("log-writer failed") && error.contains(says), "{error}");
        // The server has stopped, so that clients have had their answers.
        assert_eq!(diary.entries(), ["stop server", "end server"]);
    }
}

#[tokio::test]
async fn a_panic_is_an_exit() {
    let mut failing = Part::new("log", async {});
    failing.thread("log-writer", || panic!("a bug")).unwrap();
    let error = error_of(supervise(vec![failing], PATIENCE, std::future::pending).await);
    assert!(error.contains("log-writer failed: its thread panicked"), "{error}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let error = error_of(supervise(vec![stubborn("server")], PATIENCE, async || "SIGINT").await);
    assert!(error.contains("second SIGINT"), "{error}");
}

#[tokio::test]
async fn the_deadline_names_the_part_that_is_late() {
    let diary = Diary::default();
    let parts = vec![part("server", &diary), stubborn("log")];
    let mut first = true;
    let next = async || {
        if std::mem::take(&mut first) { "SIGTERM" } else { std::future::pending().await }
    };
    let error = error_of(supervise(parts, Duration::from_millis(50), next).await);
    assert!(error.contains("log did not stop within 0.05 s"), "{error}");
}
