//! The world: many users' sessions, interleaved in time order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write as _;

use gristmill_model::Timestamp;

use super::random::{Random, mix};
use super::script::{MEAN_STEPS, Page, Step, session};

/// What a world is like.
#[derive(Clone, Debug)]
pub(crate) struct WorldConfig {
    /// Everything follows from it.
    pub(crate) seed: u64,
    /// How many people there are, at least 1.
    pub(crate) users: u64,
    /// About how many events happen within `days`, at least 1; more may be taken.
    pub(crate) events: u64,
    /// When it begins.
    pub(crate) start: Timestamp,
    /// How many days it lasts, at least 1.
    pub(crate) days: u64,
}

/// An endless stream of events in time order.
pub(crate) struct World {
    config: WorldConfig,
    /// Other worlds of the same seed are other worlds: their events have other ids.
    identity: u64,
    random: Random,
    sessions: u64,
    next_session: f64,
    mean_gap: f64,
    waiting: BinaryHeap<Reverse<Waiting>>,
    steps: Vec<Step>,
    given: u64,
}

/// An event that is yet to come. Ordered by time, then by when it was thought of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    micros: i64,
    number: u64,
    user: u64,
    session: u64,
    event_type: &'static str,
    page: PageNumber,
}

/// A page in a form that has an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PageNumber(u8, u64);

const COUNTRIES: [&str; 12] =
    ["DE", "US", "BR", "FR", "IN", "GB", "JP", "PL", "ES", "IT", "NL", "MX"];
const DEVICES: [&str; 5] = ["mobile", "mobile", "mobile", "desktop", "tablet"];
const BROWSERS: [&str; 4] = ["Chrome", "Safari", "Firefox", "Edge"];
const REFERRERS: [&str; 6] = [
    "https://www.google.com/",
    "https://www.google.com/",
    "https://duckduckgo.com/",
    "https://news.ycombinator.com/",
    "https://www.instagram.com/",
    "",
];
const CAMPAIGNS: [&str; 5] = ["", "", "spring-sale", "newsletter-17", "retargeting"];

impl World {
    /// A world at its beginning.
    pub(crate) fn new(config: WorldConfig) -> Self {
        let seconds = (config.days * 86_400) as f64;
        let mean_gap = seconds * MEAN_STEPS / config.events as f64;
        let random = Random::new(mix(config.seed));
        let numbers = [config.seed, config.users, config.events, config.days];
        let identity = numbers.into_iter().fold(0, |known, number| mix(known ^ mix(number)));
        let (waiting, steps) = (BinaryHeap::new(), Vec::new());
        Self {
            config,
            identity,
            random,
            sessions: 0,
            next_session: 0.0,
            mean_gap,
            waiting,
            steps,
            given: 0,
        }
    }

    /// Appends the next event as a JSON object, with its own time or with `time`.
    pub(crate) fn write_next(&mut self, time: Option<Timestamp>, out: &mut Vec<u8>) {
        let event = self.next_event();
        let time = time.unwrap_or_else(|| self.config.start.plus(event.micros));
        // Writing into memory does not fail.
        let _ = self.write(&event, time, out);
    }

    fn next_event(&mut self) -> Waiting {
        loop {
            let due = (self.next_session * 1e6) as i64;
            if let Some(Reverse(first)) = self.waiting.peek()
                && first.micros <= due
                && let Some(Reverse(event)) = self.waiting.pop()
            {
                return event;
            }
            self.begin_session();
        }
    }

    fn begin_session(&mut self) {
        let mut time = self.next_session;
        self.sessions += 1;
        let user = self.random.zipf(self.config.users);
        session(&mut self.random, &mut self.steps);
        for step in &self.steps {
            time += step.after;
            self.given += 1;
            let page = match step.page {
                Page::Home => PageNumber(0, 0),
                Page::Search(query) => PageNumber(1, query),
                Page::Product(product) => PageNumber(2, product),
                Page::Cart => PageNumber(3, 0),
                Page::Checkout => PageNumber(4, 0),
                Page::Thanks => PageNumber(5, 0),
            };
            self.waiting.push(Reverse(Waiting {
                micros: (time * 1e6) as i64,
                number: self.given,
                user,
                session: self.sessions,
                event_type: step.event_type,
                page,
            }));
        }
        self.next_session += self.random.exponential(self.mean_gap / busyness(self.next_session));
    }

    fn write(&self, event: &Waiting, time: Timestamp, out: &mut Vec<u8>) -> std::io::Result<()> {
        let seed = self.identity;
        let high = mix(seed ^ event.number);
        let low = mix(high);
        let person = |salt: u64| Random::new(seed ^ mix(event.user.wrapping_add(salt << 48)));
        let visit = |salt: u64| Random::new(seed ^ mix(event.session.wrapping_add(salt << 48)));
        write!(
            out,
            r#"{{"id":"{high:016x}{low:016x}","user_id":"user-{:07}","session_id":"session-{:09}","event_type":"{}","timestamp":"{time}","source":"shop","page_url":"https://shop.example.com/"#,
            event.user, event.session, event.event_type,
        )?;
        match event.page {
            PageNumber(0, _) => {}
            PageNumber(1, query) => write!(out, "search?q=term-{query}")?,
            PageNumber(2, product) => write!(out, "product/{product:05}")?,
            PageNumber(3, _) => write!(out, "cart")?,
            PageNumber(4, _) => write!(out, "checkout")?,
            PageNumber(..) => write!(out, "thanks")?,
        }
        write!(
            out,
            r#"","properties":{{"device":"{}","browser":"{}","country":"{}","referrer":"{}""#,
            person(1).pick(&DEVICES),
            person(2).pick(&BROWSERS),
            // The first countries have most of the people.
            COUNTRIES[person(3).zipf(COUNTRIES.len() as u64) as usize],
            visit(4).pick(&REFERRERS),
        )?;
        let campaign = visit(5).pick(&CAMPAIGNS).to_owned();
        if !campaign.is_empty() {
            write!(out, r#","campaign":"{campaign}""#)?;
        }
        if event.event_type == "purchase" {
            let cents = 500 + visit(6).below(20_000);
            write!(out, r#","amount":{}.{:02},"currency":"EUR""#, cents / 100, cents % 100)?;
        }
        write!(out, "}}}}")
    }
}

/// How busy the hour is, around 1: little at four in the morning, most at four in the afternoon.
fn busyness(seconds: f64) -> f64 {
    let hour = (seconds / 3_600.0) % 24.0;
    1.0 - 0.7 * ((hour + 2.0) / 24.0 * std::f64::consts::TAU).cos()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn events(seed: u64, count: usize) -> Vec<String> {
        let config =
            WorldConfig { seed, users: 2_000, events: 20_000, start: Timestamp(0), days: 10 };
        let mut world = World::new(config);
        let next = |_| {
            let mut out = Vec::new();
            world.write_next(None, &mut out);
            String::from_utf8(out).unwrap()
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(events(1, 500), events(1, 500));
        let ids = |events: Vec<String>| -> HashSet<String> {
            events.into_iter().map(|event| event[..40].to_owned()).collect()
        };
        assert!(ids(events(1, 500)).is_disjoint(&ids(events(2, 500))));
    }

    #[test]
    fn events_are_valid_distinct_ordered_and_skewed() {
        let texts = events(3, 20_000);
        let bytes: usize = texts.iter().map(String::len).sum();
        assert!((300..400).contains(&(bytes / texts.len())), "{}", bytes / texts.len());
        let (mut ids, mut users, mut last) = (HashSet::new(), HashMap::new(), String::new());
        for text in &texts {
            let event: serde_json::Value = serde_json::from_str(text).unwrap();
            assert!(ids.insert(event["id"].as_str().unwrap().to_owned()), "{text}");
            *users.entry(event["user_id"].to_string()).or_insert(0_usize) += 1;
            let time: jiff::Timestamp = event["timestamp"].as_str().unwrap().parse().unwrap();
            let time = format!("{:020}", time.as_microsecond());
            assert!(time >= last, "{text}");
            last = time;
        }
        let days = last.parse::<f64>().unwrap() / 86_400e6;
        assert!((8.0..12.0).contains(&days), "{days}");
        let most = users.values().max().unwrap();
        assert!(*most > 20 * (texts.len() / users.len()), "{most} of {}", users.len());
    }
}
