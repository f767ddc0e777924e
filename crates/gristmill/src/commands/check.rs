//! `gristmill check`: is what lies on disk whole?

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use gristmill_log::embedded::{self, RealDisk};
use gristmill_store::columnar;

use crate::ambient;
use crate::config::{Flags, LogSettings, Settings, StoreSettings};
use crate::console::{say, thousands};

/// Verify the log and the store on disk, every byte that has a checksum.
///
/// Takes the directory's lock, so no server may be running on it, and changes nothing. Exits with
/// 0 if all is whole and 1 if anything is damaged or cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gristmill check
  gristmill check --data-dir /var/lib/gristmill")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    flags: Flags,
}

/// Runs the command.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&args.flags, &ambient::environment())?;
    let log = match &settings.log {
        LogSettings::Embedded(_) => check_log(&settings.log_dir()),
        LogSettings::Kafka(kafka) => Ok(format!(
            "log: in Kafka, topic {} at {}, which checks itself",
            kafka.topic, kafka.brokers
        )),
    };
    let store = match &settings.store {
        StoreSettings::Columnar(_) => check_store(&settings.store_dir()),
        StoreSettings::Postgres(store) => Ok(format!(
            "store: in PostgreSQL, {}, whose own tools check it: pg_amcheck --schema=gristmill",
            store.url.0
        )),
    };
    let mut whole = true;
    for result in [log, store] {
        match result {
            Ok(line) => say(line),
            Err(error) => {
                whole = false;
                say(format!("{error:#}"));
            }
        }
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check_log(dir: &Path) -> anyhow::Result<String> {
    anyhow::ensure!(dir.is_dir(), "log: there is no directory {}", dir.display());
    let report = embedded::check(dir, &RealDisk).context("log")?;
    if let Some(damage) = report.damage {
        anyhow::bail!("log: damaged: {damage}");
    }
    let unfinished = match report.has_unfinished_write {
        true => ", with an unfinished write at its end that was never acknowledged",
        false => "",
    };
    Ok(format!(
        "log: whole: {} records in {} frames, {} segments of {} MiB together{unfinished}",
        thousands(report.records),
        thousands(report.frames),
        thousands(report.segments),
        thousands(report.bytes >> 20),
    ))
}

fn check_store(dir: &Path) -> anyhow::Result<String> {
    anyhow::ensure!(dir.is_dir(), "store: there is no directory {}", dir.display());
    let report = columnar::check(dir).context("store")?;
    Ok(format!(
        "store: whole: {} rows in {} parts of {} MiB together, {} identities in the window, {} \
         quarantined records, durable up to {}",
        thousands(report.rows),
        thousands(report.parts),
        thousands(report.bytes >> 20),
        thousands(report.identities),
        thousands(report.quarantined),
        if report.durable.is_empty() { "the start" } else { &report.durable },
    ))
}
