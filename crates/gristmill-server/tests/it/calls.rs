//! What holds for every call, over real sockets.

use std::io::{Read, Write};
use std::time::Duration;

use gristmill_model::limits;
use gristmill_server::ServerConfig;
use prost::Message as _;

use crate::calling::{Caller, EVENT_COUNT, ended, framed, payloads, slow_body, text, texts};
use crate::support::{Listening, post, status_of};

#[tokio::test]
async fn calls_are_answered_on_every_address_and_relays_on_those_for_grpc_only() {
    let server = Listening::new(ServerConfig::default());
    for address in [server.address, server.grpc_address] {
        let mut caller = Caller::open(address).await;
        let answer = caller.call(EVENT_COUNT, &[], framed(0, &texts(&["ada", "/p"]))).await;
        assert_eq!(answer.status(), "0", "{answer:?}");
        assert_eq!(payloads(&answer.body), [b"\x12\x03ada\x1a\x02/p"]);
        let relay = caller.call("/gristmill.internal.v1.Relay/Handle", &[], framed(0, b"")).await;
        let wanted = if address == server.grpc_address { "3" } else { "12" };
        assert_eq!(relay.status(), wanted, "{address}: {relay:?}");
        for path in ["/analytics.AnalyticsService/Nothing", "/no.Service/At", "/v1/events", "/"] {
            let answer = caller.call(path, &[], framed(0, b"")).await;
            assert_eq!(answer.status(), "12", "{path}: {answer:?}");
        }
    }
    // The same address takes requests, and one that is not said to be a call is none.
    assert_eq!(status_of(&server.get("/livez").await), 200);
    let json = server.exchange(&post(EVENT_COUNT, "", "{}")).await;
    assert_eq!(status_of(&json), 415, "{json}");
}

#[tokio::test]
async fn a_calls_name_is_taken_or_made_and_told_with_every_answer() {
    let server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.address).await;
    let good = caller.call(EVENT_COUNT, &[("x-request-id", "mine-7")], framed(0, b"")).await;
    assert_eq!((good.status(), text(&good.headers, "x-request-id")), ("0", "mine-7"));
    let made = caller.call(EVENT_COUNT, &[("x-request-id", "two words")], framed(0, b"")).await;
    assert_eq!(text(&made.headers, "x-request-id").len(), 32);
    let bad = caller.call("/no.Service/At", &[("x-request-id", "mine-8")], framed(0, b"")).await;
    assert_eq!((bad.status(), text(&bad.trailers, "x-request-id")), ("12", "mine-8"));
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code_and_strangers_share_one_label() {
    let server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.grpc_address).await;
    for path in [EVENT_COUNT, EVENT_COUNT, "/evil/a", "/evil/b"] {
        caller.call(path, &[], framed(0, b"")).await;
    }
    let metrics = server.get("/metrics").await;
    for line in [
        "{method=\"analytics.AnalyticsService/GetEventCount\",code=\"OK\"} 2",
        "{method=\"other\",code=\"UNIMPLEMENTED\"} 2",
    ] {
        assert!(metrics.contains(&format!("gristmill_grpc_requests_total{line}\n")), "{metrics}");
    }
    assert!(!metrics.contains("evil"), "{metrics}");
}

#[tokio::test]
async fn deadlines_are_kept() {
    let server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.address).await;
    let message = framed(0, &texts(&["ada", "/p"]));
    // A deadline that has passed when the call comes.
    let late = caller.call(EVENT_COUNT, &[("grpc-timeout", "1n")], message.clone()).await;
    assert_eq!(late.status(), "4", "{late:?}");
    // One that passes while the server waits.
    let waiting = || async {
        let (sender, body) = slow_body();
        sender.send(message[..7].to_vec()).await;
        (sender, body)
    };
    for patience in ["1m", "20m"] {
        let (_sender, body) = waiting().await;
        let late = caller.call(EVENT_COUNT, &[("grpc-timeout", patience)], body).await;
        assert_eq!(late.status(), "4", "{patience}: {late:?}");
    }
    // The server's own bound comes before a longer one.
    let config = ServerConfig { request_timeout: Duration::from_millis(300), ..Default::default() };
    let hasty = Listening::new(config);
    let (_sender, body) = waiting().await;
    let patience = [("grpc-timeout", "99999999H")];
    let late = Caller::open(hasty.address).await.call(EVENT_COUNT, &patience, body).await;
    assert_eq!(late.status(), "4", "{late:?}");
    for wrong in ["1", "soon", "123456789S"] {
        let answer = caller.call(EVENT_COUNT, &[("grpc-timeout", wrong)], message.clone()).await;
        assert_eq!(answer.status(), "3", "{wrong}");
        assert!(answer.message().contains("grpc-timeout"), "{answer:?}");
    }
    let good = caller.call(EVENT_COUNT, &[("grpc-timeout", "1H")], message).await;
    assert_eq!(good.status(), "0");
}

#[tokio::test]
async fn what_http_refuses_of_headers_is_refused_of_calls() {
    let server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.address).await;
    let many: Vec<_> = (0..101).map(|number| format!("x-{number}")).collect();
    let names: Vec<_> = many.iter().map(|name| (&*name.clone().leak(), "1")).collect();
    let answer = caller.call(EVENT_COUNT, &names, framed(0, b"")).await;
    assert_eq!(answer.status(), "3", "{answer:?}");
    let long = format!("/a/{}", "b".repeat(9_000));
    assert_eq!(caller.call(&long, &[], framed(0, b"")).await.status(), "3");
}

#[tokio::test]
async fn messages_up_to_the_limit_are_read_by_every_service_and_larger_ones_by_none() {
    let server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.address).await;
    // A field that nobody knows, of the length that makes the message so long.
    let of_size = |size: usize| {
        let length = (size - 6) as u32;
        let varint: Vec<u8> = (0..4)
            .map(|byte| (length >> (byte * 7) & 0x7f) as u8 | if byte < 3 { 0x80 } else { 0 })
            .collect();
        [&[0xfa, 0x7f][..], &varint, &vec![0; size - 6]].concat()
    };
    let largest = of_size(limits::MESSAGE_BYTES);
    assert_eq!(largest.len(), limits::MESSAGE_BYTES);
    let files = prost_types::FileDescriptorSet::decode(gristmill_proto::FILE_DESCRIPTOR_SET);
    let paths = files.unwrap().file.into_iter().flat_map(|file| {
        let package = file.package().to_owned();
        file.service.into_iter().flat_map(move |service| {
            let service = format!("/{package}.{}", service.name());
            service_paths(&service)
        })
    });
    let paths: Vec<_> = paths.filter(|path| !path.contains("internal")).collect();
    assert!(paths.len() >= 6, "{paths:?}");
    for path in paths.iter().map(String::as_str).chain([EVENT_COUNT]) {
        let answer = caller.call(path, &[], framed(0, &largest)).await;
        assert!(!["8", "11"].contains(&answer.status()), "{path}: {answer:?}");
    }
    assert_eq!(caller.call(EVENT_COUNT, &[], framed(0, &largest)).await.status(), "0");
    let larger = framed(0, &of_size(limits::MESSAGE_BYTES + 1));
    let answer = caller.call(EVENT_COUNT, &[], larger).await;
    assert_eq!(answer.status(), "8", "{answer:?}");
    // It is refused by what it says of its length, before it comes.
    let (sender, body) = slow_body();
    sender.send(&b"\0\xff\xff\xff\xff"[..]).await;
    assert_eq!(caller.call(EVENT_COUNT, &[], body).await.status(), "8");
    // A bomb that is small on the wire.
    for (name, packed) in packed(&of_size(limits::MESSAGE_BYTES + 1)) {
        assert!(packed.len() < 200_000);
        let answer = caller.call(EVENT_COUNT, &[("grpc-encoding", name)], framed(1, &packed)).await;
        assert_eq!(answer.status(), "8", "{name}: {answer:?}");
    }
}

/// One path for each service that has a unary method without effects.
fn service_paths(service: &str) -> Vec<String> {
    let method = match service.rsplit('.').next().unwrap_or_default() {
        "ProducerService" => "GetProducerHealth",
        "ConsumerService" => "GetConsumerHealth",
        "AnalyticsService" if !service.contains("v1") => "GetAnalyticsHealth",
        _ => "Health",
    };
    vec![format!("{service}/{method}")]
}

fn packed(payload: &[u8]) -> [(&'static str, Vec<u8>); 2] {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(payload).unwrap();
    [("gzip", gzip.finish().unwrap()), ("zstd", zstd::bulk::compress(payload, 1).unwrap())]
}

fn unpacked(name: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match name {
        "gzip" => drop(flate2::read::GzDecoder::new(payload).read_to_end(&mut out).unwrap()),
        _ => out = zstd::stream::decode_all(payload).unwrap(),
    }
    out
}

#[tokio::test]
async fn messages_are_compressed_both_ways() {
    let server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.address).await;
    let page = format!("/{}", "p".repeat(5_000));
    let payload = texts(&["ada", &page]);
    for (name, packed) in packed(&payload) {
        let headers = [("grpc-encoding", name), ("grpc-accept-encoding", name)];
        let answer = caller.call(EVENT_COUNT, &headers, framed(1, &packed)).await;
        assert_eq!((answer.status(), text(&answer.headers, "grpc-encoding")), ("0", name));
        assert_eq!(answer.body[0], 1, "the answer is not compressed");
        assert!(answer.body.len() < 500);
        // The user and the page are the answer's fields 2 and 3.
        let plain = unpacked(name, &answer.body[5..]);
        assert!(plain.ends_with(page.as_bytes()) && plain.starts_with(b"\x12\x03ada\x1a"));
        // A message of the same call may be as it is.
        let answer = caller.call(EVENT_COUNT, &headers, framed(0, &texts(&["ada", "/"]))).await;
        assert_eq!(payloads(&answer.body), [b"\x12\x03ada\x1a\x01/"]);
        let broken = caller.call(EVENT_COUNT, &headers, framed(1, b"neither")).await;
        assert_eq!(broken.status(), "3", "{broken:?}");
    }
    // Without an encoding that both know.
    let answer = caller
        .call(EVENT_COUNT, &[("grpc-accept-encoding", "br,identity")], framed(0, &payload))
        .await;
    assert_eq!((answer.status(), answer.body[0]), ("0", 0));
    let answer = caller.call(EVENT_COUNT, &[("grpc-encoding", "br")], framed(1, b"?")).await;
    assert_eq!(answer.status(), "12");
    assert_eq!(text(&answer.trailers, "grpc-accept-encoding"), "gzip,zstd,identity");
    assert_eq!(caller.call(EVENT_COUNT, &[], framed(1, b"?")).await.status(), "13");
}

#[tokio::test]
async fn a_quiet_stream_is_kept_while_its_client_is_there() {
    // Long enough for a busy machine to answer a ping in half of it.
    let short = Duration::from_secs(1);
    let server = Listening::new(ServerConfig {
        write_timeout: short,
        header_timeout: short,
        ..ServerConfig::default()
    });
    let mut caller = Caller::open(server.grpc_address).await;
    let watch = caller.begin("/grpc.health.v1.Health/Watch", &[], framed(0, b"")).await;
    // Several times as long as a client may stop reading, others are answered meanwhile.
    let mut other = Caller::open(server.grpc_address).await;
    for _ in 0..4 {
        let (_sender, body) = slow_body();
        let waited = other.call(EVENT_COUNT, &[("grpc-timeout", "700m")], body).await;
        assert_eq!(waited.status(), "4");
    }
    server.shutdown.cancel();
    let watched = ended(watch).await;
    assert_eq!(
        (watched.status(), payloads(&watched.body)),
        ("0", vec![&b"\x08\x01"[..], b"\x08\x02"])
    );
}
