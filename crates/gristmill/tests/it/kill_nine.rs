//! `kill -9` at random moments under load: no acknowledged event is lost, none is counted twice,
//! and the server is ready again soon.
//!
//! `GRISTMILL_CHAOS_CYCLES` sets how often, `GRISTMILL_CHAOS_SEED` repeats a run's choices.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Connection, Ledger, Request, SeededEntropy, TestDatabase, TestServer, pause, setting,
    wait_until,
};
use serde_json::{Value, json};

use crate::postgres;
use crate::support::{counts_of_type, server, store_number, summary};

const CYCLES: u64 = 30;
const POSTGRES_CYCLES: u64 = 8;
const WRITERS: u64 = 4;
/// Of how many cycles the events are looked up one by one at the end: all, unless it is a long run,
/// which counts the others.
const CYCLES_LOOKED_UP: usize = CYCLES as usize;
/// The most events of one writer in one cycle; one question tells the counts of so many ids.
const EVENTS_PER_WRITER: u64 = 5_000;
const READY_WITHIN: Duration = Duration::from_secs(3);

#[test]
fn kill_nine_under_load_loses_nothing_and_counts_nothing_twice() -> anyhow::Result<()> {
    let cycles = setting("GRISTMILL_CHAOS_CYCLES").map_or(Ok(CYCLES), |text| text.parse())?;
    let default_seed = u64::from(std::process::id());
    let seed = setting("GRISTMILL_CHAOS_SEED").map_or(Ok(default_seed), |text| text.parse())?;
    // Little is kept in memory, so that kills meet the sealing and merging of files as well.
    let server = server().setting("GRISTMILL__STORE__SEAL_BYTES", "1 MiB").start()?;
    let server = survives(server, cycles, seed)?;
    assert!(store_number(&server, "parts")? > 0, "the kills met no sealing");
    Ok(())
}

#[test]
fn kill_nine_with_postgres_loses_nothing_and_counts_nothing_twice() -> anyhow::Result<()> {
    let seed = u64::from(std::process::id());
    let database = TestDatabase::create()?;
    survives(postgres::server(&database).start()?, POSTGRES_CYCLES, seed)?;
    let counts = "SELECT (SELECT count(*) FROM gristmill.events), \
                  (SELECT count(DISTINCT (project, user_id, event_id)) FROM gristmill.events), \
                  (SELECT sum(stored) FROM gristmill.positions)";
    let counts = database.run(counts)?.remove(0);
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    Ok(())
}

/// Kills a server again and again, and gives it back when all is found as it should be.
#[expect(clippy::print_stdout, reason = "a long run tells how far it is and how to repeat it")]
fn survives(mut server: TestServer, cycles: u64, seed: u64) -> anyhow::Result<TestServer> {
    println!("GRISTMILL_CHAOS_CYCLES={cycles} GRISTMILL_CHAOS_SEED={seed}");
    let entropy = SeededEntropy::new(seed);
    let mut ledgers = Vec::new();
    let mut counted = BTreeMap::new();
    let mut slowest = Duration::ZERO;
    for cycle in 0..cycles {
        let ledger = one_cycle(&mut server, cycle, &entropy)
            .with_context(|| format!("cycle {cycle}, seed {seed}"))?;
        ledgers.push(ledger);
        slowest = slowest.max(restart(&mut server, &entropy)?);
        let writers = &ledgers[ledgers.len() - 1..];
        let counted_before = check(&server, writers)?;
        for writer in writers.iter().flatten() {
            writer.resend(&server, &entropy)?;
        }
        let counted_after = check(&server, writers)?;
        let (before, after) = (sum(&counted_before), sum(&counted_after));
        println!("cycle {cycle}: {before} events counted, {after} after sending again");
        counted.extend(counted_after);
    }

    let look_up = |server: &TestServer| -> anyhow::Result<()> {
        let step = ledgers.len().div_ceil(CYCLES_LOOKED_UP).max(1);
        let found = ledgers.iter().rev().step_by(step).map(|ledger| {
            let found = check(server, std::slice::from_ref(ledger))?;
            assert!(found.iter().all(|(kind, count)| counted.get(kind) == Some(count)));
            Ok(())
        });
        found.collect()
    };
    assert_eq!(counts_by_type(&server)?, counted, "all events are in the ledgers");
    look_up(&server)?;
    server.terminate()?;
    slowest = slowest.max(server.restart()?);
    assert_eq!(counts_by_type(&server)?, counted, "after an orderly restart");
    look_up(&server)?;
    println!("{cycles} kills, {} events counted once, slowest start {slowest:?}", sum(&counted));
    assert!(slowest < READY_WITHIN, "it took {slowest:?} until the server was ready");
    Ok(server)
}

/// One writer of one cycle and what it knows. Its events have a type of their own.
struct Writer {
    event_type: String,
    ledger: Ledger,
}

/// Lets several writers send until the server is killed.
fn one_cycle(
    server: &mut TestServer,
    cycle: u64,
    entropy: &SeededEntropy,
) -> anyhow::Result<Vec<Writer>> {
    let name = |writer| format!("cycle-{cycle}-writer-{writer}");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| Writer { event_type: name(writer), ledger: Ledger::new() })
        .collect();
    // Half of the kills wait for a number of answers, the others for a time that may end before
    // the first or long after the last.
    let answers = AtomicU64::new(0);
    let wanted_answers = 1 + entropy.below(200);
    let wanted_time = Duration::from_micros(entropy.below(300_000));
    let kills_by_answers = entropy.below(2) == 0;

    let address = server.address();
    std::thread::scope(|scope| {
        for writer in &writers {
            let choices = SeededEntropy::new(entropy.next_u64());
            let answers = &answers;
            scope.spawn(move || {
                let connection = Connection::open(address);
                let sent = connection.and_then(|it| writer.write(it, &choices, answers));
                // The killed connection ends the writer, as it should; nonsense in an answer
                // must not.
                if let Err(error) = sent {
                    assert_ne!(error.kind(), io::ErrorKind::InvalidData, "{error}");
                }
            });
        }
        if kills_by_answers {
            wait_until("answers", Duration::from_secs(30), || {
                (answers.load(Ordering::Relaxed) >= wanted_answers).then_some(())
            })?;
        } else {
            pause(wanted_time);
        }
        server.kill9()
    })?;
    Ok(writers)
}

impl Writer {
    /// Sends batches of random sizes until the connection breaks or the writer's share is sent.
    fn write(
        &self,
        mut connection: Connection,
        choices: &SeededEntropy,
        answers: &AtomicU64,
    ) -> io::Result<()> {
        let mut next = 0;
        while next < EVENTS_PER_WRITER {
            let size = if choices.below(4) == 0 { 1 } else { 1 + choices.below(100) };
            let end = (next + size).min(EVENTS_PER_WRITER);
            let ids: Vec<_> = (next..end).map(|n| self.id(n)).collect();
            next = end;
            self.send(&mut connection, "/v1/events/batch", &ids)?;
            answers.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sends half of what was never answered again, as a client should, and with it some of what
    /// was answered, as a client that lost its notes would. Waits until it can be queried.
    fn resend(&self, server: &TestServer, choices: &SeededEntropy) -> anyhow::Result<()> {
        let mut ids = self.ledger.unknown();
        ids.retain(|_| choices.below(2) == 0);
        ids.extend((0..5.min(self.ledger.len() as u64)).map(|n| self.id(n)));
        let mut connection = Connection::open(server.address())?;
        for ids in ids.chunks(1_000) {
            self.send(&mut connection, "/v1/events/batch?wait=visible", ids)?;
        }
        Ok(())
    }

    /// Sends one batch and writes down what became of it.
    fn send(&self, connection: &mut Connection, target: &str, ids: &[String]) -> io::Result<()> {
        for id in ids {
            self.ledger.sending(id);
        }
        let events: Vec<_> = ids.iter().map(|id| self.event(id)).collect();
        let request = Request::post_json(target, json!({"events": events}).to_string());
        let response = connection.send(&request)?;
        for id in ids {
            match response.status {
                200 => self.ledger.accepted(id),
                429 | 503 => self.ledger.rejected(id),
                status => panic!("status {status}: {}", response.text()),
            }
        }
        Ok(())
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.event_type)
    }

    /// The event with an id, the same each time it is asked for.
    fn event(&self, id: &str) -> Value {
        let (day, user) = (1 + id.len() % 28, id.bytes().map(usize::from).sum::<usize>() % 50);
        json!({
            "id": id,
            "user_id": format!("user-{user}"),
            "event_type": self.event_type,
            "timestamp": format!("2024-05-{day:02}T10:00:00Z"),
            "properties": {"id": id},
        })
    }
}

/// Starts the server again; sometimes it is killed once more while it starts.
fn restart(server: &mut TestServer, entropy: &SeededEntropy) -> anyhow::Result<Duration> {
    while entropy.below(4) == 0 {
        server.spawn()?;
        pause(Duration::from_micros(entropy.below(100_000)));
        server.kill9()?;
    }
    server.restart()
}

/// How many events of each type are counted; a type without any is not named.
type Counts = BTreeMap<String, u64>;

/// Holds ledgers against the server, event by event, and gives how many are counted. It does not
/// wait: a server that says it is ready shows everything that was acknowledged.
fn check(server: &TestServer, cycles: &[Vec<Writer>]) -> anyhow::Result<Counts> {
    let mut counted = Counts::new();
    for writer in cycles.iter().flatten() {
        let tally = writer.ledger.check(&counts_of_type(server, &writer.event_type)?)?;
        let count = (tally.accepted + tally.unknown_counted) as u64;
        if count > 0 {
            counted.insert(writer.event_type.clone(), count);
        }
    }
    Ok(counted)
}

fn counts_by_type(server: &TestServer) -> anyhow::Result<Counts> {
    Ok(serde_json::from_value(summary(server)?["events_by_type"].take())?)
}

fn sum(counts: &Counts) -> u64 {
    counts.values().sum()
}
