//! The one place where tests touch the machine's clock and environment.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How often [`wait_until`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Measures time from its start.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "a test measures the real binary in real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Looks again and again until `look` gives something, and gives that; after `limit` an error
/// that names `what` was waited for.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let waited = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(waited.elapsed() < limit, "waited {limit:?} in vain for {what}");
        pause(LOOK_EVERY);
    }
}

/// Lets time pass. For choosing a random moment, never for hoping that something has happened.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// An environment variable that steers a test, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "the tests' only access to the environment")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder of the checkout that is tested. Asked at run time: a test that was built in another
/// checkout is not built again if its sources are the same.
pub fn repository() -> PathBuf {
    let of_crate = setting("CARGO_MANIFEST_DIR");
    let of_crate = of_crate.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&of_crate).join("../..")
}

/// Lets this process, and those it starts, have as many files and connections open as the system
/// allows it to ask for; the usual limit is too low for a thousand clients.
pub fn raise_open_files_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// A file of the shared data sets, which lie outside the repository: in `GRISTMILL_DATA_DIR`, or
/// in `../shared/data` beside the repository. Where it is absent, this says so on standard error
/// and gives `None`; the test should then return.
#[expect(clippy::print_stderr, reason = "a test that checks nothing must say so")]
pub fn data_file(name: &str) -> Option<PathBuf> {
    let folder = setting("GRISTMILL_DATA_DIR")
        .map_or_else(|| repository().join("../shared/data"), PathBuf::from);
    let file = folder.join(name);
    if file.is_file() {
        return Some(file);
    }
    eprintln!("not checked: {} is absent; GRISTMILL_DATA_DIR names another place", file.display());
    None
}

/// Has `scripts/services` do something with one service in a folder, and gives what it says.
pub(crate) fn services(folder: &Path, command: &str, service: &str) -> anyhow::Result<String> {
    let mut services = Command::new(repository().join("scripts/services"));
    let done = services.args([command, service]).env("GRISTMILL_SERVICES_DIR", folder).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(done.status.success(), "scripts/services {command} {service}: {said}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
