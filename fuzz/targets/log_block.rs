//! Any bytes as a block of the embedded log, and as the value of a record in Kafka.
#![no_main]

use gristmill_log::{Payload, codec, kafka};
use gristmill_model::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((count, block)) = input.split_first() else { return };
    let records: Vec<_> = codec::decode(block, u32::from(*count)).collect();
    assert_eq!(records.len(), usize::from(*count));
    let event = |record| match record {
        Ok(Payload::Event(event)) => Some(event),
        Err(_) => None,
    };
    reads_back(&records.into_iter().filter_map(event).collect::<Vec<_>>());
    if let Ok(event) = kafka::read_value(input) {
        let mut value = Vec::new();
        kafka::write_value(&event, &mut value);
        assert_eq!(kafka::read_value(&value).as_ref(), Ok(&event));
        reads_back(&[event]);
    }
});

fn reads_back(events: &[Event<'_>]) {
    if events.is_empty() {
        return;
    }
    let mut block = Vec::new();
    codec::encode(events, &mut block);
    for (record, event) in codec::decode(&block, events.len() as u32).zip(events) {
        let Ok(Payload::Event(read)) = record else { panic!("{record:?}") };
        assert_eq!(&read, event);
    }
}
