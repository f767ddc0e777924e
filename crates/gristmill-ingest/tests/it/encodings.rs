use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use gristmill_ingest::{Encoding, InflateError, inflate};

const LIMIT: usize = 100_000;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

fn run(encoding: Encoding, body: Vec<u8>) -> Result<Bytes, InflateError> {
    inflate(encoding, Bytes::from(body), LIMIT)
}

#[test]
fn headers_name_encodings() {
    for (header, encoding) in [
        (None, Encoding::Identity),
        (Some(""), Encoding::Identity),
        (Some("identity"), Encoding::Identity),
        (Some("gzip"), Encoding::Gzip),
        (Some(" GZip "), Encoding::Gzip),
        (Some("x-gzip"), Encoding::Gzip),
        (Some("zstd"), Encoding::Zstd),
    ] {
        assert_eq!(Encoding::from_header(header), Ok(encoding), "{header:?}");
    }
    for header in ["br", "deflate", "gzip, gzip", "gzip,identity", "gzip;q=1"] {
        assert_eq!(
            Encoding::from_header(Some(header)),
            Err(InflateError::Unsupported(header.to_owned()))
        );
    }
}

#[test]
fn what_was_packed_comes_out() {
    for length in [0, 1, 1_000, LIMIT] {
        let data: Vec<u8> = (0..length).map(|n| (n * n % 251) as u8).collect();
        for (encoding, packed) in [
            (Encoding::Identity, data.clone()),
            (Encoding::Gzip, gzip(&data)),
            (Encoding::Zstd, zstd(&data)),
        ] {
            assert_eq!(run(encoding, packed).unwrap(), data, "{encoding:?} {length}");
        }
    }
}

#[test]
fn members_and_frames_follow_each_other() {
    let members = [gzip(b"ab"), gzip(b""), gzip(b"cd")].concat();
    assert_eq!(run(Encoding::Gzip, members).unwrap(), "abcd");
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
    let frames = [zstd(b"ab"), skippable.to_vec(), zstd(b"cd")].concat();
    assert_eq!(run(Encoding::Zstd, frames).unwrap(), "abcd");
}

#[test]
fn more_than_the_limit_is_refused_while_it_comes_out() {
    let data = vec![0; LIMIT + 1];
    let too_large = Err(InflateError::TooLarge { limit: LIMIT });
    assert_eq!(run(Encoding::Identity, data.clone()), too_large);
    assert_eq!(run(Encoding::Gzip, gzip(&data)), too_large);
    assert_eq!(run(Encoding::Zstd, zstd(&data)), too_large);
    let many = vec![gzip(&data[..LIMIT / 2]); 3].concat();
    assert_eq!(run(Encoding::Gzip, many), too_large);
    // A gigabyte in a few kilobytes; without the limit this test would take its memory.
    let bomb = gzip(&gzip(&vec![0; 1 << 26]));
    assert!(run(Encoding::Gzip, bomb).is_ok());
    assert_eq!(run(Encoding::Gzip, gzip(&vec![0; 1 << 28])), too_large);
}

#[test]
fn damage_is_told() {
    let corrupt = |encoding, body: Vec<u8>| {
        assert!(matches!(run(encoding, body), Err(InflateError::Corrupt(_))));
    };
    let data = b"some text, some text, some text";
    for (encoding, packed) in [(Encoding::Gzip, gzip(data)), (Encoding::Zstd, zstd(data))] {
        for length in 1..packed.len() {
            corrupt(encoding, packed[..length].to_vec());
        }
        corrupt(encoding, [packed.as_slice(), b"garbage"].concat());
        corrupt(encoding, data.to_vec());
    }
    corrupt(Encoding::Gzip, Vec::new());
    let mut packed = gzip(data);
    let crc = packed.len() - 8;
    packed[crc] ^= 1;
    corrupt(Encoding::Gzip, packed);
}

#[test]
fn a_frame_may_not_ask_for_a_huge_window() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(b"small").unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(run(Encoding::Zstd, packed), Err(InflateError::Corrupt("zstd")));
    // A skippable frame that claims four gigabytes and has none of them.
    let claims = vec![0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
    assert!(matches!(run(Encoding::Zstd, claims), Err(InflateError::Corrupt(_))));
}
