//! Gristmill: events in, answers out, nothing lost.
//!
//! The binary knows the configuration, what runs, signals and commands, and no logic. `roles.rs`
//! says what `serve` starts, `commands/` what the other commands do.

mod ambient;
mod caches;
mod certificates;
mod cli;
mod commands;
mod config;
mod console;
mod generate;
mod import;
mod load;
mod logs;
mod roles;
mod stores;
mod supervisor;
mod telemetry;
mod units;

use std::future::Future;
use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command() {
        Command::Serve(args) => run(Builder::new_multi_thread(), commands::serve::run(args)),
        Command::Import(args) => run(Builder::new_current_thread(), commands::import::run(args)),
        Command::Generate(args) => {
            run(Builder::new_current_thread(), commands::generate::run(args))
        }
        Command::Bench(args) => run(args.runtime(), commands::bench::run(args)),
        Command::Health(args) => run(Builder::new_current_thread(), commands::health::run(args)),
        Command::Compact(args) => run(Builder::new_current_thread(), commands::compact::run(args)),
        Command::Keys(args) => run(Builder::new_current_thread(), commands::keys::run(args)),
        Command::Config(args) => commands::config::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Openapi(_) => Ok(commands::openapi::run()),
    };
    outcome.unwrap_or_else(|error| {
        console::remark(format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Runs a command to its end. What it leaves running does not hold up the end of the process.
fn run(
    mut runtime: Builder,
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let runtime = runtime.enable_all().build()?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_background();
    outcome
}
