//! API keys through the real binary: the command, the settings, restarts, and what the log says.

use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context, ensure};
use gristmill_testkit::{Request, ServerOptions, TestServer, wait_until};
use serde_json::{Value, json};

use crate::load::PATIENCE;
use crate::support::server;

const ADMIN_KEY: &str = "0123456789abcdef0123456789abcdef";
const SUMMARY: &str = "/v1/analytics/summary";

fn event(key: &str) -> Request {
    let body = r#"{"id":"1","user_id":"u","event_type":"t"}"#;
    Request::post_json("/v1/events?wait=visible", body).header("x-api-key", key)
}

fn status(server: &TestServer, target: &str, key: &str) -> anyhow::Result<u16> {
    Ok(server.send(&Request::get(target).header("x-api-key", key))?.status)
}

/// A file with a key, as `--key-file` takes it.
fn file_of(server: &TestServer, key: &str) -> anyhow::Result<String> {
    let path: PathBuf = server.data_dir().join(format!("test-{}", key.len()));
    std::fs::write(&path, format!("{key}\n"))?;
    Ok(path.to_str().context("no path")?.to_owned())
}

fn keys(server: &TestServer, file: Option<&str>, words: &[&str]) -> anyhow::Result<Output> {
    let url = format!("http://{}", server.address());
    let mut arguments = vec!["keys", "--url", &url];
    if let Some(file) = file {
        arguments.extend(["--key-file", file]);
    }
    arguments.extend(words);
    server.command(&arguments)
}

/// What a command wrote, which must have worked.
fn said(output: Output) -> anyhow::Result<String> {
    let text = String::from_utf8(output.stdout)?.trim().to_owned();
    let remarks = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text} {remarks}");
    Ok(text)
}

#[test]
fn keys_are_made_listed_rotated_and_revoked_by_the_command() -> anyhow::Result<()> {
    let mut server = server().setting("GRISTMILL__TELEMETRY__FILTER", "trace").start()?;
    assert_eq!(server.send(&event("your-api-key"))?.status, 200, "there are no keys");
    let refused = keys(&server, None, &["create", "--scope", "write"])?;
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("admin"), "{refused:?}");
    let admin = said(keys(&server, None, &["create", "--scope", "admin", "--name", "ops"])?)?;
    assert!(admin.starts_with("gm_admin_") && admin.lines().count() == 1, "{admin}");
    assert_eq!(server.send(&event("your-api-key"))?.status, 401);
    assert!(!keys(&server, None, &["list"])?.status.success());
    let has_keys = server.data_dir().join("has-keys");
    wait_until("the note that there are keys", PATIENCE, || has_keys.exists().then_some(()))?;
    server.change_setting("GRISTMILL_API_KEY", &admin);
    assert!(said(keys(&server, None, &["list"])?)?.contains("ops"));
    server.change_setting("GRISTMILL_API_KEY", "");
    let file = file_of(&server, &admin)?;
    let file = Some(file.as_str());
    let create = [
        "create",
        "--scope",
        "write",
        "--scope",
        "read",
        "--ttl",
        "30d",
        "--events-per-day",
        "100",
        "--json",
    ];
    let made: Value = serde_json::from_str(&said(keys(&server, file, &create)?)?)?;
    assert_eq!(made["limits"], json!({"events_per_day": 100}), "{made}");
    let (key, id) =
        (made["key"].as_str().context("no key")?, made["id"].as_str().context("no id")?);
    assert_eq!(server.send(&event(key))?.status, 200);
    let list = said(keys(&server, file, &["list"])?)?;
    assert!(list.contains(id) && list.contains("ops") && list.contains("active"), "{list}");
    assert!(!list.contains(key), "{list}");
    let new = said(keys(&server, file, &["rotate", id, "--overlap", "1h"])?)?;
    for key in [key, &new] {
        assert_eq!(status(&server, SUMMARY, key)?, 200);
    }
    said(keys(&server, file, &["revoke", id])?)?;
    assert_eq!(status(&server, SUMMARY, key)?, 401);
    assert_eq!(status(&server, SUMMARY, &new)?, 200);
    let whole = keys(&server, file, &["revoke", &new])?;
    assert!(!whole.status.success(), "an argument is seen by others");

    // They outlast the process.
    assert!(server.terminate()?.success());
    server.restart()?;
    assert_eq!(server.send(&Request::get(SUMMARY))?.status, 401);
    assert_eq!((status(&server, SUMMARY, key)?, status(&server, SUMMARY, &new)?), (401, 200));
    let listed: Value = serde_json::from_str(&said(keys(&server, file, &["list", "--json"])?)?)?;
    let used = listed["keys"].as_array().context("no keys")?;
    let used = used.iter().find(|key| key["id"] == id).context("the key is gone")?;
    assert!(used["last_used_at"].is_string(), "{used}");
    let target = format!("{SUMMARY}?key={new}");
    assert_eq!(server.send(&Request::get(&target))?.status, 400);
    assert!(server.terminate()?.success());
    let log = server.log();
    assert!(log.len() > 1_000, "{log}");
    for key in [admin.as_str(), key, &new] {
        let secret = key.split('_').nth(3).context("no secret")?;
        assert!(!log.contains(secret), "a secret is in the log");
    }
    Ok(())
}

#[test]
fn the_key_of_the_settings_opens_every_project_and_is_in_no_output() -> anyhow::Result<()> {
    let mut server = server()
        .setting("GRISTMILL__SERVER__ADMIN_KEY", ADMIN_KEY)
        .setting("GRISTMILL__TELEMETRY__FILTER", "trace")
        .argument("--listen")
        .argument("0.0.0.0:0")
        .start()?;
    assert_eq!(server.send(&event("your-api-key"))?.status, 401);
    assert_eq!(server.send(&event(ADMIN_KEY))?.status, 200);
    let make = Request::post_json("/v1/keys", r#"{"project":"shop","scopes":["read"]}"#);
    let made = server.send(&make.header("authorization", &format!("Bearer {ADMIN_KEY}")))?;
    assert_eq!(made.status, 201, "{}", made.text());
    let key = made.json()?["key"].as_str().context("no key")?.to_owned();
    let summary = server.send(&Request::get(SUMMARY).header("x-api-key", &key))?.json()?;
    assert_eq!(summary["total_events"], 0, "{summary}");
    assert_eq!(server.send(&event(&key))?.status, 403);
    let shown = server.command(&["config"])?;
    assert!(!String::from_utf8_lossy(&shown.stdout).contains(ADMIN_KEY));
    assert!(server.terminate()?.success());
    assert!(!server.log().contains(ADMIN_KEY));
    Ok(())
}

#[test]
fn an_address_that_others_reach_needs_a_key_or_a_word() -> anyhow::Result<()> {
    let mut server = server().start()?;
    let refused = |server: &TestServer, data_dir: &str| -> anyhow::Result<String> {
        let serve = ["serve", "--data-dir", data_dir, "--listen", "0.0.0.0:0"];
        let output = server.command(&serve)?;
        ensure!(!output.status.success(), "it serves");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let error = refused(&server, "other")?;
    for word in ["--insecure-no-auth", "server.admin_key", "gristmill keys create"] {
        assert!(error.contains(word), "{error}");
    }
    // With a key in the store it may.
    let admin = said(keys(&server, None, &["create", "--scope", "admin"])?)?;
    assert!(server.terminate()?.success());
    server.change_setting("GRISTMILL__SERVER__GRPC_LISTEN", "0.0.0.0:0");
    server.restart()?;
    assert_eq!(status(&server, SUMMARY, &admin)?, 200);
    assert_eq!(server.send(&Request::get(SUMMARY))?.status, 401);
    Ok(())
}

#[test]
fn a_gateway_lets_nobody_in_whom_the_processes_behind_it_do_not_know() -> anyhow::Result<()> {
    let behind = server().grpc().setting("GRISTMILL__SERVER__ADMIN_KEY", ADMIN_KEY).start()?;
    let gateway = gateway_to(&behind)?.start()?;
    let key_of = |scope: &str| -> anyhow::Result<String> {
        let make = Request::post_json("/v1/keys", json!({"scopes": [scope]}).to_string());
        let made = gateway.send(&make.header("x-api-key", ADMIN_KEY))?;
        ensure!(made.status == 201, "{}", made.text());
        Ok(made.json()?["key"].as_str().context("no key")?.to_owned())
    };
    let (read, write) = (key_of("read")?, key_of("write")?);
    for target in [SUMMARY, "/metrics", "/stats", "/v1/openapi.json", "/v1/keys/self", "/nothing"] {
        let answer = gateway.send(&Request::get(target))?;
        assert_eq!(answer.status, 401, "{target}: {}", answer.text());
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{target}");
    }
    for target in ["/health", "/ready", "/livez", "/readyz", "/actuator/health"] {
        assert_eq!(gateway.send(&Request::get(target))?.status, 200, "{target}");
    }
    for target in [SUMMARY, "/metrics", "/stats"] {
        assert_eq!(status(&gateway, target, &read)?, 200, "{target}");
        assert_eq!(status(&gateway, target, &write)?, 403, "{target}");
    }
    assert_eq!(status(&gateway, "/v1/openapi.json", &write)?, 200);
    assert_eq!(gateway.send(&event(&write))?.status, 200);
    assert_eq!(gateway.send(&event(&read))?.status, 403);
    // Whoever tries keys is slowed where they try.
    let mut statuses = std::collections::BTreeSet::new();
    for number in 0..25 {
        statuses.insert(status(&gateway, SUMMARY, &format!("wrong-{number}"))?);
    }
    assert_eq!(statuses, [401, 429].into());
    Ok(())
}

#[test]
fn a_gateway_that_others_reach_ends_if_there_are_no_keys_behind_it() -> anyhow::Result<()> {
    let behind = server().grpc().start()?;
    let mut gateway =
        gateway_to(&behind)?.argument("--listen").argument("0.0.0.0:0").start_unready()?;
    assert!(!gateway.wait_exit()?.success());
    assert!(gateway.log().contains("--insecure-no-auth"), "{}", gateway.log());
    Ok(())
}

fn gateway_to(behind: &TestServer) -> anyhow::Result<ServerOptions> {
    let url = behind.grpc_url()?;
    Ok(server()
        .role("gateway")
        .setting("GRISTMILL__GATEWAY__INGEST", &url)
        .setting("GRISTMILL__GATEWAY__QUERY", &url))
}
