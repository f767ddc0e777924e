//! Driving a server: many connections at once, as fast as they are answered or at an even rate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gristmill_model::Clock;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Connection;
use super::payload::{Payload, PayloadShape};
use super::{Latencies, Schedule};
use crate::ambient;

/// How long a connection rests after a rejection or an error.
const REST: Duration = Duration::from_millis(10);

/// What is sent, how, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) shape: PayloadShape,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    /// Events per second over all connections; without it, as many as are answered.
    pub(crate) rate: Option<u64>,
    /// Runs with different seeds send different events.
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Clone, Default, Serialize)]
pub(crate) struct Driven {
    /// Requests with any answer.
    pub(crate) requests: u64,
    /// Events of requests that were answered 200; what the answer says, where it says.
    pub(crate) accepted: u64,
    /// Events of requests that had no answer.
    pub(crate) unknown: u64,
    /// Answers other than 200, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Connections that broke or could not be made.
    pub(crate) broken: u64,
    /// Of requests answered 200; at an even rate, from when they were due.
    pub(crate) latencies: Latencies,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Driven {
    /// Accepted events per second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.accepted as f64 / self.seconds } else { 0.0 }
    }

    fn add(&mut self, other: &Driven) {
        self.requests += other.requests;
        self.accepted += other.accepted;
        self.unknown += other.unknown;
        self.broken += other.broken;
        self.latencies.add_all(&other.latencies);
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
    }
}

/// Sends the workload to a server and waits for the last answers.
pub(crate) async fn drive(
    address: SocketAddr,
    workload: Workload,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Driven> {
    let pace = workload.rate.map(|rate| {
        let schedule = Schedule::start(rate as f64 / workload.shape.batch as f64);
        Pace { schedule, next: Arc::new(AtomicU64::new(0)) }
    });
    let host = host_lines(address)?;
    let started = Instant::now();
    let mut lanes = JoinSet::new();
    for number in 0..workload.connections {
        let seed = workload.seed ^ crate::generate::Random::new(number as u64).next();
        let lane = Lane {
            address,
            payload: Payload::new(workload.shape, &host, seed),
            clock: Arc::clone(&clock),
            pace: pace.clone(),
            end: started + workload.duration,
            driven: Driven::default(),
        };
        lanes.spawn(lane.run());
    }
    let mut all = Driven::default();
    while let Some(driven) = lanes.join_next().await {
        all.add(&driven?);
    }
    all.seconds = started.elapsed().as_secs_f64();
    Ok(all)
}

/// What comes after `Host: ` in each request: the address, and the API key in a line of its own.
fn host_lines(address: SocketAddr) -> anyhow::Result<String> {
    let key = ambient::text_of_api_key()?;
    Ok(key.map_or(address.to_string(), |key| format!("{address}\r\nX-Api-Key: {key}")))
}

/// An even rate that all connections share: each takes the next request that is due.
#[derive(Clone)]
struct Pace {
    schedule: Schedule,
    next: Arc<AtomicU64>,
}

/// One connection's work.
struct Lane {
    address: SocketAddr,
    payload: Payload,
    clock: Arc<dyn Clock>,
    pace: Option<Pace>,
    end: Instant,
    driven: Driven,
}

impl Lane {
    async fn run(mut self) -> Driven {
        while Instant::now() < self.end {
            match Connection::open(self.address).await {
                Ok(mut connection) => self.use_up(&mut connection).await,
                Err(_) => {
                    self.driven.broken += 1;
                    tokio::time::sleep(REST).await;
                }
            }
        }
        self.driven
    }

    /// Sends over a connection until it breaks or time is up.
    async fn use_up(&mut self, connection: &mut Connection) {
        loop {
            let due = match &self.pace {
                Some(pace) => {
                    let due = pace.schedule.due(pace.next.fetch_add(1, Ordering::Relaxed));
                    tokio::time::sleep_until(due).await;
                    due
                }
                None => Instant::now(),
            };
            if due >= self.end {
                // The end may lie before this instant only by the length of one request.
                return tokio::time::sleep_until(self.end).await;
            }
            let events = self.payload.events() as u64;
            let request = self.payload.next(self.clock.now());
            match connection.exchange(request).await {
                Ok(answer) => {
                    self.driven.requests += 1;
                    if answer.status == 200 {
                        self.driven.accepted += answer.accepted.unwrap_or(events);
                        self.driven.latencies.add(due.elapsed());
                    } else {
                        *self.driven.refused.entry(answer.status).or_default() += 1;
                        tokio::time::sleep(REST).await;
                    }
                }
                Err(_) => {
                    self.driven.broken += 1;
                    self.driven.unknown += events;
                    return tokio::time::sleep(REST).await;
                }
            }
        }
    }
}
