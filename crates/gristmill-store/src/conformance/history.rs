//! Random histories: small worlds in which ties, late events, repeats and users with one event
//! are common, committed in batches from several partitions.

use gristmill_model::{
    Event, EventId, Field, Origin, Partition, Position, ProjectId, SessionId, TimeRange, Timestamp,
    UserId,
};

use super::Subject;
use super::view::everything;
use crate::{Commit, MemoryStore, Quarantined, Row, Scan, Store};

/// Offers the same random commits to the subject and to the memory store, and compares all that
/// can be seen after each.
pub(super) async fn agrees_with_memory(mut subject: impl Subject, seed: u64) {
    let mut dice = Dice(seed);
    let memory = MemoryStore::new(1);
    let mut next = [0_u64; 3];
    for _ in 0..8 {
        let commit = random_commit(&mut dice, &mut next);
        let expected = memory.commit(commit.clone()).await.unwrap();
        assert_eq!(subject.store().commit(commit).await.unwrap(), expected, "seed {seed}");
        for _ in 0..dice.below(3) {
            subject.settle().await;
        }
        for _ in 0..4 {
            let scan = random_scan(&mut dice);
            let expected = everything(&memory, &scan).await;
            assert_eq!(everything(subject.store(), &scan).await, expected, "seed {seed}: {scan:?}");
        }
        compare_totals(subject.store(), &memory, seed).await;
    }
}

async fn compare_totals(store: &dyn Store, memory: &MemoryStore, seed: u64) {
    let totals = |store: &dyn Store| {
        let stats = store.stats();
        (stats.stored, stats.duplicate, stats.quarantined, stats.expired)
    };
    assert_eq!(totals(store), totals(memory), "seed {seed}");
    assert_eq!(store.progress().committed, memory.progress().committed, "seed {seed}");
    let set_aside = async |store: &dyn Store| {
        let mut records = store.quarantined(1_000).await.unwrap();
        records.sort_by_key(|record| record.position);
        records
    };
    assert_eq!(set_aside(store).await, set_aside(memory).await, "seed {seed}");
}

fn random_commit(dice: &mut Dice, next: &mut [u64; 3]) -> Commit<'static> {
    let mut commit = Commit::default();
    for _ in 0..dice.below(120) {
        let number = dice.below(3);
        let partition = Partition(number as u32);
        let position = Position { partition, offset: next[number] };
        next[number] += 1;
        commit.next.set(partition, next[number]);
        if dice.below(30) == 0 {
            let bytes = vec![number as u8; dice.below(50)];
            commit.quarantine.push(Quarantined { position, reason: "poison".to_owned(), bytes });
        } else {
            commit.rows.push(Row { position, event: random_event(dice) });
        }
    }
    commit
}

fn random_event(dice: &mut Dice) -> Event<'static> {
    let time = match dice.below(10) {
        // Half a year back, far from the others.
        0 => dice.below(5) as i64 - 15_000_000_000_000,
        1..4 => dice.below(40) as i64 * (Timestamp::HOUR / 4),
        _ => dice.below(40) as i64 * 500_000,
    };
    let properties = match dice.below(5) {
        0 => "{}".to_owned(),
        1 => format!(r#"{{"plan":null,"n":{}}}"#, dice.below(9)),
        2 => format!(r#"{{"o":{{"k":"{}"}}}}"#, dice.below(9)),
        _ => format!(r#"{{"plan":"{}"}}"#, dice.pick(&["", "free", "pro"])),
    };
    Event {
        project: ProjectId::new(dice.pick(&["default", "default", "default", "other"])),
        id: EventId::new(dice.below(100).to_string()),
        user: UserId::new(dice.pick(&["", "a", "7", "c", "d", "e", "ü", "hot", "hot"])),
        session: [None, Some("s1"), Some("s2")][dice.below(3)].map(SessionId::new),
        event_type: dice.pick(&["view", "view", "buy", "like"]).into(),
        time: Timestamp(time),
        received: Timestamp(20_000_000 + dice.below(1_000) as i64),
        source: dice.pick(&["", "web"]).into(),
        page_url: dice.pick(&["", "/a", "/b"]).into(),
        origin: Origin::ALL[dice.below(5)],
        properties: properties.into(),
    }
}

fn random_scan(dice: &mut Dice) -> Scan {
    let names = [
        "event_type",
        "user_id",
        "session_id",
        "source",
        "page_url",
        "origin",
        "id",
        "plan",
        "n",
        "o.k",
        "o",
        // A column may be wanted twice.
        "user_id",
    ];
    let mut fields: Vec<Field> = names.map(Field::from_name).into();
    fields.push(Field::Properties);
    fields.retain(|_| dice.below(2) == 0);
    let mut numbers: Vec<Field> =
        ["n", "o.k", "user_id", "id", "plan"].map(Field::from_name).into();
    numbers.retain(|_| dice.below(3) == 0);
    let end = |dice: &mut Dice| match dice.below(4) {
        0 => Some(Timestamp(dice.below(41) as i64 * 500_000)),
        1 => Some(Timestamp(dice.below(41) as i64 * (Timestamp::HOUR / 4))),
        _ => None,
    };
    let project = ProjectId::new(dice.pick(&["default", "default", "other", "none"]));
    let user = (dice.below(3) == 0).then(|| dice.pick(&["", "a", "hot", "nobody"]).to_owned());
    let range = TimeRange { start: end(dice), end: end(dice) };
    Scan { user, range, fields, numbers, ..Scan::of(project) }
}

/// Repeatable randomness (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) % bound as u64) as usize
    }

    fn pick(&mut self, texts: &[&'static str]) -> &'static str {
        texts[self.below(texts.len())]
    }
}
