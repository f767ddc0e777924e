//! Requests and answers in frames, as `proto/gristmill/internal/v1/relay.proto` describes them.

use bytes::Bytes;
use gristmill_proto::internal::Header;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use gristmill_proto::internal::{
    RequestFrame, RequestHead, ResponseFrame, ResponseHead,
};

/// `gristmill.internal.v1.Relay/Handle`
pub(crate) const RELAY: &str = "/gristmill.internal.v1.Relay/Handle";

/// How many bytes of a body one frame has at most.
pub(crate) const FRAME_BYTES: usize = 256 * 1024;
/// How large a frame may be: its bytes and a head.
pub(crate) const MESSAGE_BYTES: usize = FRAME_BYTES + 256 * 1024;

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
