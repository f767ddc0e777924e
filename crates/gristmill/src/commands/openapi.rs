//! `gristmill openapi`: the description of the HTTP API.

use std::process::ExitCode;

use gristmill_server::openapi;

use crate::console::say;

/// Print the OpenAPI document of the HTTP API.
///
/// It is what a server of this version answers to `GET /v1/openapi.json`; no server need run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gristmill openapi > openapi.json      for a generator of clients")]
pub(crate) struct OpenapiArgs {}

/// Runs the command.
pub(crate) fn run() -> ExitCode {
    say(openapi());
    ExitCode::SUCCESS
}
