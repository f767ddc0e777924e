//! TLS with the real binary: commands at https, certificates that change, and a gateway that is known by
//! its certificate.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use gristmill_client::questions::{Selection, Summary};
use gristmill_client::{
    Client, ClientConfig, ClientIdentity, ClientTls, Event, Sender, SenderConfig, StreamTarget,
};
use gristmill_testkit::{Authority, Issued, Request, ServerOptions, TestServer, wait_until};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::server;

const PATIENCE: Duration = Duration::from_secs(60);

/// Files of certificates.
struct Files(TempDir);

impl Files {
    fn new() -> anyhow::Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.0.path().join(name).to_str().context("not UTF-8")?.to_owned())
    }

    /// Writes a text as a whole, and gives its path.
    fn put(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.path(name)?;
        let new = Path::new(&path).with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &path)?;
        Ok(path)
    }

    /// Has options show a certificate as a section of the settings says.
    fn show(
        &self,
        options: ServerOptions,
        section: &str,
        issued: &Issued,
    ) -> anyhow::Result<ServerOptions> {
        let certificate = self.put(&format!("{section}.cert.pem"), &issued.certificate)?;
        let key = self.put(&format!("{section}.key.pem"), &issued.key)?;
        Ok(options
            .setting(&format!("GRISTMILL__{section}__TLS__CERTIFICATE"), &certificate)
            .setting(&format!("GRISTMILL__{section}__TLS__KEY"), &key))
    }
}

/// Whether `gristmill health` finds a server well, and what it says.
fn health(server: &TestServer, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
    let url = format!("https://{}", server.address());
    let output = server.command(&[&["health", "--url", &url][..], arguments].concat())?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

fn wait_well(server: &TestServer, arguments: &[&str]) -> anyhow::Result<()> {
    wait_until("a server that is well", PATIENCE, || match health(server, arguments) {
        Ok((true, _)) => Some(()),
        _ => None,
    })
    .with_context(|| server.log())
}

fn wait_logged(server: &TestServer, text: &str) -> anyhow::Result<()> {
    wait_until(text, PATIENCE, || server.log().contains(text).then_some(()))
        .with_context(|| server.log())
}

#[test]
fn commands_reach_a_server_at_https_whose_certificates_change() -> anyhow::Result<()> {
    let (authority, files) = (Authority::new("an authority")?, Files::new()?);
    let ca = files.put("ca.pem", &authority.pem())?;
    let options = files.show(server(), "SERVER", &authority.issue("127.0.0.1")?)?;
    let server = options.start_unready()?;
    wait_well(&server, &["--ca", &ca])?;

    let (is_well, said) = health(&server, &[])?;
    assert!(!is_well && said.contains("UnknownIssuer"), "{said}");
    let url = format!("https://{}", server.address());
    let events = files
        .put("events.ndjson", "{\"id\":\"1\",\"user_id\":\"u\",\"event_type\":\"t\",\"ts\":1}\n")?;
    let imported = server.command(&["import", "--url", &url, "--ca", &ca, &events])?;
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));

    let listed = server.command(&["keys", "list", "--url", &url, "--ca", &ca])?;
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));

    // Changed files are found; those that cannot be used are named, and replace nothing.
    let next = Authority::new("the next authority")?;
    let (next_ca, issued) = (files.put("next.pem", &next.pem())?, next.issue("127.0.0.1")?);
    files.put("SERVER.cert.pem", &issued.certificate)?;
    server.hangup()?;
    wait_logged(&server, "server.tls.key: cannot use")?;
    assert!(health(&server, &["--ca", &ca])?.0, "the old certificate holds");
    files.put("SERVER.key.pem", &issued.key)?;
    wait_logged(&server, "certificates were read again")?;
    assert!(health(&server, &["--ca", &next_ca])?.0);
    // Asked for, they are read though nothing has changed.
    let read = || server.log().matches("certificates were read again").count();
    let before = read();
    server.hangup()?;
    wait_until("the files to be read", PATIENCE, || (read() > before).then_some(()))?;
    assert!(!health(&server, &["--ca", &ca])?.0);
    assert!(!server.log().contains(issued.key.lines().nth(1).context("no key")?));
    Ok(())
}

#[test]
fn commands_show_the_certificate_that_a_server_asks_for() -> anyhow::Result<()> {
    let (authority, files) = (Authority::new("an authority")?, Files::new()?);
    let ca = files.put("ca.pem", &authority.pem())?;
    let options = files.show(server(), "SERVER", &authority.issue("127.0.0.1")?)?;
    let options = options
        .setting("GRISTMILL__SERVER__TLS__CLIENT_CA", &ca)
        .setting("GRISTMILL__SERVER__TLS__HTTP_CLIENT_AUTH", "required");
    let server = options.setting("GRISTMILL_CA", &ca).start_unready()?;
    let person = |name: &str, authority: &Authority| {
        let Issued { certificate, key } = authority.issue(name)?;
        let certificate = files.put(&format!("{name}.cert.pem"), &certificate)?;
        anyhow::Ok((certificate, files.put(&format!("{name}.key.pem"), &key)?))
    };
    let (certificate, key) = person("known", &authority)?;
    wait_well(&server, &["--certificate", &certificate, "--certificate-key", &key])?;

    let (is_well, said) = health(&server, &[])?;
    assert!(!is_well && said.contains("CertificateRequired"), "{said}");
    let (certificate, key) = person("stranger", &Authority::new("another authority")?)?;
    let (is_well, said) =
        health(&server, &["--certificate", &certificate, "--certificate-key", &key])?;
    assert!(!is_well && said.contains("UnknownCA"), "{said}");
    let (is_well, said) = health(&server, &["--certificate", &certificate])?;
    assert!(!is_well && said.contains("--certificate-key"), "{said}");
    Ok(())
}

#[test]
fn roles_behind_a_gateway_take_no_one_without_a_certificate() -> anyhow::Result<()> {
    let (authority, files) = (Authority::new("an authority")?, Files::new()?);
    let ca = files.put("ca.pem", &authority.pem())?;
    let options = files.show(server(), "SERVER", &authority.issue("roles.internal")?)?;
    let options = options.setting("GRISTMILL__SERVER__TLS__CLIENT_CA", &ca);
    let behind = options.grpc().start_unready()?;
    let target = behind.grpc_url()?.replace("http://", "https://");
    let gateway = || {
        server()
            .role("gateway")
            .setting("GRISTMILL__GATEWAY__INGEST", &target)
            .setting("GRISTMILL__GATEWAY__QUERY", &target)
            .setting("GRISTMILL__GATEWAY__TLS__CA", &ca)
            .setting("GRISTMILL__GATEWAY__TLS__SERVER_NAME", "roles.internal")
    };
    let known = files.show(gateway(), "GATEWAY", &authority.issue("a gateway")?)?.start()?;
    let stranger = gateway().start_unready()?;
    let wrong_name = gateway().setting("GRISTMILL__GATEWAY__TLS__SERVER_NAME", "elsewhere");
    let wrong_name = wrong_name.start_unready()?;

    let event = json!({"id": "1", "user_id": "ada", "event_type": "t"});
    let answer = known.post_json("/v1/events?wait=visible", &event)?;
    assert_eq!(answer["results"][0]["status"], "stored", "{answer}");
    assert_eq!(known.get_json("/v1/analytics/summary")?["total_events"], 1);
    let page = known.send(&Request::get("/metrics"))?.text();
    let expiry = "gristmill_tls_certificate_expiry_timestamp_seconds{of=\"gateway\"}";
    assert!(page.contains(expiry), "{page}");

    wait_logged(&stranger, "CertificateRequired")?;
    wait_logged(&wrong_name, "not valid for name")?;
    for refused in [&stranger, &wrong_name] {
        let answer = refused.send(&Request::get("/ready"))?;
        assert_eq!(answer.status, 503, "{}", answer.text());
    }

    // A gateway whose certificate is new is known by that one, as soon as it connects again.
    let issued = authority.issue("a gateway")?;
    files.put("GATEWAY.cert.pem", &issued.certificate)?;
    files.put("GATEWAY.key.pem", &issued.key)?;
    wait_logged(&known, "certificates were read again")?;
    assert_eq!(known.get_json("/v1/analytics/summary")?["total_events"], 1);
    Ok(())
}

fn secure(url: &str) -> String {
    url.replace("http://", "https://")
}

#[test]
fn clients_speak_https_to_a_gateway_that_speaks_it_to_its_roles() -> anyhow::Result<()> {
    let (authority, files) = (Authority::new("an authority")?, Files::new()?);
    let ca = files.put("ca.pem", &authority.pem())?;
    let options = files.show(server(), "SERVER", &authority.issue("127.0.0.1")?)?.grpc();
    let behind = options.clone().setting("GRISTMILL__SERVER__TLS__CLIENT_CA", &ca);
    let behind = behind.start_unready()?;
    let target = secure(&behind.grpc_url()?);
    let gateway = files
        .show(options, "GATEWAY", &authority.issue("a gateway")?)?
        .role("gateway")
        .setting("GRISTMILL__GATEWAY__INGEST", &target)
        .setting("GRISTMILL__GATEWAY__QUERY", &target)
        .setting("GRISTMILL__GATEWAY__TLS__CA", &ca)
        .start_unready()?;
    wait_well(&gateway, &["--ca", &ca])?;
    let tls = ClientTls { ca: Some(ca.into()), identity: None };
    let identity = ClientIdentity {
        certificate: files.path("GATEWAY.cert.pem")?.into(),
        key: files.path("GATEWAY.key.pem")?.into(),
    };
    let known = ClientTls { identity: Some(identity), ..tls.clone() };
    Runtime::new()?.block_on(async {
        let config = ClientConfig { tls: tls.clone(), ..ClientConfig::default() };
        let client = Client::with_config(&format!("https://{}", gateway.address()), config)?;
        let front = secure(&gateway.grpc_url()?);
        for (number, (url, tls)) in [(1, (&front, &tls)), (2, (&target, &known))] {
            let sender =
                Sender::stream(&StreamTarget::with_tls(url, tls)?, SenderConfig::default()).await?;
            sender.send(&Event::new("t").user("ada")).await?;
            let report = sender.close().await;
            ensure!(report.is_complete(), "{url}: {report:?}");
            let select = Selection::default().at_least(report.position);
            let summary = client.ask(&Summary { select, ..Summary::default() }).await?;
            assert_eq!(summary.total_events, number, "{url}");
        }
        let stranger = StreamTarget::at(&front)?.connect().await;
        let error = stranger.err().context("anybody is trusted")?.to_string();
        ensure!(error.contains("UnknownIssuer"), "{error}");
        Ok(())
    })
}
