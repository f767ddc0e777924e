//! The real binary as a server of its own: in a fresh folder, on ports of its own, killed when
//! dropped. Its output goes to files that a failing test can show.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Request, Response, Stopwatch, http, wait_until};

/// Where it listens for gRPC; empty, nowhere.
const GRPC_LISTEN: &str = "GRISTMILL__SERVER__GRPC_LISTEN";

/// How long a server may take until it is ready, and until it is gone after a signal.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a [`TestServer`] is started.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    binary: PathBuf,
    listeners: usize,
    grpc_listeners: usize,
    other_grpc: OtherGrpc,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl ServerOptions {
    /// One listener and no settings. An integration test gives `env!("CARGO_BIN_EXE_gristmill")`.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let (arguments, environment) = (Vec::new(), BTreeMap::new());
        Self {
            binary: binary.into(),
            listeners: 1,
            grpc_listeners: 0,
            other_grpc: OtherGrpc::None,
            arguments,
            environment,
        }
    }

    /// How many addresses it listens on.
    #[must_use]
    pub fn listeners(mut self, count: usize) -> Self {
        self.listeners = count;
        self
    }

    /// It listens on one address for gRPC too. Otherwise it does on none, unless its variable is set.
    #[must_use]
    pub fn grpc(mut self) -> Self {
        self.grpc_listeners = 1;
        self
    }

    /// It listens for gRPC where it does if it is told nothing of it.
    #[must_use]
    pub fn default_grpc(mut self) -> Self {
        self.other_grpc = OtherGrpc::Default;
        self
    }

    /// Its roles, with commas between.
    #[must_use]
    pub fn role(self, roles: &str) -> Self {
        self.argument("--role").argument(roles)
    }

    /// Adds an argument of `serve`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets an environment variable; apart from these the server sees none.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts the server and waits until it is ready.
    pub fn start(self) -> anyhow::Result<TestServer> {
        let mut server = self.start_unready()?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Starts the server without waiting.
    pub fn start_unready(self) -> anyhow::Result<TestServer> {
        let folder = tempfile::tempdir()?;
        let free = |count| (0..count).map(|_| free_address()).collect::<Result<Vec<_>, _>>();
        let (addresses, grpc_addresses) = (free(self.listeners)?, free(self.grpc_listeners)?);
        let mut server =
            TestServer { options: self, folder, addresses, grpc_addresses, child: None };
        server.spawn()?;
        Ok(server)
    }
}

/// Where a server listens for gRPC beside the addresses that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OtherGrpc {
    None,
    Default,
}

/// A running server.
#[derive(Debug)]
pub struct TestServer {
    options: ServerOptions,
    folder: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
    grpc_addresses: Vec<SocketAddr>,
    child: Option<Child>,
}

impl TestServer {
    /// The first address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where gateways reach it, as their settings name it.
    pub fn grpc_url(&self) -> anyhow::Result<String> {
        let address = self.grpc_addresses.first().context("it does not listen for gRPC")?;
        Ok(format!("http://{address}"))
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Sends one request to the first address.
    pub fn send(&self, request: &Request) -> anyhow::Result<Response> {
        let context = || format!("{} {}", request.method, request.target);
        http::send(self.address(), request).with_context(context)
    }

    /// Gets JSON; any status but 200 is an error that shows the answer.
    pub fn get_json(&self, target: &str) -> anyhow::Result<serde_json::Value> {
        self.expect_json(&Request::get(target))
    }

    /// Posts JSON and gets JSON; any status but 200 is an error that shows the answer.
    pub fn post_json(
        &self,
        target: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        self.expect_json(&Request::post_json(target, body.to_string()))
    }

    /// Runs another command of the binary in the server's folder and gives its output, whatever
    /// its exit status.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command_line();
        Ok(command.args(arguments).stdin(Stdio::null()).output()?)
    }

    /// Kills the process at once, as the kernel would for lack of memory, and waits for its end.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the server is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks the process to end in good order and gives its exit status.
    pub fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_exit()
    }

    /// Tells the process to read its certificates again.
    pub fn hangup(&self) -> anyhow::Result<()> {
        self.signal(Signal::HUP)
    }

    /// Has the process stand still, as if the machine had no time for it, until it is thawed or killed.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Has a frozen process go on.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("the server is not running")?;
        let id = Pid::from_raw(i32::try_from(child.id())?).context("no process id")?;
        Ok(kill_process(id, signal)?)
    }

    /// Waits until the process has ended by itself and gives its exit status.
    pub fn wait_exit(&mut self) -> anyhow::Result<ExitStatus> {
        let mut child = self.child.take().context("the server is not running")?;
        let ended = wait_until("the server's end", PATIENCE, || child.try_wait().transpose());
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        ended.with_context(|| self.log_tail())?.context("cannot wait for the server")
    }

    /// Starts the process in the same folder and on the same ports without waiting.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.command_line();
        command.arg("serve").arg("--data-dir").arg(self.data_dir());
        let is_set = self.options.environment.contains_key(GRPC_LISTEN);
        if !is_set && self.options.other_grpc == OtherGrpc::None {
            // Servers of other tests would want the default port too.
            command.env(GRPC_LISTEN, "");
        }
        for address in &self.addresses {
            command.arg("--listen").arg(address.to_string());
        }
        for address in &self.grpc_addresses {
            command.arg("--grpc-listen").arg(address.to_string());
        }
        command.args(&self.options.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("cannot start the server")?);
        Ok(())
    }

    /// Waits until `/ready` answers 200 and gives how long that took.
    pub fn wait_ready(&mut self) -> anyhow::Result<Duration> {
        let waited = Stopwatch::start();
        let address = self.address();
        let child = self.child.as_mut().context("the server is not running")?;
        let state = wait_until("the server to be ready", PATIENCE, || {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(status));
            }
            let answer = http::send(address, &Request::get("/ready")).ok()?;
            (answer.status == 200).then_some(Ok(()))
        });
        match state.with_context(|| self.log_tail())? {
            Ok(()) => Ok(waited.elapsed()),
            Err(status) => bail!("the server ended with {status}: {}", self.log_tail()),
        }
    }

    /// Starts the process again and gives how long it took until it was ready.
    pub fn restart(&mut self) -> anyhow::Result<Duration> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Changes a setting for the next start.
    pub fn change_setting(&mut self, name: &str, value: &str) {
        self.options.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Everything the process has printed, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The peak of the process's resident memory in bytes, as the kernel tells it.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        let child = self.child.as_ref().context("the server is not running")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
        Ok(kibibytes.parse::<u64>()? * 1024)
    }

    fn expect_json(&self, request: &Request) -> anyhow::Result<serde_json::Value> {
        let response = self.send(request)?;
        let target = &request.target;
        anyhow::ensure!(
            response.status == 200,
            "{target}: status {}: {}",
            response.status,
            response.text()
        );
        response.json().with_context(|| target.clone())
    }

    fn command_line(&self) -> Command {
        let mut command = Command::new(&self.options.binary);
        command.current_dir(self.folder.path()).env_clear().envs(&self.options.environment);
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("the server's last lines:\n{}", lines.join("\n"))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A process that is gone already cannot be killed, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A loopback address whose port is free now.
///
/// Ports are taken from below the range that the kernel gives to outgoing connections: a client
/// that keeps trying a killed server's port from that range would sooner or later be given the
/// same number and connect to itself.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..1_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + spread.wrapping_mul(37).wrapping_add(step) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("found no free port")
}
