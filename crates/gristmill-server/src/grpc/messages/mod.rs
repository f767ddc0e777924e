//! The messages of a call on their way: their sizes and their compression, for all services alike.
//!
//! Each message has a head of five bytes before it: whether it is compressed, and its length.

mod received;
mod sent;

use gristmill_ingest::Encoding;
use gristmill_model::limits;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Status;

use super::status;
use crate::problem::Problem;

pub(super) use received::Received;
pub(super) use sent::Sent;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// What is understood, as the header names it.
const ENCODINGS: &str = "gzip,zstd,identity";

/// How long a message's head is.
const HEAD_BYTES: usize = 5;

/// What stands before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    flag: u8,
    length: usize,
}

impl Head {
    const PLAIN: u8 = 0;
    const PACKED: u8 = 1;

    /// Reads it off the front of some bytes; `None` if it is not all there.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let [flag, length @ ..] = *head;
        Some(Self { flag, length: u32::from_be_bytes(length) as usize })
    }

    fn write(self) -> [u8; HEAD_BYTES] {
        let [a, b, c, d] = u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes();
        [self.flag, a, b, c, d]
    }
}

/// How a call's messages may be compressed that the client sends.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    let Some(value) = headers.get(GRPC_ENCODING) else { return Ok(Encoding::Identity) };
    match value.as_bytes() {
        b"identity" => Ok(Encoding::Identity),
        b"gzip" => Ok(Encoding::Gzip),
        b"zstd" => Ok(Encoding::Zstd),
        _ => {
            let text = "grpc-encoding is not supported: use gzip, zstd or identity";
            let mut status = Status::unimplemented(text);
            let known = tonic::metadata::MetadataValue::from_static(ENCODINGS);
            status.metadata_mut().insert(GRPC_ACCEPT_ENCODING, known);
            Err(status)
        }
    }
}

/// The best encoding that the client understands.
pub(super) fn accepted(headers: &HeaderMap) -> Encoding {
    let values = headers.get_all(GRPC_ACCEPT_ENCODING).into_iter();
    let names = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let mut best = Encoding::Identity;
    for name in names {
        match name.trim() {
            "zstd" => return Encoding::Zstd,
            "gzip" => best = Encoding::Gzip,
            _ => {}
        }
    }
    best
}

/// Tells the client how what it is sent may be compressed, and how what it sends.
pub(super) fn announce(headers: &mut HeaderMap, encoding: Encoding) {
    let name = match encoding {
        Encoding::Identity => None,
        Encoding::Gzip => Some("gzip"),
        Encoding::Zstd => Some("zstd"),
    };
    if let Some(name) = name {
        headers.insert(GRPC_ENCODING, HeaderValue::from_static(name));
    }
    headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(ENCODINGS));
}

/// Says that headers no longer tell of compression, because it has been undone.
pub(super) fn forget(headers: &mut HeaderMap) {
    headers.remove(GRPC_ENCODING);
}

fn too_large(what: &str) -> Status {
    let detail = format!("{what} is larger than {} bytes", limits::MESSAGE_BYTES);
    status::of(&Problem::new(gristmill_model::ErrorCode::TooLarge, detail))
}
