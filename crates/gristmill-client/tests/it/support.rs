//! Sentences that several of these tests speak.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gristmill_client::{
    Clock, Delivered, Entropy, Event, Observer, SenderConfig, Timestamp, Undelivered,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An address at which connecting neither succeeds nor fails.
pub(crate) struct Deaf {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: TcpStream,
}

impl Deaf {
    pub(crate) async fn listen() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // There is room for one connection that nobody accepts.
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = TcpStream::connect(address).await.unwrap();
        Self { address, _listener: listener, _waiting: waiting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Numbers that are all different.
#[derive(Default)]
pub(crate) struct Numbers(AtomicU64);

impl Entropy for Numbers {
    fn next_u128(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// A clock that stands still.
pub(crate) struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }
}

/// Quick to send, quick to try again.
pub(crate) fn quick() -> SenderConfig {
    SenderConfig {
        batch_events: 50,
        linger: Duration::from_millis(1),
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(5),
        ..SenderConfig::default()
    }
}

/// The event of a number, of one of ten users.
pub(crate) fn event(number: usize) -> Event {
    Event::new("view").id(format!("e{number:06}")).user(format!("u{}", number % 10))
}

pub(crate) fn id(number: usize) -> String {
    format!("e{number:06}")
}

/// Fails instead of waiting for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

/// Asks again until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited too long for {what}");
}

/// What a server keeps: each event once, as a real one does.
#[derive(Default)]
pub(crate) struct Kept {
    /// How often each id came.
    pub(crate) copies: BTreeMap<String, u64>,
    /// Users and ids, in the order in which ids came first.
    pub(crate) order: Vec<(String, String)>,
}

impl Kept {
    pub(crate) fn keep(&mut self, event: &serde_json::Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let copies = self.copies.entry(text("id")).or_default();
        *copies += 1;
        if *copies == 1 {
            self.order.push((text("user_id"), text("id")));
        }
    }

    /// Fails unless exactly these events are here, and those of each user in their order.
    pub(crate) fn assert_all(&self, count: usize) {
        let ids: Vec<_> = self.copies.keys().cloned().collect();
        let expected: Vec<_> = (0..count).map(id).collect();
        assert_eq!(ids, expected);
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        for (user, id) in &self.order {
            let before = last.insert(user, id);
            assert!(
                before.is_none_or(|before| before < id.as_str()),
                "{user}: {before:?} before {id}"
            );
        }
    }
}

/// Writes down what it hears.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) delivered: Mutex<Vec<String>>,
    pub(crate) undelivered: Mutex<Vec<Undelivered>>,
}

impl Observer for Notes {
    fn delivered(&self, events: &Delivered) {
        self.delivered.lock().unwrap().extend(events.ids());
    }

    fn undelivered(&self, events: Vec<Undelivered>) -> Vec<Undelivered> {
        self.undelivered.lock().unwrap().extend(events);
        Vec::new()
    }
}

impl Notes {
    /// The ids that it heard of, each as often as it heard.
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids = self.delivered.lock().unwrap().clone();
        ids.extend(self.undelivered.lock().unwrap().iter().map(Undelivered::id));
        ids.sort();
        ids
    }
}
