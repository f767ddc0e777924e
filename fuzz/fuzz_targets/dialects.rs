//! Any bytes, read in every dialect of events.
#![no_main]

use gristmill_ingest::dialect::{self, Context, native};
use gristmill_model::{ProjectId, Timestamp};
use gristmill_testkit::SeededEntropy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let entropy = SeededEntropy::new(1);
    let context = Context {
        project: ProjectId::new("default"),
        received: Timestamp(1_767_225_600_000_000),
        idempotency_key: None,
        entropy: &entropy,
    };
    let _ = native::one(body, &context);
    let _ = native::batch(body, &context, native::Format::Json);
    let _ = native::batch(body, &context, native::Format::Ndjson);
    let _ = dialect::clicks::one(body, &context);
    let _ = dialect::platform::one(body, &context);
    let _ = dialect::platform::one_async(body, &context);
    let _ = dialect::platform::batch(body, &context);
    let _ = dialect::activity::one(body, &context);
    let _ = dialect::sessions::one(body, &context);
    let _ = dialect::events_post(body, &context);
    let _ = dialect::foreign(body, &context);
});
