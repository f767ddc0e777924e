//! Any bytes as a block of the embedded log.
#![no_main]

use gristmill_log::codec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((count, block)) = input.split_first() else { return };
    for record in codec::decode(block, u32::from(*count)) {
        let _ = record;
    }
});
