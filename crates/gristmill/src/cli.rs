//! The command line: every command with its arguments.

use clap::{Parser, Subcommand};

use crate::commands::bench::BenchArgs;
use crate::commands::check::CheckArgs;
use crate::commands::compact::CompactArgs;
use crate::commands::config::ConfigArgs;
use crate::commands::generate::GenerateArgs;
use crate::commands::health::HealthArgs;
use crate::commands::import::ImportArgs;
use crate::commands::keys::KeysArgs;
use crate::commands::openapi::OpenapiArgs;
use crate::commands::serve::ServeArgs;

/// Real-time event analytics in one binary: events in, answers out, nothing lost.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Without a command it serves: `gristmill` is `gristmill serve`."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(ServeArgs),
    Import(ImportArgs),
    Generate(GenerateArgs),
    Bench(BenchArgs),
    Config(ConfigArgs),
    Check(CheckArgs),
    Compact(CompactArgs),
    Keys(KeysArgs),
    Health(HealthArgs),
    Openapi(OpenapiArgs),
}

impl Cli {
    /// The command; without one, to serve.
    pub(crate) fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_serving_is_the_default() {
        <Cli as CommandFactory>::command().debug_assert();
        let parse = |words: &[&str]| Cli::parse_from(words).command();
        assert!(matches!(parse(&["gristmill"]), Command::Serve(_)));
        assert!(matches!(parse(&["gristmill", "--data-dir", "x"]), Command::Serve(_)));
        assert!(matches!(parse(&["gristmill", "health"]), Command::Health(_)));
        assert!(matches!(parse(&["gristmill", "openapi"]), Command::Openapi(_)));
    }
}
