//! New certificates are taken while the server serves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::*;

const KEPT: &[u8] = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";

/// Sends a request over a connection that stays open, and reads its answer.
async fn ask_again(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(KEPT).await.unwrap();
    let mut text = String::new();
    while !text.ends_with('}') {
        let mut bytes = [0; 1024];
        let length = timeout(PATIENCE, stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(length > 0, "the connection ended: {text}");
        text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    assert_eq!(status_of(&text), 200, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_under_load_drops_nothing() {
    let secure = Secure::new(ServerConfig::default());
    let address = secure.server.address;
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let (client, done, asked) = (secure.client(), Arc::clone(&done), Arc::clone(&asked));
        clients.spawn(async move {
            let mut kept = client.connect(address).await.unwrap();
            while !done.load(Relaxed) {
                match number % 2 {
                    0 => ask_again(&mut kept).await,
                    _ => {
                        let answer = client.ask(address, LIVE).await.unwrap();
                        assert_eq!(status_of(&answer), 200, "{answer}");
                    }
                }
                asked.fetch_add(1, Relaxed);
            }
        });
    }
    let mut kept = secure.client().connect(address).await.unwrap();
    let mut before = shown(&kept);
    for _ in 0..5 {
        let so_far = asked.load(Relaxed);
        write(&secure.folder, &secure.authority.issue("localhost").unwrap());
        secure.tls.renew();
        let new = secure.client().connect(address).await.unwrap();
        assert_ne!(shown(&new), before, "a new connection is shown the new certificate");
        before = shown(&new);
        let under_load = async {
            while asked.load(Relaxed) < so_far + 50 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, under_load).await.unwrap();
        ask_again(&mut kept).await;
    }
    done.store(true, Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let name = "gristmill_tls_renewals_total{of=\"server\",outcome=\"taken\"}";
    assert_eq!(secure.metric(name).await, 5);
}

#[tokio::test]
async fn files_that_cannot_be_used_replace_nothing() {
    let secure = Secure::new(ServerConfig::default());
    let (client, address) = (secure.client(), secure.server.address);
    let before = shown(&client.connect(address).await.unwrap());
    let good = secure.authority.issue("localhost").unwrap();
    let other = secure.authority.issue("localhost").unwrap();
    let broken = good.certificate.replace("MII", "!!!");
    for (certificate, key) in [
        ("", good.key.as_str()),
        ("no certificate", &good.key),
        (&broken, &good.key),
        (&good.certificate, ""),
        (&good.certificate, &good.certificate),
        (&good.certificate, &other.key),
        (&"x".repeat(2 << 20), &good.key),
    ] {
        std::fs::write(secure.path("cert.pem"), certificate).unwrap();
        std::fs::write(secure.path("key.pem"), key).unwrap();
        secure.tls.renew();
        assert_eq!(shown(&client.connect(address).await.unwrap()), before, "{certificate:.40}");
    }
    std::fs::remove_file(secure.path("key.pem")).unwrap();
    secure.tls.renew();
    assert_eq!(shown(&client.connect(address).await.unwrap()), before);
    let name = "gristmill_tls_renewals_total{of=\"server\",outcome=\"failed\"}";
    assert_eq!(secure.metric(name).await, 8);

    write(&secure.folder, &good);
    secure.tls.renew();
    assert_ne!(shown(&client.connect(address).await.unwrap()), before);
}

#[tokio::test]
async fn an_expired_certificate_replaces_only_another() {
    let secure = Secure::new(ServerConfig::default());
    let (client, address) = (secure.client(), secure.server.address);
    let before = shown(&client.connect(address).await.unwrap());
    write(&secure.folder, &secure.authority.issue_until("localhost", 2040).unwrap());
    secure.clock.set("2041-01-01T00:00:00Z".parse().unwrap());
    secure.tls.renew();
    assert_eq!(shown(&client.connect(address).await.unwrap()), before);
    let name = "gristmill_tls_renewals_total{of=\"server\",outcome=\"failed\"}";
    assert_eq!(secure.metric(name).await, 1);

    // By then the one in use has expired too. Whoever connects here goes by the real time.
    secure.clock.set("2099-01-01T00:00:00Z".parse().unwrap());
    secure.tls.renew();
    assert_ne!(shown(&client.connect(address).await.unwrap()), before);
}

#[tokio::test]
async fn changed_files_are_taken_when_they_lie_still() {
    let secure = Secure::new(ServerConfig::default());
    let (client, address) = (secure.client(), secure.server.address);
    let before = shown(&client.connect(address).await.unwrap());
    secure.tls.renew_if_changed();
    assert_eq!(shown(&client.connect(address).await.unwrap()), before);
    let good = secure.authority.issue("localhost").unwrap();
    std::fs::write(secure.path("cert.pem"), &good.certificate).unwrap();
    // Its key has not come yet.
    secure.tls.renew_if_changed();
    std::fs::write(secure.path("key.pem"), &good.key).unwrap();
    secure.tls.renew_if_changed();
    assert_eq!(shown(&client.connect(address).await.unwrap()), before);
    secure.tls.renew_if_changed();
    assert_ne!(shown(&client.connect(address).await.unwrap()), before);
    let renewals =
        |outcome| format!("gristmill_tls_renewals_total{{of=\"server\",outcome=\"{outcome}\"}}");
    secure.tls.renew_if_changed();
    assert_eq!(secure.metric(&renewals("taken")).await, 1);
    assert_eq!(secure.metric(&renewals("failed")).await, 0);
}

#[tokio::test]
async fn authority_of_clients_is_renewed_too() {
    let secure = Secure::asking(ServerConfig::default(), ClientAuth::None, ClientAuth::Required);
    let address = secure.server.grpc_address;
    let next = Authority::new("the next authority").unwrap();
    let old = secure.client().showing(secure.authority.issue("a gateway").unwrap());
    let new = secure.client().showing(next.issue("a gateway").unwrap());
    assert!(old.ask(address, LIVE).await.is_ok());
    assert!(new.ask(address, LIVE).await.is_err());
    std::fs::write(secure.path("ca.pem"), next.pem()).unwrap();
    secure.tls.renew();
    assert!(new.ask(address, LIVE).await.is_ok());
    assert!(old.ask(address, LIVE).await.is_err(), "nobody vouches for it any more");
}

#[test]
fn errors_name_the_setting_and_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let good = Authority::new("an authority").unwrap().issue("localhost").unwrap();
    write(&folder, &good);
    let path = |name: &str| folder.path().join(name);
    let load = |certificate: &str, key: &str, ca: &str| {
        let clients = ClientAuthority {
            ca: path(ca),
            http: ClientAuth::Optional,
            grpc: ClientAuth::Required,
        };
        let identity = IdentityFiles { certificate: path(certificate), key: path(key) };
        let files = ServerTlsFiles { identity, clients: Some(clients) };
        ServerTls::load(files, Arc::new(ManualClock::at(NOW)))
    };
    for (tried, setting, file) in [
        (load("none.pem", "key.pem", "cert.pem"), "server.tls.certificate: ", "none.pem"),
        (load("key.pem", "key.pem", "cert.pem"), "server.tls.certificate: ", "key.pem"),
        (load("cert.pem", "cert.pem", "cert.pem"), "server.tls.key: ", "cert.pem"),
        (load("cert.pem", "key.pem", "none.pem"), "server.tls.client_ca: ", "none.pem"),
    ] {
        let error = tried.unwrap_err().to_string();
        assert!(error.starts_with(setting) && error.contains(file), "{error}");
    }
}
