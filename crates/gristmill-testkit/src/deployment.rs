//! Several processes of the real binary that are one platform together.

use anyhow::Context;

use crate::{ServerOptions, TestServer};

/// A platform: the process that clients speak to, and those behind it.
#[derive(Debug)]
pub struct Deployment {
    front: TestServer,
    behind: Vec<TestServer>,
}

/// A process behind a gateway.
#[derive(Clone, Debug)]
pub struct Behind {
    /// How it is started.
    pub options: ServerOptions,
    /// Its roles, as `--role` takes them.
    pub roles: &'static str,
}

impl Behind {
    /// All of the platform in one process.
    pub fn all(options: ServerOptions) -> Self {
        Self { options, roles: "ingest,process,query" }
    }
}

impl Deployment {
    /// One process that does everything.
    pub fn alone(options: ServerOptions) -> anyhow::Result<Self> {
        Ok(Self { front: options.start()?, behind: Vec::new() })
    }

    /// Processes behind a gateway, which reaches each for what its roles say. Returns when all of them
    /// are ready.
    pub fn behind_gateway(gateway: ServerOptions, behind: &[Behind]) -> anyhow::Result<Self> {
        // The later ones may need the earlier ones to become ready, or the other way round.
        let start = |it: &Behind| it.options.clone().role(it.roles).grpc().start_unready();
        let mut processes = behind.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
        let mut gateway = gateway.role("gateway");
        for (role, name) in
            [("ingest", "GRISTMILL__GATEWAY__INGEST"), ("query", "GRISTMILL__GATEWAY__QUERY")]
        {
            let named = behind.iter().zip(&processes).filter(|(it, _)| it.roles.contains(role));
            let addresses = named.map(|(_, process)| process.grpc_url());
            gateway =
                gateway.setting(name, &addresses.collect::<anyhow::Result<Vec<_>>>()?.join(","));
        }
        for (process, Behind { roles, .. }) in processes.iter_mut().zip(behind) {
            process.wait_ready().with_context(|| format!("the process with the roles {roles}"))?;
        }
        Ok(Self { front: gateway.start().context("the gateway")?, behind: processes })
    }

    /// The process that clients speak to.
    pub fn front(&self) -> &TestServer {
        &self.front
    }

    /// The processes behind the gateway, in the order they were given.
    pub fn behind(&mut self) -> &mut [TestServer] {
        &mut self.behind
    }

    /// Kills all processes at once, starts them again and waits until they are ready.
    pub fn crash(&mut self) -> anyhow::Result<()> {
        self.all().try_for_each(TestServer::kill9)?;
        self.start()
    }

    /// Stops all processes in order, the one that clients speak to first, and starts them again.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.start()
    }

    /// Stops all processes in order, the one that clients speak to first.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        for process in self.all() {
            let status = process.terminate()?;
            anyhow::ensure!(status.success(), "{status}: {}", process.log());
        }
        Ok(())
    }

    /// Starts all processes again and waits until they are ready.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.all().try_for_each(TestServer::spawn)?;
        self.all().try_for_each(|process| process.wait_ready().map(drop))
    }

    /// All processes, the one that clients speak to first.
    pub fn processes(&self) -> impl Iterator<Item = &TestServer> {
        std::iter::once(&self.front).chain(&self.behind)
    }

    fn all(&mut self) -> impl Iterator<Item = &mut TestServer> {
        std::iter::once(&mut self.front).chain(&mut self.behind)
    }
}
