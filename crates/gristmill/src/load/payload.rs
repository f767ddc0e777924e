//! Requests that are built once and patched in place: every field that varies has a fixed width.

use gristmill_model::Timestamp;

use crate::generate::Random;

/// What the requests of a run look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PayloadShape {
    /// Events per request; 1 posts a bare event.
    pub(crate) batch: usize,
    /// Bytes of one event's JSON.
    pub(crate) event_bytes: usize,
    /// How many users there are.
    pub(crate) users: u64,
}

/// The least bytes of an event: all its fields with the longest values, without any filling.
pub(crate) const LEAST_EVENT_BYTES: u16 = 330;

/// A whole HTTP request, ready to be sent.
pub(crate) struct Payload {
    request: Vec<u8>,
    events: Vec<Slots>,
    users: u64,
    random: Random,
}

/// Where the varying fields of an event begin in the request.
#[derive(Clone, Copy, Debug)]
struct Slots {
    id: usize,
    user: usize,
    session: usize,
    time: usize,
    page: usize,
    duration: usize,
}

const ID_DIGITS: usize = 32;
const USER_DIGITS: usize = 7;
const SESSION_DIGITS: usize = 9;
const PAGE_DIGITS: usize = 5;
const DURATION_DIGITS: usize = 5;
/// `2026-01-02T03:04:05.678Z`
const TIME_BYTES: usize = 24;
const MILLIS_AT: usize = 20;
/// The most users and pages that the digits can name.
pub(crate) const MOST_USERS: u64 = 10_000_000;
const PAGES: u64 = 20_000;

const TYPES: [&str; 6] =
    ["page_view", "page_view", "page_view", "click", "add_to_cart", "purchase"];
const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];
const COUNTRIES: [&str; 8] = ["DE", "US", "BR", "FR", "IN", "GB", "JP", "PL"];
const REFERRERS: [&str; 4] = ["https://google.com/", "https://bing.com/", "https://x.example/", ""];

impl Payload {
    /// A request for the server at `host`, which is an address with a port. Payloads with
    /// different seeds send different events.
    pub(crate) fn new(shape: PayloadShape, host: &str, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut body = Vec::with_capacity(shape.batch * (shape.event_bytes + 1) + 2);
        let mut events = Vec::with_capacity(shape.batch);
        let bare = shape.batch == 1;
        if !bare {
            body.push(b'[');
        }
        for index in 0..shape.batch {
            if index > 0 {
                body.push(b',');
            }
            events.push(write_event(shape.event_bytes, &mut random, &mut body));
        }
        if !bare {
            body.push(b']');
        }
        let path = if bare { "/v1/events" } else { "/v1/events/batch" };
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        let head = request.len();
        request.extend_from_slice(&body);
        let moved = |slots: Slots| Slots {
            id: slots.id + head,
            user: slots.user + head,
            session: slots.session + head,
            time: slots.time + head,
            page: slots.page + head,
            duration: slots.duration + head,
        };
        let events = events.into_iter().map(moved).collect();
        Self { request, events, users: shape.users, random }
    }

    /// Lines of NDJSON instead of a request. Payloads with different seeds send different events.
    pub(crate) fn lines(shape: PayloadShape, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut request = Vec::with_capacity(shape.batch * (shape.event_bytes + 1));
        let mut events = Vec::with_capacity(shape.batch);
        for _ in 0..shape.batch {
            events.push(write_event(shape.event_bytes, &mut random, &mut request));
            request.push(b'\n');
        }
        Self { request, events, users: shape.users, random }
    }

    /// Makes new events of all in the request, which happen about `now`, and gives the request.
    pub(crate) fn next(&mut self, now: Timestamp) -> &[u8] {
        let second = time_text(now);
        for slots in &self.events {
            let (high, low) = (self.random.next(), self.random.next());
            let dice = self.random.next();
            let user = skewed(self.random.next(), self.users);
            write_hex(&mut self.request, slots.id, high, low);
            write_decimal::<USER_DIGITS>(&mut self.request, slots.user, user);
            // A user has a session at a time, a new one every 17 minutes or so.
            let session = (user ^ (now.seconds() as u64 >> 10)) % 1_000_000_000;
            write_decimal::<SESSION_DIGITS>(&mut self.request, slots.session, session);
            write_decimal::<PAGE_DIGITS>(&mut self.request, slots.page, skewed(dice, PAGES));
            let duration = 10_000 + (dice & 0xFFFF);
            write_decimal::<DURATION_DIGITS>(&mut self.request, slots.duration, duration);
            if let Some(place) = self.request.get_mut(slots.time..slots.time + TIME_BYTES) {
                place.copy_from_slice(&second);
            }
            write_decimal::<3>(&mut self.request, slots.time + MILLIS_AT, dice >> 32 & 0x3FF);
        }
        &self.request
    }

    /// How many events a request holds.
    pub(crate) fn events(&self) -> usize {
        self.events.len()
    }
}

/// Low numbers often, high ones seldom: the product of two even choices.
fn skewed(bits: u64, end: u64) -> u64 {
    let (first, second) = (bits >> 32, bits & 0xFFFF_FFFF);
    (((first * second) >> 32) * end) >> 32
}

/// The time as text, to the second; the milliseconds are 000.
fn time_text(time: Timestamp) -> [u8; TIME_BYTES] {
    let mut text = *b"1970-01-01T00:00:00.000Z";
    let whole = Timestamp(time.seconds() * Timestamp::SECOND).to_string();
    let shared = whole.len().saturating_sub(1).min(MILLIS_AT - 1);
    if let (Some(place), Some(from)) = (text.get_mut(..shared), whole.as_bytes().get(..shared)) {
        place.copy_from_slice(from);
    }
    text
}

/// Writes an event with blank fields and tells where they are.
fn write_event(event_bytes: usize, random: &mut Random, out: &mut Vec<u8>) -> Slots {
    let start = out.len();
    let blank = |before: &str, width: usize, out: &mut Vec<u8>| {
        out.extend_from_slice(before.as_bytes());
        let place = out.len();
        out.resize(place + width, b'0');
        place
    };
    let id = blank("{\"id\":\"", ID_DIGITS, out);
    let user = blank("\",\"user_id\":\"u", USER_DIGITS, out);
    let session = blank("\",\"session_id\":\"s", SESSION_DIGITS, out);
    let event_type = format!("\",\"event_type\":\"{}\",\"timestamp\":\"", random.pick(&TYPES));
    let time = blank(&event_type, TIME_BYTES, out);
    let page = "\",\"source\":\"bench\",\"page_url\":\"https://shop.example.com/p/";
    let page = blank(page, PAGE_DIGITS, out);
    let properties = format!(
        "\",\"properties\":{{\"device\":\"{}\",\"country\":\"{}\",\"referrer\":\"{}\",\"duration_ms\":",
        random.pick(&DEVICES),
        random.pick(&COUNTRIES),
        random.pick(&REFERRERS),
    );
    let duration = blank(&properties, DURATION_DIGITS, out);
    out.extend_from_slice(b",\"note\":\"");
    let end = start + event_bytes - "\"}}".len();
    while out.len() < end {
        out.push(b'a' + random.below(26) as u8);
    }
    out.extend_from_slice(b"\"}}");
    Slots { id, user, session, time, page, duration }
}

fn write_hex(out: &mut [u8], at: usize, high: u64, low: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bits = u128::from(high) << 64 | u128::from(low);
    if let Some(place) = out.get_mut(at..at + ID_DIGITS) {
        for digit in place.iter_mut().rev() {
            *digit = HEX[(bits & 0xF) as usize];
            bits >>= 4;
        }
    }
}

/// Writes the last `WIDTH` digits of a number.
fn write_decimal<const WIDTH: usize>(out: &mut [u8], at: usize, mut number: u64) {
    if let Some(place) = out.get_mut(at..at + WIDTH) {
        for digit in place.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn body(request: &[u8]) -> &[u8] {
        let head = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        &request[head + 4..]
    }

    #[test]
    fn every_request_is_new_valid_and_of_the_same_length() {
        let shape = PayloadShape { batch: 50, event_bytes: 350, users: 1_000 };
        let mut payload = Payload::new(shape, "127.0.0.1:1", 7);
        let (mut ids, mut users) = (HashSet::new(), HashSet::new());
        for second in 0..20 {
            let now = Timestamp(1_767_323_045_678_901 + second * Timestamp::SECOND);
            let request = payload.next(now).to_vec();
            let length = format!("Content-Length: {}\r\n", body(&request).len());
            assert!(String::from_utf8_lossy(&request).contains(&length));
            assert_eq!(body(&request).len(), 50 * 350 + 49 + 2);
            let events: Vec<serde_json::Value> = serde_json::from_slice(body(&request)).unwrap();
            for event in events {
                assert!(ids.insert(event["id"].as_str().unwrap().to_owned()));
                users.insert(event["user_id"].as_str().unwrap().to_owned());
                let time: jiff::Timestamp = event["timestamp"].as_str().unwrap().parse().unwrap();
                assert_eq!(time.as_second(), now.seconds());
                assert!(event["properties"]["duration_ms"].as_u64().unwrap() >= 10_000);
            }
        }
        assert_eq!(ids.len(), 1_000);
        assert!((100..900).contains(&users.len()), "{}", users.len());
    }

    #[test]
    fn a_single_event_is_bare_and_can_be_as_small_as_said() {
        let shape =
            PayloadShape { batch: 1, event_bytes: LEAST_EVENT_BYTES.into(), users: MOST_USERS };
        for seed in 0..100 {
            let mut payload = Payload::new(shape, "127.0.0.1:1", seed);
            let request = payload.next(Timestamp(0)).to_vec();
            assert!(request.starts_with(b"POST /v1/events HTTP/1.1\r\n"));
            let event: serde_json::Value = serde_json::from_slice(body(&request)).unwrap();
            assert_eq!(event["timestamp"].as_str().unwrap().len(), TIME_BYTES);
            assert_eq!(body(&request).len(), usize::from(LEAST_EVENT_BYTES));
        }
    }

    #[test]
    fn lines_are_events_and_nothing_else() {
        let shape = PayloadShape { batch: 20, event_bytes: 350, users: 1_000 };
        let mut payload = Payload::lines(shape, 7);
        let text = String::from_utf8(payload.next(Timestamp(0)).to_vec()).unwrap();
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: HashSet<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!((ids.len(), text.ends_with('\n')), (20, true));
    }

    #[test]
    fn different_seeds_send_different_events() {
        let shape = PayloadShape { batch: 1, event_bytes: 350, users: 10 };
        let first = Payload::new(shape, "h:1", 1).next(Timestamp(0)).to_vec();
        assert_ne!(first, Payload::new(shape, "h:1", 2).next(Timestamp(0)));
    }
}
