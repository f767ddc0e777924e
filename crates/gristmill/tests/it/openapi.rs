//! The committed OpenAPI document against the code.

use std::fs;
use std::process::Command;

use anyhow::Context;
use gristmill_testkit::repository;

const RENEW: &str = "cargo run --locked --package gristmill -- openapi > docs/openapi.json";

#[test]
fn committed_document_is_what_the_code_says() -> anyhow::Result<()> {
    let path = repository().join("docs/openapi.json");
    let committed = fs::read_to_string(path).context("docs/openapi.json cannot be read")?;
    let output = Command::new(env!("CARGO_BIN_EXE_gristmill")).arg("openapi").output()?;
    anyhow::ensure!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout)?;
    let pairs =
        printed.lines().map(Some).chain([None]).zip(committed.lines().map(Some).chain([None]));
    let difference = pairs.enumerate().find(|(_, (printed, committed))| printed != committed);
    if let Some((index, (printed, committed))) = difference {
        anyhow::bail!(
            "docs/openapi.json is not what the code says from line {} on, where it has {:?} and not \
             {:?}; if the change of the API is meant, renew it and look at the difference:\n  {RENEW}",
            index + 1,
            committed.unwrap_or_default(),
            printed.unwrap_or_default(),
        );
    }
    Ok(())
}
