//! The commands of README.md answer exactly as printed there.

use anyhow::Context;
use gristmill_testkit::{Curl, http, repository};

use crate::support::server;

#[test]
fn first_commands_answer_as_printed() -> anyhow::Result<()> {
    let readme = std::fs::read_to_string(repository().join("README.md"))?;
    let server = server().start()?;
    let mut examples = 0;
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let (command, printed) = block.split_once('\n').context("a command without answer")?;
        let curl = Curl::parse(command.strip_prefix("$ ").context("no prompt")?)?;
        assert_eq!(curl.port, 8080, "{command}");
        let answer = http::send(server.address(), &curl.request)?;
        assert_eq!((answer.status, answer.text().trim_end()), (200, printed.trim_end()));
        examples += 1;
    }
    anyhow::ensure!(examples >= 2, "README.md shows {examples} commands");
    Ok(())
}
