//! `gristmill config`: the settings as they come out.

use std::process::ExitCode;

use crate::ambient;
use crate::config::{DEFAULTS, Flags, Settings};
use crate::console::say;

/// Print the settings that `serve` would run with.
///
/// Checks them, too: an unknown or impossible setting is an error that names it. The output is a
/// file that `--config` takes, but for passwords, which are `***` in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gristmill config --defaults > gristmill.toml      every setting, explained
  GRISTMILL__STORE__SHARDS=16 gristmill config      what the environment makes of them
  gristmill config --config gristmill.toml          check a file")]
pub(crate) struct ConfigArgs {
    /// Print the defaults with their explanations instead
    #[arg(long)]
    defaults: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Runs the command.
pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    if args.defaults {
        say(DEFAULTS.trim_end());
    } else {
        // A setting that is a secret has a type that writes itself as `***`.
        say(Settings::load(&args.flags, &ambient::environment())?.to_toml()?.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
