//! `gristmill keys`: API keys of a running server.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use gristmill_client::{ApiKey, Client, ClientConfig};
use gristmill_model::Scope;
use serde_json::{Map, Value, json};

use crate::ambient;
use crate::commands::tls::TlsArgs;
use crate::console::{remark, say};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Make, list, rotate and revoke API keys of a running server.
///
/// The key that this needs, one with the scope `admin` or the server's `server.admin_key`, is taken from
/// the variable GRISTMILL_API_KEY or from a file, never from an argument, which others on the machine
/// could see. Where there are no keys yet, none is needed on 127.0.0.1; the first one must be an admin
/// key, and from then on every request needs one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gristmill keys create --scope admin --name ops        the first key
  export GRISTMILL_API_KEY=gm_admin_...
  gristmill keys create --scope write --name web --events-per-second 1000 --ttl 90d
  gristmill keys list
  gristmill keys rotate 8fQ2kXz01bTr --overlap 7d       the old one goes on for a week
  gristmill keys revoke 8fQ2kXz01bTr")]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
    /// The server
    #[arg(long, global = true, default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    tls: TlsArgs,
    /// A file that has the key to send; `-` is standard input [default: GRISTMILL_API_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print the server's answer as it is
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key and print it; it cannot be shown again
    Create(CreateArgs),
    /// List the keys
    List {
        /// Only those of this project
        #[arg(long)]
        project: Option<String>,
    },
    /// Make a key that takes the place of another, which goes on for a while, and print it
    Rotate(RotateArgs),
    /// Revoke a key, for good
    Revoke {
        /// The key's id, which stands between the second and the third `_` of the key
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What it allows; may be given several times
    #[arg(
        long = "scope",
        required = true,
        value_parser = PossibleValuesParser::new(Scope::ALL.map(Scope::name))
    )]
    scopes: Vec<String>,
    /// The project, which is made by its first key [default: that of the key that is sent]
    #[arg(long)]
    project: Option<String>,
    /// What it is for
    #[arg(long)]
    name: Option<String>,
    /// For how long it is valid, such as 90d [default: for ever]
    #[arg(long)]
    ttl: Option<String>,
    /// How many events a second may be sent with it
    #[arg(long, value_name = "N")]
    events_per_second: Option<u64>,
    /// How many bytes a second may be sent with it
    #[arg(long, value_name = "N")]
    bytes_per_second: Option<u64>,
    /// How many events may be sent with it from one midnight in UTC to the next
    #[arg(long, value_name = "N")]
    events_per_day: Option<u64>,
    /// How many bytes may be sent with it from one midnight in UTC to the next
    #[arg(long, value_name = "N")]
    bytes_per_day: Option<u64>,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// The key's id
    id: String,
    /// For how long the old key goes on, such as 7d
    #[arg(long, default_value = "24h")]
    overlap: String,
    /// For how long the new key is valid [default: as long as the old one was to be]
    #[arg(long)]
    ttl: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    let api_key = match &args.key_file {
        Some(path) => Some(key_in(path)?),
        None => ambient::api_key()?,
    };
    // What makes a key must not be sent twice: the second one would be known to nobody.
    let tls = args.tls.clone().into_client();
    let config =
        ClientConfig { api_key, tls, retries: 0, timeout: TIMEOUT, ..ClientConfig::default() };
    let client = Client::new(&args.url, config, ambient::entropy())?;
    match &args.command {
        KeysCommand::Create(create) => {
            let made: Value = client.post_json("/v1/keys", &create.body()).await?;
            tell_made(&args, &made)
        }
        KeysCommand::Rotate(rotate) => {
            let path = format!("/v1/keys/{}/rotate", path_part(&rotate.id)?);
            let mut body = json!({"overlap": rotate.overlap});
            if let Some(ttl) = &rotate.ttl {
                body["ttl"] = ttl.as_str().into();
            }
            let made: Value = client.post_json(&path, &body).await?;
            tell_made(&args, &made)
        }
        KeysCommand::List { project } => {
            let path = match project {
                Some(project) => format!("/v1/keys?project={}", path_part(project)?),
                None => "/v1/keys".to_owned(),
            };
            let listed: Value = client.get_json(&path).await?;
            if args.json {
                say(format!("{listed:#}"));
                return Ok(ExitCode::SUCCESS);
            }
            say(table(&listed));
            Ok(ExitCode::SUCCESS)
        }
        KeysCommand::Revoke { id } => {
            client.delete(&format!("/v1/keys/{}", path_part(id)?)).await?;
            if args.json {
                say(json!({"id": id, "status": "revoked"}));
            } else {
                say(format!("revoked {id}: every server over the store refuses it within 10 s"));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl CreateArgs {
    fn body(&self) -> Value {
        let mut body = json!({"scopes": self.scopes});
        for (name, text) in [("project", &self.project), ("name", &self.name), ("ttl", &self.ttl)] {
            if let Some(text) = text {
                body[name] = text.as_str().into();
            }
        }
        let limits: Map<String, Value> = [
            ("events_per_second", self.events_per_second),
            ("bytes_per_second", self.bytes_per_second),
            ("events_per_day", self.events_per_day),
            ("bytes_per_day", self.bytes_per_day),
        ]
        .into_iter()
        .filter_map(|(name, limit)| Some((name.to_owned(), limit?.into())))
        .collect();
        if !limits.is_empty() {
            body["limits"] = limits.into();
        }
        body
    }
}

/// The key alone on standard output, so that a script can take it from there.
fn tell_made(args: &KeysArgs, made: &Value) -> anyhow::Result<ExitCode> {
    if args.json {
        say(format!("{made:#}"));
        return Ok(ExitCode::SUCCESS);
    }
    say(made["key"].as_str().context("the answer has no key")?);
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    remark(format!(
        "key {} of project {}: keep it now, it is not shown again",
        text("id"),
        text("project")
    ));
    Ok(ExitCode::SUCCESS)
}

fn table(listed: &Value) -> String {
    let row = |key: &Value| {
        let text = |name: &str| key[name].as_str().unwrap_or("-").to_owned();
        let scopes = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let scopes = scopes.collect::<Vec<_>>().join(",");
        [
            text("id"),
            text("project"),
            scopes,
            text("status"),
            text("expires_at"),
            text("last_used_at"),
            text("name"),
        ]
    };
    let head = ["ID", "PROJECT", "SCOPES", "STATUS", "EXPIRES", "LAST USED", "NAME"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(listed["keys"].as_array().into_iter().flatten().map(row));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Names come from clients and may hold anything.
            let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn key_in(path: &Path) -> anyhow::Result<ApiKey> {
    let context = || format!("--key-file: cannot read {}", path.display());
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()).with_context(context)?,
        false => std::fs::read_to_string(path).with_context(context)?,
    };
    ambient::check_key(text.trim()).context("--key-file")?;
    Ok(ApiKey::new(text.trim()))
}

/// Makes sure that a name can stand in a target as it is.
fn path_part(name: &str) -> anyhow::Result<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    ensure!(
        gristmill_model::key_id(name).is_none(),
        "that is a whole key: give its id, the part after the second `_`, and revoke it"
    );
    ensure!(
        !name.is_empty() && name.bytes().all(is_plain),
        "{name:?} is no id: ids have letters, digits, `-`, `_` and `.`"
    );
    Ok(name)
}
