//! Whoever is refused hears it, and the server goes on.

use std::time::Duration;

use super::*;
use crate::support::read_all;

/// What a client that is refused hears.
async fn alert(client: &Visitor, address: SocketAddr) -> String {
    match client.ask(address, LIVE).await {
        Ok(answer) => panic!("it was answered: {answer}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn certificates_of_clients_are_asked_for_where_they_are_required() {
    let secure = Secure::asking(ServerConfig::default(), ClientAuth::None, ClientAuth::Required);
    let (http, grpc) = (secure.server.address, secure.server.grpc_address);
    let good = secure.authority.issue("a gateway").unwrap();
    let expired = secure.authority.issue_until("a gateway", 2020).unwrap();
    let stranger = Authority::new("the authority").unwrap().issue("a gateway").unwrap();
    for versions in [OLDER, NEWER] {
        let client = Visitor { versions, ..secure.client() };
        for (what, client, expected) in [
            ("none", client.clone(), "fatal alert"),
            ("expired", client.clone().showing(expired.clone()), "CertificateExpired"),
            ("of a stranger", client.clone().showing(stranger.clone()), "fatal alert"),
        ] {
            let heard = alert(&client, grpc).await;
            assert!(heard.contains(expected), "{what}: {heard}");
        }
        let answer = client.clone().showing(good.clone()).ask(grpc, LIVE).await.unwrap();
        assert!(answer.contains("this address speaks gRPC"), "{answer}");
        assert_eq!(status_of(&client.ask(http, LIVE).await.unwrap()), 200, "nobody asks there");
    }
    assert_eq!(secure.metric("gristmill_tls_handshakes_total{outcome=\"failed\"}").await, 6);
}

#[tokio::test]
async fn optional_certificates_must_hold_if_they_are_shown() {
    let secure =
        Secure::asking(ServerConfig::default(), ClientAuth::Optional, ClientAuth::Required);
    let (client, address) = (secure.client(), secure.server.address);
    let good = secure.authority.issue("a client").unwrap();
    for client in [client.clone(), client.clone().showing(good)] {
        assert_eq!(status_of(&client.ask(address, LIVE).await.unwrap()), 200);
    }
    let stranger = Authority::new("somebody else").unwrap().issue("a client").unwrap();
    let expired = secure.authority.issue_until("a client", 2020).unwrap();
    for identity in [stranger, expired] {
        let heard = alert(&client.clone().showing(identity), address).await;
        assert!(heard.contains("fatal alert"), "{heard}");
    }
}

#[tokio::test]
async fn client_that_trusts_another_authority_goes_away_and_disturbs_nobody() {
    let secure = Secure::new(ServerConfig::default());
    let other = Authority::new("somebody else").unwrap();
    let refused = Visitor::trusting(&other).connect(secure.server.address).await;
    assert!(refused.unwrap_err().to_string().contains("UnknownIssuer"));
    let answer = secure.client().ask(secure.server.address, LIVE).await.unwrap();
    assert_eq!(status_of(&answer), 200);
    let failed = secure.metric("gristmill_tls_handshakes_total{outcome=\"failed\"}").await;
    assert_eq!(failed, 1);
}

#[tokio::test]
async fn plaintext_on_the_tls_port_is_told_so() {
    let secure = Secure::new(ServerConfig::default());
    let answer = secure.server.exchange(LIVE).await;
    assert_eq!(status_of(&answer), 400, "{answer}");
    assert!(answer.ends_with("\r\n\r\nthis port speaks https\n"), "{answer}");
    let length = answer.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(length, "this port speaks https\n".len().to_string());
    // Neither a body that is still sent nor another protocol makes a difference.
    let large = post("/v1/events", "", &"x".repeat(1 << 20));
    assert_eq!(status_of(&secure.server.exchange(&large).await), 400);
    for bytes in
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), b"\x15\x03\x01\x00\x02\x01\x00", b"\0"]
    {
        secure.server.exchange(bytes).await;
    }
    // A record that announces a handshake and holds none.
    secure.server.exchange(b"\x16\x03\x01\x00\x05hello").await;
    let answer = secure.client().ask(secure.server.address, LIVE).await.unwrap();
    assert_eq!(status_of(&answer), 200, "it goes on");
    assert_eq!(secure.metric("gristmill_tls_handshakes_total{outcome=\"plaintext\"}").await, 5);
    assert_eq!(secure.metric("gristmill_tls_handshakes_total{outcome=\"failed\"}").await, 1);
}

#[tokio::test]
async fn tls_on_a_plaintext_port_fails_and_disturbs_nobody() {
    let server = Listening::new(ServerConfig::default());
    let client = Visitor::trusting(&Authority::new("an authority").unwrap());
    for address in [server.address, server.grpc_address] {
        let error = client.connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
    assert_eq!(status_of(&server.get("/livez").await), 200);
}

#[tokio::test]
async fn slow_handshakes_are_cut() {
    let config = ServerConfig { header_timeout: Duration::from_secs(1), ..ServerConfig::default() };
    let secure = Secure::new(config);
    for bytes in [b"".as_slice(), b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut stream = secure.server.connect().await;
        stream.write_all(bytes).await.unwrap();
        assert_eq!(read_all(&mut stream).await, "", "{bytes:?}");
    }
    // A whole handshake without a request is no better.
    let mut stream = secure.client().connect(secure.server.address).await.unwrap();
    let mut byte = [0];
    assert!(!matches!(timeout(PATIENCE, stream.read(&mut byte)).await.unwrap(), Ok(1)));
    assert_eq!(secure.metric("gristmill_tls_handshakes_total{outcome=\"failed\"}").await, 3);
}

#[tokio::test]
async fn handshakes_count_as_connections() {
    let secure = Secure::new(ServerConfig { max_connections: 1, ..ServerConfig::default() });
    let mut first = secure.server.connect().await;
    first.write_all(b"\x16\x03\x01").await.unwrap();
    // Connections are accepted in the order they came.
    assert!(secure.client().connect(secure.server.address).await.is_err());
    drop(first);
    let again = async {
        while secure.client().ask(secure.server.address, LIVE).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}
