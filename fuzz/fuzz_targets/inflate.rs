//! Any bytes as a compressed body, of which at most a megabyte may come.
#![no_main]

use bytes::Bytes;
use gristmill_ingest::{Encoding, inflate};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;

fuzz_target!(|body: &[u8]| {
    for name in ["gzip", "zstd"] {
        let Ok(encoding) = Encoding::from_header(Some(name)) else { continue };
        if let Ok(inflated) = inflate(encoding, Bytes::copy_from_slice(body), LIMIT) {
            assert!(inflated.len() <= LIMIT);
        }
    }
});
