//! Who may make the first key, when no key can say so: whoever sends from this machine, and no page that a
//! browser shows there.

use gristmill_model::ErrorCode;
use http::uri::Authority;
use http::{Extensions, HeaderMap, header};

use super::Peer;
use crate::problem::Problem;

/// Refuses what may come from a page, also one whose name leads to this machine, and what comes from
/// another machine.
pub(super) fn check(headers: &HeaderMap, extensions: &Extensions) -> Result<(), Problem> {
    let peer = extensions.get::<Peer>();
    let is_near = peer.is_none_or(|Peer(address)| address.to_canonical().is_loopback());
    let host = headers.get(header::HOST).map(|host| Authority::try_from(host.as_bytes()));
    let is_named_so = match host {
        None => true,
        Some(host) => host.is_ok_and(|host| is_loopback(host.host())),
    };
    if is_near && is_named_so && !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let detail = "the first key is made on the machine of the server, with `gristmill keys create` at \
        127.0.0.1 or localhost and not from a page; or set server.admin_key";
    Err(Problem::new(ErrorCode::PermissionDenied, detail))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}
