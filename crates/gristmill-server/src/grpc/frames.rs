//! The messages of `proto/`, and the paths of their calls.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;

/// `gristmill.internal.v1.Relay/Handle`
pub(crate) const RELAY: &str = "/gristmill.internal.v1.Relay/Handle";
/// `analytics.AnalyticsService/GetEventCount`
pub(crate) const EVENT_COUNT: &str = "/analytics.AnalyticsService/GetEventCount";

/// How many bytes of a body one frame has at most.
pub(crate) const FRAME_BYTES: usize = 256 * 1024;
/// How large a frame may be: its bytes and a head.
pub(crate) const MESSAGE_BYTES: usize = FRAME_BYTES + 256 * 1024;

/// A piece of a request.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestFrame {
    #[prost(message, optional, tag = "1")]
    pub(crate) head: Option<RequestHead>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) body: Bytes,
}

/// What a request says before its body.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestHead {
    #[prost(string, tag = "1")]
    pub(crate) method: String,
    #[prost(string, tag = "2")]
    pub(crate) target: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) headers: Vec<Header>,
    #[prost(uint64, tag = "4")]
    pub(crate) content_length: u64,
    #[prost(int64, tag = "5")]
    pub(crate) received_us: i64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) seed: Bytes,
}

/// A piece of an answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResponseFrame {
    #[prost(message, optional, tag = "1")]
    pub(crate) head: Option<ResponseHead>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) body: Bytes,
}

/// What an answer says before its body.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResponseHead {
    #[prost(uint32, tag = "1")]
    pub(crate) status: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) headers: Vec<Header>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) content_length: Option<u64>,
}

/// A header.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Header {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// Asks how often a user clicked on a page.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EventCountRequest {
    #[prost(string, tag = "1")]
    pub(crate) user_id: String,
    #[prost(string, tag = "2")]
    pub(crate) page_url: String,
}

/// Says how often a user clicked on a page.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EventCountResponse {
    #[prost(int64, tag = "1")]
    pub(crate) count: i64,
    #[prost(string, tag = "2")]
    pub(crate) user_id: String,
    #[prost(string, tag = "3")]
    pub(crate) page_url: String,
}

/// Headers as frames have them.
pub(crate) fn to_frame<'a>(
    headers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> Vec<Header> {
    let header = |(name, value): (&HeaderName, &HeaderValue)| Header {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    headers.into_iter().map(header).collect()
}

/// Headers out of a frame; `None` if one is none.
pub(crate) fn from_frame(headers: Vec<Header>) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for Header { name, value } in headers {
        let name = HeaderName::try_from(name).ok()?;
        map.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    Some(map)
}

/// Takes what one frame may have off the front of some bytes.
pub(crate) fn take_piece(bytes: &mut Bytes) -> Bytes {
    bytes.split_to(bytes.len().min(FRAME_BYTES))
}
