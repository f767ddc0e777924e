//! The routes of the older systems, with the statuses, content types and bodies that their
//! clients know. Where one of them answered before an event was safe, these answer after.

pub(crate) mod activity;
pub(crate) mod clicks;
pub(crate) mod events;
pub(crate) mod platform;
pub(crate) mod sessions;
pub(crate) mod stream;
