//! Any bytes as the body of a request in every dialect, and as a record that another producer wrote.
#![no_main]

use gristmill_fuzz::context;
use gristmill_ingest::dialect::{self, native};
use gristmill_log::codec;
use gristmill_model::Event;
use gristmill_testkit::SeededEntropy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let entropy = SeededEntropy::new(1);
    let context = context(&entropy);
    let posted = [
        native::one(body, &context),
        native::batch(body, &context, native::Format::Json),
        native::batch(body, &context, native::Format::Ndjson),
    ];
    for posted in posted.into_iter().flatten() {
        posted.events.iter().flatten().for_each(is_kept_as_it_is);
    }
    dialect::platform::batch(body, &context).iter().flatten().flatten().for_each(is_kept_as_it_is);
    let _ = dialect::clicks::one(body, &context).map(|click| is_kept_as_it_is(&click.event));
    let _ = dialect::platform::one(body, &context).map(|event| is_kept_as_it_is(&event));
    let _ = dialect::platform::one_async(body, &context).map(|event| is_kept_as_it_is(&event));
    let _ = dialect::activity::one(body, &context).map(|event| is_kept_as_it_is(&event));
    let _ = dialect::sessions::one(body, &context).map(|event| is_kept_as_it_is(&event));
    let _ = dialect::events_post(body, &context);
    let _ = dialect::foreign(body, &context).map(|event| is_kept_as_it_is(&event));
});

/// What is accepted reads back from the log as the same event, and its properties are an object.
fn is_kept_as_it_is(event: &Event<'_>) {
    let properties: Result<serde_json::Map<_, _>, _> = serde_json::from_str(&event.properties);
    assert!(properties.is_ok(), "{event:?}: {properties:?}");
    let mut block = Vec::new();
    codec::encode(std::slice::from_ref(event), &mut block);
    let read: Vec<_> = codec::decode(&block, 1).collect();
    let [Ok(gristmill_log::Payload::Event(read))] = &read[..] else { panic!("{read:?}") };
    assert_eq!(read, event);
}
