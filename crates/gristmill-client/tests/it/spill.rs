//! Events on disk while the server is away.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gristmill_client::{SendError, Sender, SenderConfig, SpillConfig};

use crate::http_server::{Act, HttpServer};
use crate::support::{event, quick, soon, until};

const COUNT: usize = 600;

fn spilling(dir: &Path) -> SenderConfig {
    let spill = SpillConfig {
        segment_bytes: 4 * 1024,
        after: Duration::from_millis(5),
        ..SpillConfig::in_dir(dir)
    };
    SenderConfig { spill: Some(spill), ..quick() }
}

async fn send_all(sender: &Sender, numbers: std::ops::Range<usize>) {
    for number in numbers {
        soon(sender.send(&event(number))).await.unwrap();
    }
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    paths.sort();
    paths
}

/// A directory with so many events in it, of a program that ended while the server was away.
async fn left_behind(server: &HttpServer, count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let sender = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
    send_all(&sender, 0..count).await;
    let report = soon(sender.close()).await;
    assert_eq!((report.on_disk, report.is_complete()), (count as u64, true), "{report:?}");
    dir
}

/// A sender with so many events in a directory, whose server is away.
async fn with_events_on_disk(count: usize) -> (HttpServer, tempfile::TempDir, Sender) {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    let dir = tempfile::tempdir().unwrap();
    let sender = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
    send_all(&sender, 0..count).await;
    assert_eq!(soon(sender.flush()).await.on_disk, count as u64);
    (server, dir, sender)
}

#[tokio::test]
async fn a_directory_without_a_number_left_is_refused() {
    let server = HttpServer::start([]).await;
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join(format!("{}.spill", u64::MAX))).unwrap();
    let Err(error) = Sender::start(&server.client(), spilling(dir.path())).await else {
        panic!("it starts")
    };
    assert!(error.to_string().contains("no number after"), "{error}");
}

#[tokio::test]
async fn events_wait_on_disk_and_go_in_order_when_the_server_is_back() {
    let mut server = HttpServer::start([]).await;
    let dir = tempfile::tempdir().unwrap();
    let sender = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
    send_all(&sender, 0..200).await;
    assert!(soon(sender.flush()).await.is_complete());
    // On a busy machine some went to disk before they were sent.
    soon(sender.caught_up()).await;
    server.kill().await;
    send_all(&sender, 200..400).await;
    // Known now means on disk.
    let report = soon(sender.flush()).await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.delivered, report.on_disk), (200, 200));
    server.revive().await;
    send_all(&sender, 400..COUNT).await;
    soon(sender.flush()).await.undelivered.is_empty().then_some(()).unwrap();
    soon(sender.caught_up()).await;
    let report = soon(sender.close()).await;
    assert_eq!((report.delivered, report.on_disk), (COUNT as u64, 0), "{report:?}");
    server.kept(|kept| kept.assert_all(COUNT));
    assert_eq!(files(dir.path(), "spill"), Vec::<PathBuf>::new(), "nothing is left");
}

#[tokio::test]
async fn events_on_disk_survive_a_restart_of_the_program() {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    let dir = left_behind(&server, 300).await;
    assert!(files(dir.path(), "spill").len() > 3, "several segments");
    server.revive().await;
    let sender = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
    send_all(&sender, 300..COUNT).await;
    soon(sender.flush()).await.undelivered.is_empty().then_some(()).unwrap();
    soon(sender.caught_up()).await;
    let report = soon(sender.close()).await;
    assert_eq!((report.delivered, report.on_disk), (COUNT as u64, 0));
    server.kept(|kept| kept.assert_all(COUNT));
}

#[tokio::test]
async fn a_sender_that_is_dropped_leaves_its_events_on_disk() {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    let dir = tempfile::tempdir().unwrap();
    let sender = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
    send_all(&sender, 0..COUNT).await;
    drop(sender);
    assert!(files(dir.path(), "spill").len() > 3, "several segments");
    server.revive().await;
    let sender = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
    soon(sender.caught_up()).await;
    assert!(soon(sender.close()).await.is_complete());
    server.kept(|kept| kept.assert_all(COUNT));
}

#[tokio::test]
async fn a_torn_tail_costs_nothing_that_was_told_as_kept() {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    for torn in [&b"\x10"[..], b"\xff\x0f\x00\x00\x01\x00\x00\x00abcdhalf a record"] {
        server.state.lock().unwrap().kept = Default::default();
        let dir = left_behind(&server, 100).await;
        let last = files(dir.path(), "spill").pop().unwrap();
        File::options().append(true).open(last).unwrap().write_all(torn).unwrap();
        server.revive().await;
        let sender = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
        soon(sender.caught_up()).await;
        assert!(soon(sender.close()).await.is_complete());
        server.kept(|kept| kept.assert_all(100));
        server.kill().await;
    }
}

#[tokio::test]
async fn damage_is_told_and_set_aside() {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    let dir = left_behind(&server, 300).await;
    let first = files(dir.path(), "spill").remove(0);
    let mut bytes = fs::read(&first).unwrap();
    let end = bytes.len() - 5;
    bytes[end] ^= 1;
    fs::write(&first, bytes).unwrap();
    server.revive().await;
    let sender = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
    soon(sender.caught_up()).await;
    let report = soon(sender.close()).await;
    assert_eq!((report.damaged_files, report.is_complete()), (1, false));
    assert_eq!(files(dir.path(), "damaged").len(), 1);
    server.kept(|kept| assert!(kept.copies.len() > 200, "{}", kept.copies.len()));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_now_is_tried_again() {
    let (mut server, dir, sender) = with_events_on_disk(300).await;
    // The first is being sent, so its beginning was read.
    let second = files(dir.path(), "spill").remove(1);
    let elsewhere = second.with_extension("elsewhere");
    fs::rename(&second, &elsewhere).unwrap();
    fs::create_dir(&second).unwrap();
    server.revive().await;
    until("the error", || sender.stats().last_error.contains("cannot read")).await;
    fs::remove_dir(&second).unwrap();
    fs::rename(&elsewhere, &second).unwrap();
    soon(sender.caught_up()).await;
    let report = soon(sender.close()).await;
    assert_eq!((report.delivered, report.is_complete()), (300, true), "{report:?}");
    server.kept(|kept| kept.assert_all(300));
}

#[tokio::test]
async fn a_file_that_is_gone_is_told_and_holds_nothing_up() {
    let (mut server, dir, sender) = with_events_on_disk(300).await;
    fs::remove_file(files(dir.path(), "spill").remove(1)).unwrap();
    server.revive().await;
    soon(sender.caught_up()).await;
    let report = soon(sender.close()).await;
    assert_eq!((report.on_disk, report.damaged_files), (0, 1), "{report:?}");
    server.kept(|kept| assert!(kept.copies.len() > 100, "{}", kept.copies.len()));
}

/// What the test below runs, in a process of its own.
#[tokio::test]
#[ignore = "needs a limit on the size of files"]
async fn without_room_on_the_disk() {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    let dir = tempfile::tempdir().unwrap();
    let give_up_after = Duration::from_millis(100);
    let config = SenderConfig { give_up_after, lanes: 1, ..spilling(dir.path()) };
    let sender = Sender::start(&server.client(), config).await.unwrap();
    for round in 0..5 {
        send_all(&sender, round * 50..round * 50 + 50).await;
        let report = soon(sender.flush()).await;
        assert_eq!((report.undelivered.len(), report.on_disk), (50, 0));
    }
    assert_eq!(files(dir.path(), "spill"), Vec::<PathBuf>::new());
    drop(sender);
    assert_eq!(files(dir.path(), "spill"), Vec::<PathBuf>::new());
}

#[test]
fn tries_without_room_on_the_disk_leave_nothing_there() {
    // Files may hold nothing at all, or their beginning and less than a batch.
    for blocks in ["0", "1"] {
        let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let run = Command::new("sh")
            .args(["-c", &limited])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "spill::without_room_on_the_disk", "--ignored"])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && told.contains("1 passed"), "{blocks}: {told}");
    }
}

#[tokio::test]
async fn a_full_spill_holds_back_like_a_full_buffer() {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config =
        SenderConfig { buffer_events: 100, batch_bytes: 2_000, ..spilling(dir.path()) };
    config.spill.as_mut().unwrap().max_bytes = 16 * 1024;
    let sender = Sender::start(&server.client(), config).await.unwrap();
    let mut taken = 0;
    let filling = async {
        while sender.stats().on_disk < 100 || sender.stats().events < 100 {
            match sender.try_send(&event(taken)) {
                Ok(()) => taken += 1,
                Err(error) => assert_eq!(error, SendError::Full),
            }
            tokio::task::yield_now().await;
        }
    };
    soon(filling).await;
    let bytes: u64 =
        files(dir.path(), "spill").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= 16 * 1024, "{bytes}");
    server.revive().await;
    let report = soon(sender.flush()).await;
    assert!(report.is_complete(), "{report:?}");
    soon(sender.caught_up()).await;
    assert!(soon(sender.close()).await.is_complete());
    server.kept(|kept| kept.assert_all(taken));
}

#[tokio::test]
async fn what_finds_no_room_on_disk_is_given_back_in_time() {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = SenderConfig {
        batch_bytes: 2_000,
        give_up_after: Duration::from_millis(300),
        ..spilling(dir.path())
    };
    config.spill.as_mut().unwrap().max_bytes = 16 * 1024;
    let sender = Sender::start(&server.client(), config).await.unwrap();
    send_all(&sender, 0..COUNT).await;
    let report = soon(sender.flush()).await;
    let given_back = report.undelivered.len() as u64 + report.forgotten;
    assert!(report.on_disk > 0 && given_back > 0, "{report:?}");
    assert_eq!(report.on_disk + given_back, COUNT as u64, "{report:?}");
    assert!(report.undelivered.iter().all(|event| !event.may_have_arrived), "{report:?}");
}

#[tokio::test]
async fn a_refused_key_loses_nothing_that_can_be_kept() {
    let server = HttpServer::start(std::iter::repeat_n(Act::Answer(401, ""), 20)).await;
    let dir = tempfile::tempdir().unwrap();
    let sender = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
    send_all(&sender, 0..100).await;
    assert!(soon(sender.flush()).await.is_complete());
    until("the key to be put right", || server.state.lock().unwrap().script.is_empty()).await;
    soon(sender.caught_up()).await;
    assert!(soon(sender.close()).await.is_complete());
    server.kept(|kept| kept.assert_all(100));
}

#[tokio::test]
async fn a_directory_has_one_sender() {
    let server = HttpServer::start([]).await;
    let dir = tempfile::tempdir().unwrap();
    let first = Sender::start(&server.client(), spilling(dir.path())).await.unwrap();
    assert!(Sender::start(&server.client(), spilling(dir.path())).await.is_err());
    assert!(soon(first.close()).await.is_complete());
}
