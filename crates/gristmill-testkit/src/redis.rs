//! The Redis that `scripts/services` starts, and servers that are one test's own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::server::free_address;
use crate::{setting, wait_until};

/// Names the server.
const SERVER: &str = "GRISTMILL_TEST_REDIS";
/// How many numbered databases it has.
const DATABASES: u32 = 64;
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// The URL of an empty database of the server that tests share. Without a server this is an error
/// that says how to start one.
pub fn shared_redis() -> anyhow::Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = setting(SERVER).context(
        "GRISTMILL_TEST_REDIS is not set, so there is no Redis to test with: run \
         `eval \"$(scripts/services start)\"` first, or `make test`, which does",
    )?;
    let number = (id().wrapping_mul(7) + NEXT.fetch_add(1, Ordering::Relaxed)) % DATABASES;
    let url = format!("{server}/{number}");
    cli(&["-u", &url, "FLUSHDB"])?;
    Ok(url)
}

/// A server of its own, which a test may freeze, kill, and give an old dump. It keeps nothing on
/// disk unless it is told to. Killed when dropped.
#[derive(Debug)]
pub struct TestRedis {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl TestRedis {
    /// Starts one.
    pub fn start() -> anyhow::Result<Self> {
        let mut server = Self::absent()?;
        server.restart()?;
        Ok(server)
    }

    /// One that has not been started.
    pub fn absent() -> anyhow::Result<Self> {
        let port = free_address()?.port();
        Ok(Self { dir: tempfile::tempdir()?, port, child: None })
    }

    /// Its host and port, whether it runs or not.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends a command and gives what `redis-cli` prints.
    pub fn run(&self, command: &[&str]) -> anyhow::Result<String> {
        cli(&[&["-p", &self.port.to_string()], command].concat())
    }

    /// Stops it in the middle of what it does. Connections stay.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Has a frozen server go on.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it at once, with all that is in memory.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("Redis is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts it where it was, with its dump if it has one.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        server.arg("--dir").arg(self.dir.path());
        server.stdin(Stdio::null()).stdout(Stdio::null());
        let child = server.spawn().context(
            "cannot start redis-server: run `scripts/services start` first, which installs it",
        )?;
        self.child = Some(child);
        let pong = || self.run(&["PING"]).ok().filter(|said| said.trim() == "PONG");
        wait_until("Redis to answer", PATIENCE, pong).map(drop)
    }

    /// Has it write a dump of what it holds, which the next start loads.
    pub fn dump(&self) -> anyhow::Result<()> {
        self.run(&["SAVE"]).map(drop)
    }

    /// The dump.
    pub fn dump_file(&self) -> PathBuf {
        self.dir.path().join("dump.rdb")
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("Redis is not running")?;
        let id = Pid::from_raw(i32::try_from(child.id())?).context("no process id")?;
        Ok(kill_process(id, signal)?)
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that is gone already cannot be killed, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn cli(arguments: &[&str]) -> anyhow::Result<String> {
    let done = Command::new("redis-cli").args(arguments).stdin(Stdio::null()).output();
    let done = done.context("cannot start redis-cli")?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(done.status.success(), "redis-cli {arguments:?}: {said}{complaint}");
    Ok(said)
}
