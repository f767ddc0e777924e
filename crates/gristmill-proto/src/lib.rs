//! The messages and services of `proto/`, as Rust types.
//!
//! What is in `generated/` is made from the files there by `cargo run -p gristmill-proto --example
//! generate`, and committed, so that building needs neither protoc nor a code generator. A test finds
//! it different when they have changed.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    rustdoc::all,
    reason = "generated code, whose documentation is that of the proto files"
)]

/// Package `analytics`: what clients of two older systems know.
pub mod analytics {
    include!("generated/analytics.rs");

    /// Package `analytics.v1`: events in, answers out.
    pub mod v1 {
        include!("generated/analytics.v1.rs");
    }
}

/// Package `gristmill.internal.v1`: what processes of one platform say to each other.
pub mod internal {
    include!("generated/gristmill.internal.v1.rs");
}

/// All of `proto/` as a `google.protobuf.FileDescriptorSet`, which reflection answers from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
