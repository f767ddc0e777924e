//! `gristmill serve`: everything in one process.

use std::process::ExitCode;

use gristmill_server::{Listeners, Role};

use crate::ambient;
use crate::config::{Flags, Settings};
use crate::console::say;
use crate::roles::{Ambient, GrpcPort, start_all};
use crate::supervisor::{self, StopSignals};
use crate::telemetry;

/// Run the server: ingestion, processing, storage and queries in one process, or some of them.
///
/// Everything is kept in the data directory, which one process at a time may have open, or behind
/// the log in PostgreSQL, if `store.kind` or DATABASE_URL says so. SIGTERM or SIGINT stops it in
/// order; a second one ends it at once, which loses nothing either.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Examples:
  gristmill serve                                       on 127.0.0.1:8080 and :50051 with ./data
  gristmill serve --listen 127.0.0.1:8081 --listen 127.0.0.1:8082
  gristmill serve --role gateway --config gateway.toml   with [gateway] ingest and query
  gristmill serve --config gristmill.toml --data-dir /var/lib/gristmill
  GRISTMILL__STORE__SEAL_BYTES='128 MiB' gristmill serve

`gristmill config --defaults` explains every setting.")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    flags: Flags,
}

/// Runs the command.
pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let environment = ambient::environment();
    let settings = Settings::load(&args.flags, &environment)?;
    let grpc_port = match Settings::listens_for_grpc_by_default(&args.flags, &environment)? {
        true => GrpcPort::Default,
        false => GrpcPort::Wanted,
    };
    telemetry::start(&settings.telemetry.filter, settings.telemetry.format)?;
    let ambient = Ambient { clock: ambient::clock(), entropy: ambient::entropy() };
    let signals = StopSignals::listen()?;
    let running = start_all(&settings, grpc_port, &ambient).await?;
    greet(&settings, &running.addresses);
    supervisor::run(running.parts, settings.server.drain_timeout.0, signals).await?;
    Ok(ExitCode::SUCCESS)
}

/// One line per address with something to try, and how to ask what came of it; or the roles of a
/// process that does not do all of that.
fn greet(settings: &Settings, addresses: &Listeners) {
    let scheme = if settings.server_tls().is_some() { "https" } else { "http" };
    for address in &addresses.grpc {
        say(format!("listening on {scheme}://{address} for gRPC"));
    }
    let (roles, addresses) = (settings.roles(), &addresses.http);
    if roles != Role::all_in_one() && !roles.contains(&Role::Gateway) {
        let names = roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
        for address in addresses {
            say(format!("listening on {scheme}://{address} with the roles: {names}"));
        }
        return;
    }
    for address in addresses {
        say(format!(
            "listening on {scheme}://{address}  try: curl '{scheme}://{address}/v1/events?wait=visible' \
             -H 'content-type: application/json' -d '{{\"user_id\":\"ada\",\"event_type\":\"hello\"}}'"
        ));
    }
    if let Some(address) = addresses.first() {
        say(format!("then ask: curl {scheme}://{address}/v1/analytics/summary"));
    }
}
