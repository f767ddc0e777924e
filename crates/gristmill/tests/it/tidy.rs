//! The rules of the repository that a machine can hold: who may depend on whom, how long a file
//! may be, what the front page says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use toml::{Table, Value};

/// The most lines of a source file.
const FILE_LINES: usize = 500;

/// The dependency table of ARCHITECTURE.md: each crate with the crates of ours that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("gristmill-model", &[]),
    ("gristmill-log", &["gristmill-model"]),
    ("gristmill-store", &["gristmill-model"]),
    ("gristmill-ingest", &["gristmill-model", "gristmill-log"]),
    ("gristmill-process", &["gristmill-model", "gristmill-log", "gristmill-store"]),
    ("gristmill-query", &["gristmill-model", "gristmill-store"]),
    (
        "gristmill-server",
        &[
            "gristmill-model",
            "gristmill-proto",
            "gristmill-ingest",
            "gristmill-query",
            "gristmill-store",
        ],
    ),
    ("gristmill-proto", &[]),
    ("gristmill-client", &["gristmill-model", "gristmill-proto"]),
    (
        "gristmill",
        &[
            "gristmill-model",
            "gristmill-log",
            "gristmill-store",
            "gristmill-ingest",
            "gristmill-process",
            "gristmill-query",
            "gristmill-server",
            "gristmill-client",
        ],
    ),
    ("gristmill-testkit", &["gristmill-model"]),
];

/// Libraries of others that only the named crates may use.
const FENCED: &[(&[&str], &[&str])] = &[
    (&["axum", "schemars", "tower"], &["gristmill-server"]),
    // The binary has the bare server that calls are measured against.
    (&["tonic"], &["gristmill-proto", "gristmill-server", "gristmill-client", "gristmill"]),
    (&["tonic-health", "tonic-reflection", "tonic-types", "tonic-web"], &["gristmill-server"]),
    (
        &["http", "http-body-util", "hyper", "hyper-util"],
        &["gristmill-server", "gristmill-client", "gristmill"],
    ),
    (&["tokio-rustls"], &["gristmill-server", "gristmill-client"]),
    (&["hyper-rustls", "rustls-native-certs"], &["gristmill-client"]),
    (&["rcgen"], &["gristmill-testkit"]),
    (&["arrow-array", "arrow-buffer", "arrow-schema", "parquet"], &["gristmill-store"]),
    (&["tokio-postgres"], &["gristmill-store", "gristmill-testkit"]),
    (&["moka", "redis"], &["gristmill-store"]),
    (&["rdkafka"], &["gristmill-log", "gristmill-testkit"]),
    (&["clap", "config", "indicatif", "tracing-subscriber"], &["gristmill"]),
    (&["anyhow"], &["gristmill", "gristmill-testkit"]),
];

/// What the model stays free of, besides everything of ours.
const NOT_IN_MODEL: &[&str] = &["tokio", "serde_json", "rustix", "getrandom", "tracing"];

/// Crates that may not be in the lock file, not even by way of others (see also deny.toml).
const BANNED: &[&str] =
    &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys", "datafusion"];

#[test]
fn crates_use_only_what_the_table_allows() -> anyhow::Result<()> {
    let table: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, dependencies) in manifests()? {
        let Some(allowed) = table.get(name.as_str()) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        let ours = dependencies.iter().filter(|dependency| dependency.starts_with("gristmill"));
        let forbidden = ours.filter(|dependency| !allowed.contains(&dependency.as_str()));
        wrong.extend(forbidden.map(|dependency| format!("{name} must not use {dependency}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn libraries_stay_behind_their_fences() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for (name, dependencies) in manifests()? {
        for dependency in &dependencies {
            let dependency = dependency.as_str();
            let fence = FENCED.iter().find(|(libraries, _)| libraries.contains(&dependency));
            let is_outside = fence.is_some_and(|(_, users)| !users.contains(&name.as_str()));
            let is_impure = name == "gristmill-model" && NOT_IN_MODEL.contains(&dependency);
            if is_outside || is_impure {
                wrong.push(format!("{name} must not use {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn lock_file_is_free_of_banned_crates() -> anyhow::Result<()> {
    let lock = read_toml(&root().join("Cargo.lock"))?;
    let packages = lock["package"].as_array().context("no packages in Cargo.lock")?;
    let names = packages.iter().filter_map(|package| package.get("name")?.as_str());
    let banned: Vec<_> = names.filter(|name| BANNED.contains(name)).collect();
    assert!(banned.is_empty(), "{banned:?}");
    Ok(())
}

#[test]
fn source_files_are_short() -> anyhow::Result<()> {
    let mut files = Vec::new();
    source_files(&root(), &mut files)?;
    assert!(files.len() > 30, "found only {} source files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let lines = fs::read_to_string(&file)?.lines().count();
        if lines > FILE_LINES {
            wrong.push(format!("{}: {lines} lines, more than {FILE_LINES}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn readme_sets_up_with_two_commands() -> anyhow::Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let blocks: Vec<_> = readme.split("```").skip(1).step_by(2).collect();
    let commands: Vec<_> = blocks.first().context("no command")?.lines().skip(1).collect();
    assert_eq!(commands, ["make run", "make test"], "the first block of README.md");

    let installers = ["apt-get", "brew", "cargo install", "docker", "npm", "pip", "rustup", "sudo"];
    let lines = blocks.iter().flat_map(|block| block.lines());
    let more: Vec<_> =
        lines.filter(|line| installers.iter().any(|word| line.trim().starts_with(word))).collect();
    assert!(more.is_empty(), "README.md asks for more set-up: {more:?}");

    let makefile = fs::read_to_string(root().join("Makefile"))?;
    for target in ["run", "test", "bench", "chaos", "lint", "fmt", "clean", "deny"] {
        assert!(makefile.contains(&format!("\n{target}: ")), "the Makefile has no {target}");
    }
    Ok(())
}

#[test]
fn documents_are_there_and_their_links_lead_somewhere() -> anyhow::Result<()> {
    let mut documents: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
            .map(|name| root().join(name))
            .into();
    for folder in ["docs", "docs/adr"] {
        let entries = fs::read_dir(root().join(folder))?;
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        documents.extend(paths.into_iter().filter(|path| path.extension().is_some()));
    }
    let mut broken = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).with_context(|| document.display().to_string())?;
        let folder = document.parent().context("no folder")?;
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains("://");
            if !is_elsewhere && !folder.join(path).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    Ok(())
}

#[test]
fn every_test_that_the_guarantees_name_exists() -> anyhow::Result<()> {
    let guarantees = fs::read_to_string(root().join("docs/guarantees.md"))?;
    let (_, table) = guarantees.split_once("## The tests").context("no list of tests")?;
    let is_name = |text: &&str| text.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
    let names: Vec<_> = table.split('`').filter(is_name).collect();
    assert!(names.len() > 10, "{names:?}");

    let mut files = Vec::new();
    source_files(&root().join("crates"), &mut files)?;
    let sources = files.iter().map(fs::read_to_string).collect::<Result<String, _>>()?;
    let missing: Vec<_> =
        names.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    Ok(())
}

fn root() -> PathBuf {
    gristmill_testkit::repository()
}

fn read_toml(path: &Path) -> anyhow::Result<Table> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

/// Every crate's name with its normal and build dependencies, those of single platforms included.
/// A crate must be called like its folder.
fn manifests() -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut manifests = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates"))? {
        let folder = entry?.path();
        let manifest = read_toml(&folder.join("Cargo.toml"))?;
        let name = manifest["package"]["name"].as_str().context("no package name")?.to_owned();
        anyhow::ensure!(folder.ends_with(&name), "{name} lies in {}", folder.display());
        let platforms = manifest.get("target").and_then(Value::as_table);
        let platforms = platforms.into_iter().flat_map(|table| table.values());
        let tables = platforms.filter_map(Value::as_table).chain([&manifest]);
        let dependencies = tables.flat_map(dependency_names).collect();
        manifests.insert(name, dependencies);
    }
    anyhow::ensure!(!manifests.is_empty(), "no crates");
    Ok(manifests)
}

fn dependency_names(table: &Table) -> Vec<String> {
    let kinds = ["dependencies", "build-dependencies"];
    let tables = kinds.iter().filter_map(|kind| table.get(*kind)?.as_table());
    tables.flat_map(|dependencies| dependencies.keys().cloned()).collect()
}

/// All source files below a folder, without what was built, installed or hidden.
fn source_files(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            // What is generated from `proto/` is as long as it is, and held against it by a test.
            let is_ours =
                !name.starts_with('.') && !["target", "node_modules", "generated"].contains(&name);
            if is_ours {
                source_files(&path, found)?;
            }
        } else if ["rs", "ts", "tsx"].iter().any(|kind| path.extension() == Some(kind.as_ref())) {
            found.push(path);
        }
    }
    Ok(())
}
