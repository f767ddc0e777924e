//! Any call of gRPC and gRPC-Web, and any frames of a gateway.
//!
//! The first byte says which method, the second how the messages are sent, and the rest is a body or the
//! messages of one, with `SEPARATOR` between them.
#![no_main]

use std::cell::RefCell;
use std::io::Write;
use std::sync::LazyLock;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use gristmill_fuzz::Platform;
use gristmill_proto::FILE_DESCRIPTOR_SET;
use http::{Request, Version};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost_types::FileDescriptorSet;

const SEPARATOR: &[u8] = b"\xff\xfe\xff";
const STANDARD: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
const TYPES: [&str; 4] =
    ["application/grpc", "application/grpc", "application/grpc-web", "application/grpc-web-text"];
const ENCODINGS: [&str; 3] = ["identity", "gzip", "zstd"];

static METHODS: LazyLock<Vec<String>> = LazyLock::new(methods);

thread_local! {
    static PLATFORM: RefCell<Platform> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    let [method, form, rest @ ..] = input else { return };
    let form = usize::from(*form);
    let (media, encoding, is_raw) = (form % 4, form / 4 % 3, form >= 128);
    let body = if is_raw { rest.to_vec() } else { framed(rest, encoding) };
    let request = Request::post(&METHODS[usize::from(*method) % METHODS.len()])
        .version(if media < 2 { Version::HTTP_2 } else { Version::HTTP_11 })
        .header("host", "a")
        .header("content-type", TYPES[media])
        .header("grpc-encoding", ENCODINGS[encoding])
        .header("grpc-accept-encoding", "gzip")
        .header("te", "trailers")
        .body(Body::from(body));
    PLATFORM.with_borrow_mut(|platform| {
        platform.call(request.expect("a request"));
        if platform.is_used_up() {
            *platform = Platform::new();
        }
    });
});

/// All methods, in the order of their names.
fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut methods: Vec<_> = STANDARD.iter().map(|path| (*path).to_owned()).collect();
    for file in &set.file {
        for service in &file.service {
            let path = |name: &str| format!("/{}.{}/{name}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| path(method.name())));
        }
    }
    methods.sort();
    methods
}

/// The messages as a body has them, compressed if they say so.
fn framed(mut messages: &[u8], encoding: usize) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let length = SEPARATOR.len();
        let end = messages.windows(length).position(|bytes| bytes == SEPARATOR);
        let message = &messages[..end.unwrap_or(messages.len())];
        let packed = match encoding {
            0 => message.to_vec(),
            1 => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
                gzip.write_all(message).and_then(|()| gzip.finish()).expect("a vector")
            }
            _ => zstd::bulk::compress(message, 1).expect("anything can be compressed"),
        };
        body.push(u8::from(encoding > 0));
        body.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        body.extend_from_slice(&packed);
        let Some(end) = end else { return body };
        messages = &messages[end + length..];
    }
}
