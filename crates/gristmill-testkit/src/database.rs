//! Databases of the PostgreSQL server that `scripts/services` starts, and servers that are one
//! test's own.

use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::outside::services;
use crate::setting;

/// Names the server.
const SERVER: &str = "GRISTMILL_TEST_POSTGRES";

/// An empty database of its own, dropped with this.
#[derive(Debug)]
pub struct TestDatabase {
    server: String,
    name: String,
}

impl TestDatabase {
    /// Creates one. Without a server this is an error that says how to start one.
    pub fn create() -> anyhow::Result<Self> {
        Self::create_on(&setting(SERVER).context(
            "GRISTMILL_TEST_POSTGRES is not set, so there is no PostgreSQL to test with: run \
             `eval \"$(scripts/services start)\"` first, or `make test`, which does",
        )?)
    }

    /// A copy of it, in which everything has the numbers that it has here. Others' connections must
    /// end within a few seconds.
    pub fn copy(&self) -> anyhow::Result<Self> {
        Self::create_like(&self.server, &self.name)
    }

    fn create_on(server: &str) -> anyhow::Result<Self> {
        Self::create_like(server, "template1")
    }

    fn create_like(server: &str, template: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Of a process that had this number before and was killed.
        run(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        run(server, &format!("CREATE DATABASE {name} TEMPLATE {template}"))?;
        Ok(Self { server: server.to_owned(), name })
    }

    /// Where it is, with user and password.
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap_or((&self.server, ""));
        format!("{server}/{}", self.name)
    }

    /// Runs statements in it and gives the rows of the answers, a missing value as `NULL`.
    pub fn run(&self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        run(&self.url(), sql)
    }

    /// Has the server cut all connections that `gristmill` holds to it, and gives how many.
    pub fn cut_connections(&self) -> anyhow::Result<usize> {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND application_name = 'gristmill'";
        Ok(self.run(cut)?.len())
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // The server goes away with all its databases, so one that stays is no reason to fail.
        let _ = run(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// A server of its own, which a test may crash.
#[derive(Debug)]
pub struct TestPostgres {
    dir: tempfile::TempDir,
}

impl TestPostgres {
    /// Starts one, which takes a second or two.
    pub fn start() -> anyhow::Result<Self> {
        let server = Self { dir: tempfile::tempdir()? };
        server.services("start")?;
        Ok(server)
    }

    /// An empty database on it.
    pub fn create_database(&self) -> anyhow::Result<TestDatabase> {
        let said = self.services("env")?;
        let url = said.lines().find_map(|line| line.split_once(SERVER)?.1.strip_prefix('='));
        TestDatabase::create_on(url.context("scripts/services does not say where it is")?)
    }

    /// Ends it in the middle of what it does, so that it must recover when it starts again.
    pub fn crash(&self) -> anyhow::Result<()> {
        self.services("crash").map(drop)
    }

    /// Stops it in order, which cuts all connections and waits for nobody.
    pub fn halt(&self) -> anyhow::Result<()> {
        self.services("halt").map(drop)
    }

    /// Starts it again where it was.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.services("start").map(drop)
    }

    fn services(&self, command: &str) -> anyhow::Result<String> {
        services(self.dir.path(), command, "postgres")
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        // What cannot be stopped here is left to whoever looks at the machine.
        let _ = self.services("stop");
    }
}

/// Runs statements over a connection of their own, on a thread of its own, for whoever asks may be
/// asynchronous.
fn run(url: &str, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            let mut driver = tokio::task::JoinSet::new();
            driver.spawn(connection);
            Ok(client.simple_query(sql).await?)
        })
    };
    let answers: anyhow::Result<Vec<SimpleQueryMessage>> = std::thread::scope(|scope| {
        scope.spawn(work).join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
    });
    let answers = answers.with_context(|| format!("PostgreSQL: {sql}"))?;
    let rows = answers.iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let cell = |cell: Option<&str>| cell.unwrap_or("NULL").to_owned();
    Ok(rows.map(|row| (0..row.len()).map(|index| cell(row.get(index))).collect()).collect())
}
