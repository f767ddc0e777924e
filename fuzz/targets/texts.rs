//! Any text as a position, a version, a time, an API key or an address: what is read is written as a text
//! that reads back the same.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use gristmill_ingest::dialect::parse_time;
use gristmill_model::{Positions, Timestamp, key_id};
use gristmill_server::TargetAddress;
use gristmill_store::Version;
use gristmill_store::cache::RedisAddress;
use gristmill_store::postgres::Address;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    reads_back::<Positions>(text);
    reads_back::<Version>(text);
    reads_back::<Timestamp>(text);
    reads_back::<TargetAddress>(text);
    if let Some(time) = parse_time(text) {
        assert_eq!(parse_time(&time.to_string()), Some(time));
    }
    assert!(key_id(text).is_none_or(|id| text.contains(id)));
    // These leave passwords out where they are written.
    let _ = RedisAddress::parse(text).map(|address| address.to_string());
    let _ = Address::parse(text).map(|address| address.to_string());
});

fn reads_back<T: FromStr<Err: Debug> + Display + Debug + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert_eq!(written.parse::<T>().as_ref().ok(), Some(&value), "{text:?} as {written:?}");
    }
}
