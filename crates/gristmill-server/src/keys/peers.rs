//! Addresses that try keys: whoever has tried too many wrong ones is not listened to for a while.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_model::{Clock, ErrorCode, Micros, Timestamp, limits};

use crate::problem::Problem;

/// Over how long wrong keys are counted, and for how long an address is not listened to, in
/// microseconds.
const WHILE: Micros = 60_000_000;

/// The address at the other end of a request's connection. It stands in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Addresses that tried wrong keys lately.
pub(crate) struct Peers {
    clock: Arc<dyn Clock>,
    tries: Mutex<HashMap<IpAddr, Tries>>,
}

#[derive(Clone, Copy)]
struct Tries {
    since: Timestamp,
    count: u32,
}

impl Peers {
    /// Nobody yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, tries: Mutex::default() }
    }

    /// Counts a wrong key. Says whether it is one too many.
    pub(crate) fn has_failed(&self, peer: Option<Peer>) -> Result<(), Problem> {
        let Some(Peer(address)) = peer else { return Ok(()) };
        let (now, address) = (self.clock.now(), network_of(address));
        let mut all = self.lock();
        if all.len() >= limits::WRONG_KEY_ADDRESSES && !all.contains_key(&address) {
            make_room(&mut all, now);
        }
        let tries = all.entry(address).or_insert(Tries { since: now, count: 0 });
        if !tries.is_recent(now) {
            *tries = Tries { since: now, count: 0 };
        }
        tries.count = tries.count.saturating_add(1);
        if tries.count <= limits::WRONG_KEYS_A_MINUTE {
            return Ok(());
        }
        Err(slower(*tries, now))
    }

    /// Refuses an address that has tried too much.
    pub(crate) fn check(&self, peer: Option<Peer>) -> Result<(), Problem> {
        let Some(Peer(address)) = peer else { return Ok(()) };
        let now = self.clock.now();
        match self.lock().get(&network_of(address)) {
            Some(tries) if tries.count >= limits::WRONG_KEYS_A_MINUTE && tries.is_recent(now) => {
                Err(slower(*tries, now))
            }
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Tries>> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tries {
    fn is_recent(&self, now: Timestamp) -> bool {
        (0..WHILE).contains(&now.since(self.since))
    }
}

fn slower(tries: Tries, now: Timestamp) -> Problem {
    let wait = (WHILE - now.since(tries.since)).max(0) as u64;
    let detail = "too many wrong API keys came from this address: come again later";
    Problem::new(ErrorCode::QuotaExceeded, detail).retry_after(wait.div_ceil(1_000_000))
}

fn make_room(all: &mut HashMap<IpAddr, Tries>, now: Timestamp) {
    all.retain(|_, tries| tries.is_recent(now));
    if all.len() >= limits::WRONG_KEY_ADDRESSES {
        let oldest = all.iter().min_by_key(|(_, tries)| tries.since.0).map(|(address, _)| *address);
        oldest.map(|address| all.remove(&address));
    }
}

/// One customer of a provider has a whole network of IPv6 addresses.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use gristmill_testkit::ManualClock;

    use super::*;

    #[test]
    fn an_address_is_slowed_for_a_while_and_others_are_not() {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000_000_000)));
        let peers = Peers::new(clock.clone());
        let peer = |text: &str| Some(Peer(text.parse().unwrap()));
        for _ in 0..limits::WRONG_KEYS_A_MINUTE {
            assert!(peers.check(peer("2001:db8::1")).is_ok());
            assert!(peers.has_failed(peer("2001:db8::1")).is_ok());
        }
        assert!(peers.has_failed(peer("2001:db8::1")).is_err());
        assert!(peers.check(peer("2001:db8::ffff:2")).is_err(), "the same network");
        assert!(peers.check(peer("2001:db8:0:1::1")).is_ok());
        assert!(peers.check(peer("10.0.0.1")).is_ok());
        assert!(peers.check(None).is_ok());
        clock.advance(WHILE);
        assert!(peers.check(peer("2001:db8::1")).is_ok());
        assert!(peers.has_failed(peer("2001:db8::1")).is_ok());
    }

    #[test]
    fn the_table_is_bounded() {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000_000_000)));
        let peers = Peers::new(clock.clone());
        for number in 0..limits::WRONG_KEY_ADDRESSES as u32 + 100 {
            clock.advance(1);
            assert!(peers.has_failed(Some(Peer(IpAddr::V4(number.into())))).is_ok());
        }
        assert_eq!(peers.lock().len(), limits::WRONG_KEY_ADDRESSES);
    }
}
