//! The server under test: this very program as a child process, in a directory of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use gristmill_client::{Client, ClientConfig};
use tokio::time::Instant;

use crate::ambient;
use crate::config::CHOOSE_POSTGRES;

/// How long a server may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two questions whether it is.
const PAUSE: Duration = Duration::from_millis(2);

/// A child process that serves; killed when dropped.
pub(crate) struct ServerProcess {
    arguments: Vec<String>,
    output: PathBuf,
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts this program with arguments, of which `{address}` stands for a free address. Its
    /// output goes to the file `output`.
    pub(crate) fn start(arguments: &[&str], output: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let with_address = |argument: &&str| argument.replace("{address}", &address.to_string());
        let arguments: Vec<String> = arguments.iter().map(with_address).collect();
        let child = spawn(&arguments, output)?;
        Ok(Self { arguments, output: output.to_owned(), child, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a path answers 200 and tells how long that took.
    pub(crate) async fn wait_for(&mut self, path: &str) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let config = ClientConfig { timeout: Duration::from_secs(5), ..ClientConfig::default() };
        let client = Client::new(&format!("http://{}", self.address), config, ambient::entropy())?;
        while started.elapsed() < PATIENCE {
            if client.get(path).await.is_ok_and(|reply| reply.status == 200) {
                return Ok(started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.last_output());
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!(
            "the server did not answer {path} within {} s:\n{}",
            PATIENCE.as_secs(),
            self.last_output()
        )
    }

    /// Ends the process as a crash would, at once and without a word.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the server's end")?;
        Ok(())
    }

    /// Starts it again, at the same address.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.arguments, &self.output)?;
        Ok(())
    }

    fn last_output(&self) -> String {
        let output = std::fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}

fn spawn(arguments: &[String], output: &Path) -> anyhow::Result<Child> {
    let create = || File::options().create(true).append(true).open(output);
    let context = || format!("cannot write {}", output.display());
    let mut server = Command::new(ambient::own_program()?);
    // What is measured must not land in a database that happens to be set for something else.
    for variable in CHOOSE_POSTGRES {
        server.env_remove(variable);
    }
    server
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(create().with_context(context)?)
        .stderr(create().with_context(context)?)
        .spawn()
        .context("cannot start the server")
}

/// An address that is free now. Somebody else may take it before the server does, which then says
/// so and ends.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("there is no free port")?;
    Ok(listener.local_addr()?)
}
