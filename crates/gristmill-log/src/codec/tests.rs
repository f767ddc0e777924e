use gristmill_model::{Event, EventId, Origin, ProjectId, SessionId, Timestamp, UserId};
use proptest::prelude::*;

use super::*;
use crate::Payload;

fn event() -> Event<'static> {
    Event {
        project: ProjectId::new("p"),
        id: EventId::new("0190cafe-0000-7000-8000-00000000abcd"),
        user: UserId::new("u1"),
        session: None,
        event_type: "click".into(),
        time: Timestamp(1_000),
        received: Timestamp(1_005),
        source: "web".into(),
        page_url: "".into(),
        origin: Origin::Native,
        properties: "{}".into(),
    }
}

fn encoded(events: &[Event<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(events, &mut out);
    assert!(out.len() <= write::size_bound(events));
    out
}

fn decoded(block: &[u8], count: u32) -> Vec<Event<'_>> {
    decode(block, count)
        .map(|record| match record.unwrap() {
            Payload::Event(event) => event,
        })
        .collect()
}

#[test]
fn the_bytes_on_disk_never_change() {
    let mut second = event();
    second.id = EventId::new("e2");
    second.session = Some(SessionId::new("s"));
    second.properties = r#"{"a":1}"#.into();
    let expected = [
        &[1, 1, b'p', 0xed, 3, 0, 0, 0, 0, 0, 0][..],
        // The length, padded to the width of the longest that these texts could make; kind,
        // flags, origin.
        &[0x80 | 34, 0, 1, 1, 0],
        &[0x01, 0x90, 0xca, 0xfe, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0xab, 0xcd],
        &[2, b'u', b'1', 9],
        // The type at byte 36, the source at byte 42, the page.
        &[10, b'c', b'l', b'i', b'c', b'k', 6, b'w', b'e', b'b', 0],
        &[22, 1, 2 | 32, 0, 2, b'e', b'2', 2, b'u', b'1', 1, b's', 9],
        &[36 * 2 + 1, 42 * 2 + 1, 0],
        br#"{"a":1}"#,
    ]
    .concat();
    let block = encoded(&[event(), second.clone()]);
    assert_eq!(block, expected);
    assert_eq!(decoded(&block, 2), [event(), second]);
}

#[test]
fn repeated_texts_cost_little_and_read_back() {
    let mut long = event();
    long.page_url = "https://example.com/a/page/with/a/long/path?and=query".into();
    let one = encoded(&[long.clone()]).len();
    let many: Vec<_> = std::iter::repeat_n(long, 1_000).collect();
    let block = encoded(&many);
    assert!(block.len() < 1_000 * (one - 50), "{} against {one} for one", block.len());
    assert_eq!(decoded(&block, 1_000), many);
}

#[test]
fn only_canonical_uuids_are_packed_and_every_id_reads_back() {
    for id in [
        "0190cafe-0000-7000-8000-00000000abcd",
        "0190CAFE-0000-7000-8000-00000000ABCD",
        "0190cafe000070008000-00000000abcd-00",
        "0190cafe-0000-7000-8000-00000000abcg",
        "0190cafe-0000-7000-8000+00000000abcd",
        "{190cafe-0000-7000-8000-00000000abcd",
        "é190caf-0000-7000-8000-00000000abcd",
        "",
    ] {
        let mut named = event();
        named.id = EventId::new(id);
        let block = encoded(std::slice::from_ref(&named));
        assert_eq!(decoded(&block, 1), [named]);
    }
}

#[test]
fn a_suffix_hides_the_first_records() {
    let events: Vec<_> =
        (0..5).map(|n| Event { user: UserId::new(format!("user {n}")), ..event() }).collect();
    let block = Bytes::from(encoded(&events));
    for skip in 0..=5_u32 {
        let rest = suffix(&block, skip);
        assert_eq!(decoded(&rest, 5 - skip), &events[skip as usize..]);
    }
}

#[test]
fn a_bad_record_spoils_no_other() {
    let events = vec![event(); 3];
    let mut block = encoded(&events);
    let kind = 13;
    assert_eq!(block[kind], 1, "the first record's kind");
    block[kind] = 2;
    let records: Vec<_> = decode(&block, 3).collect();
    let bad = records[0].as_ref().unwrap_err();
    assert_eq!(bad.reason, "the record's kind is not known");
    assert_eq!(bad.bytes, &block[kind..kind + 34]);
    for record in &records[1..] {
        let Payload::Event(read) = record.as_ref().unwrap();
        assert_eq!(read, &event());
    }
}

#[test]
fn a_block_that_cannot_be_read_is_kept_whole_by_its_first_record() {
    for block in
        [&b""[..], b"\x07garbage", b"\x01", b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"]
    {
        let records: Vec<_> = decode(block, 3).collect();
        assert_eq!(records.len(), 3);
        assert_eq!(records[0].as_ref().unwrap_err().bytes, block);
        assert!(records[1..].iter().all(|record| record.as_ref().unwrap_err().bytes.is_empty()));
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("page_view".to_owned()),
        "[a-z]{1,12}",
        ".{0,40}",
        proptest::collection::vec(any::<char>(), 0..300).prop_map(String::from_iter),
    ]
}

fn id_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(|bytes| wire::uuid_text(bytes).unwrap()),
        text(),
        "[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}",
    ]
}

fn any_event() -> impl Strategy<Value = Event<'static>> {
    let texts = (text(), id_text(), text(), proptest::option::of(text()), text());
    let rest = (any::<i64>(), any::<i64>(), text(), text(), 0..5_u8, text(), any::<bool>());
    (texts, rest).prop_map(|((project, id, user, session, kind), rest)| {
        let (time, received, source, page_url, origin, properties, session_is_user) = rest;
        Event {
            project: ProjectId::new(project),
            id: EventId::new(id),
            session: if session_is_user {
                Some(SessionId::new(user.clone()))
            } else {
                session.map(SessionId::new)
            },
            user: UserId::new(user),
            event_type: kind.into(),
            time: Timestamp(time),
            received: Timestamp(received),
            source: source.into(),
            page_url: page_url.into(),
            origin: Origin::from_number(origin).unwrap(),
            properties: properties.into(),
        }
    })
}

proptest! {
    #[test]
    fn events_read_back_as_they_were(
        events in proptest::collection::vec(any_event(), 1..20),
        copies in 1..4_usize,
        before in proptest::collection::vec(any::<u8>(), 0..9),
    ) {
        let events: Vec<_> = events.iter().cycle().take(events.len() * copies).cloned().collect();
        let mut out = before.clone();
        encode(&events, &mut out);
        prop_assert_eq!(&out[..before.len()], &before[..]);
        prop_assert_eq!(decoded(&out[before.len()..], events.len() as u32), events);
    }

    #[test]
    fn damaged_blocks_give_every_record_and_never_panic(
        events in proptest::collection::vec(any_event(), 1..6),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        count in 0..40_u32,
        skip in any::<u32>(),
    ) {
        let mut block = encoded(&events);
        for (at, byte) in damage {
            let at = at.index(block.len());
            block[at] = byte;
        }
        block.truncate(cut.index(block.len()) + 1);
        prop_assert_eq!(decode(&block, count).count(), count as usize);
        let hidden = suffix(&Bytes::from(block), skip);
        prop_assert_eq!(decode(&hidden, count).count(), count as usize);
    }

    #[test]
    fn any_bytes_give_every_record(block in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(decode(&block, 5).count(), 5);
    }

    #[test]
    fn numbers_read_back(value in any::<u64>(), signed in any::<i64>(), padding in 0..3_usize) {
        let mut out = Vec::new();
        wire::put_varint(&mut out, value);
        prop_assert_eq!(out.len(), wire::varint_len(value));
        prop_assert_eq!(wire::Input::new(&out).varint(), Ok(value));
        let mut space = vec![0; (out.len() + padding).min(10)];
        wire::fill_varint(&mut space, value);
        prop_assert_eq!(wire::Input::new(&space).varint(), Ok(value));
        prop_assert_eq!(wire::unzigzag(wire::zigzag(signed)), signed);
    }
}
