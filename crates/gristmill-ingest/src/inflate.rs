//! Content encodings, undone under a limit.
//!
//! A few bytes can stand for gigabytes, so the limit is kept while the bytes come out, and what a
//! frame says of its own size or window is not believed beyond it.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use gristmill_model::{Coded, ErrorCode};
use thiserror::Error;

/// A content encoding that requests may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// gzip, also of several members.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Encoding {
    /// The encoding that a `Content-Encoding` header names; absent means identity. Stacked and
    /// unknown encodings are refused.
    pub fn from_header(value: Option<&str>) -> Result<Encoding, InflateError> {
        let name = value.unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Ok(Encoding::Identity),
            "gzip" | "x-gzip" => Ok(Encoding::Gzip),
            "zstd" => Ok(Encoding::Zstd),
            _ => Err(InflateError::Unsupported(name.chars().take(40).collect())),
        }
    }
}

/// Why a body cannot be inflated.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InflateError {
    /// The header names something else.
    #[error("content-encoding `{0}` is not supported: use gzip, zstd or none")]
    Unsupported(String),
    /// The bytes are not what the header says.
    #[error("the body is not valid {0}")]
    Corrupt(&'static str),
    /// More than the limit comes out.
    #[error(
        "the body inflates to more than {limit} bytes, the limit of `ingest.max_inflated_bytes`"
    )]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

impl Coded for InflateError {
    fn code(&self) -> ErrorCode {
        match self {
            InflateError::Unsupported(_) => ErrorCode::UnsupportedMedia,
            InflateError::Corrupt(_) => ErrorCode::InvalidBody,
            InflateError::TooLarge { .. } => ErrorCode::TooLarge,
        }
    }
}

/// Undoes an encoding; at most `limit` bytes come out. Memory is bounded by `limit`, and for
/// Zstandard by a window of 8 MiB beside it. A frame that needs a larger window is corrupt.
pub fn inflate(encoding: Encoding, body: Bytes, limit: usize) -> Result<Bytes, InflateError> {
    match encoding {
        Encoding::Identity if body.len() > limit => Err(InflateError::TooLarge { limit }),
        Encoding::Identity => Ok(body),
        Encoding::Gzip => drain(MultiGzDecoder::new(body.as_ref()), body.len(), limit, "gzip"),
        Encoding::Zstd => {
            let decoder = zstd_decoder(&body).map_err(|_| InflateError::Corrupt("zstd"))?;
            drain(decoder, body.len(), limit, "zstd")
        }
    }
}

/// The binary logarithm of the largest window, which decoders should take at least (RFC 8878).
const ZSTD_WINDOW_LOG: u32 = 23;

fn zstd_decoder(body: &[u8]) -> io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

fn drain(
    mut decoder: impl Read,
    packed: usize,
    limit: usize,
    name: &'static str,
) -> Result<Bytes, InflateError> {
    let mut out = Vec::with_capacity(packed.saturating_mul(4).min(limit));
    let mut chunk = [0; 16 * 1024];
    loop {
        let length = match decoder.read(&mut chunk) {
            Ok(0) => return Ok(Bytes::from(out)),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(InflateError::Corrupt(name)),
        };
        if out.len() + length > limit {
            return Err(InflateError::TooLarge { limit });
        }
        if out.capacity() - out.len() < length {
            // Doubling, but never to more than the limit.
            let room = (out.capacity() * 2).clamp(out.len() + length, limit);
            out.reserve_exact(room - out.len());
        }
        out.extend_from_slice(chunk.get(..length).unwrap_or_default());
    }
}
