//! The layers below a file: the defaults, a preset, and what older systems' environments say.

use std::collections::HashMap;

use anyhow::Context as _;

use gristmill_server::{Role, Roles};

use super::database::value;
use super::{DEFAULTS, Flags, RoleName, Settings, cache, database, kafka, roles};

/// Gives what an environment says of a section, without what is set elsewhere.
type Says = fn(&HashMap<String, String>, &dyn Fn(&str) -> bool) -> anyhow::Result<toml::Table>;

/// A section that has a kind of its own for a server, which an older system's environment may choose.
struct Chosen {
    section: &'static str,
    /// The kind that is chosen.
    kind: &'static str,
    is_chosen: fn(&HashMap<String, String>) -> bool,
    says: Says,
}

const CHOSEN: [Chosen; 3] = [
    Chosen {
        section: "store",
        kind: "postgres",
        is_chosen: database::is_chosen_by_older_systems,
        says: database::of_older_systems,
    },
    Chosen {
        section: "log",
        kind: "kafka",
        is_chosen: kafka::is_chosen_by_older_systems,
        says: kafka::of_older_systems,
    },
    Chosen {
        section: "cache",
        kind: "redis",
        is_chosen: cache::is_chosen_by_older_systems,
        says: cache::of_older_systems,
    },
];

/// The lowest layers as texts; of each section only what is about its kind.
pub(super) fn layers(
    flags: &Flags,
    environment: &HashMap<String, String>,
) -> anyhow::Result<Vec<String>> {
    let mut defaults: toml::Table = DEFAULTS.parse().context("the defaults cannot be read")?;
    let roles = roles_above(&defaults, flags, environment)?;
    if !is_for_clients(&roles) {
        leave_grpc_out(&mut defaults);
    }
    let preset = match flags.preset {
        Some(preset) => preset.settings(&roles)?,
        None => toml::Table::new(),
    };
    let mut older = toml::Table::new();
    if let Some(process) = roles::of_older_systems(environment)? {
        insert(&mut older, "process", process);
    }
    let telemetry = telemetry_of_environment(environment);
    if !telemetry.is_empty() {
        insert(&mut older, "telemetry", telemetry);
    }
    for chosen in CHOSEN.iter().filter(|chosen| (chosen.is_chosen)(environment)) {
        insert(&mut older, chosen.section, toml::Table::from_iter([of_kind(chosen.kind)]));
    }
    let mut tables = [defaults, preset, older];
    // The first look is for the kinds only.
    let look = Settings::layers(&texts(&tables)?, flags, environment)?;
    let above = Settings::layers(&[], flags, environment)?;
    for Chosen { section, kind: other, says, .. } in CHOSEN {
        let kind = look.get_string(&format!("{section}.kind")).unwrap_or_default();
        tables.iter_mut().for_each(|table| remove_other_kind(table, section, &kind));
        if kind != other {
            continue;
        }
        let is_set = |name: &str| above.get_string(&format!("{section}.{name}")).is_ok();
        let mut said = says(environment, &is_set)?;
        said.extend([of_kind(other)]);
        insert(&mut tables[2], section, said);
    }
    texts(&tables)
}

/// Whether clients speak to a process with these roles.
fn is_for_clients(roles: &Roles) -> bool {
    *roles == Role::all_in_one() || roles.contains(&Role::Gateway)
}

/// Several processes of one platform on a machine would want the same port.
fn leave_grpc_out(defaults: &mut toml::Table) {
    if let Some(server) = defaults.get_mut("server").and_then(toml::Value::as_table_mut) {
        server.insert("grpc_listen".to_owned(), toml::Value::Array(Vec::new()));
    }
}

/// What OpenTelemetry's own variables say.
fn telemetry_of_environment(environment: &HashMap<String, String>) -> toml::Table {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint"),
        ("OTEL_SERVICE_NAME", "otlp_service_name"),
    ];
    let said = variables.into_iter().filter_map(|(variable, setting)| {
        Some((setting.to_owned(), value(environment, variable)?.into()))
    });
    said.collect()
}

/// The roles that the process is given; no preset says anything of them. What makes no sense is found
/// when all settings are read.
fn roles_above(
    defaults: &toml::Table,
    flags: &Flags,
    environment: &HashMap<String, String>,
) -> anyhow::Result<Roles> {
    let look = Settings::layers(&texts(std::slice::from_ref(defaults))?, flags, environment)?;
    let names: Vec<RoleName> = look.get("roles").unwrap_or_default();
    Ok(names.into_iter().map(|name| name.0).collect())
}

fn of_kind(kind: &str) -> (String, toml::Value) {
    ("kind".to_owned(), kind.into())
}

fn insert(table: &mut toml::Table, section: &str, settings: toml::Table) {
    table.insert(section.to_owned(), settings.into());
}

/// Takes a section out that is about another kind.
fn remove_other_kind(table: &mut toml::Table, section: &str, kind: &str) {
    let held = table.get(section).and_then(|section| section.get("kind"));
    if held.and_then(toml::Value::as_str).is_some_and(|held| held != kind) {
        table.remove(section);
    }
}

fn texts(tables: &[toml::Table]) -> anyhow::Result<Vec<String>> {
    tables
        .iter()
        .map(|table| toml::to_string(table).context("settings cannot be written"))
        .collect()
}
