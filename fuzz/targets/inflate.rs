//! Any bytes as a compressed body, of which no more may come out than was allowed.
#![no_main]

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use gristmill_ingest::{Encoding, InflateError, inflate};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
        match inflate(encoding, body.clone(), LIMIT) {
            Ok(inflated) => assert!(inflated.len() <= LIMIT),
            Err(InflateError::TooLarge { limit }) => assert_eq!(limit, LIMIT),
            Err(_) => {}
        }
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&body).expect("a vector takes everything");
    let packed = [
        (Encoding::Gzip, gzip.finish().expect("a vector takes everything")),
        (Encoding::Zstd, zstd::bulk::compress(&body, 1).expect("anything can be compressed")),
    ];
    for (encoding, packed) in packed {
        assert_eq!(inflate(encoding, packed.clone().into(), body.len()), Ok(body.clone()));
        if let Some(limit) = body.len().checked_sub(1) {
            let refused = Err(InflateError::TooLarge { limit });
            assert_eq!(inflate(encoding, packed.into(), limit), refused);
        }
    }
});
