//! A server in between that cuts connections at the worst moment.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How the server tells that a transaction has been committed.
const COMMITTED: &[u8] = b"COMMIT\0";

/// How it tells that a row has been inserted.
const INSERTED: &[u8] = b"INSERT 0 1\0";

/// What is done with what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is passed on.
    Open,
    /// The next answer to a COMMIT does not come through, nor anything after it on its connection.
    SwallowCommit,
    /// The next answer to an INSERT does not come through, nor anything after it on its connection,
    /// which stays open.
    SilenceInsert,
    /// Every connection is cut, and each new one at once.
    Cut,
}

/// Passes on what is said, or does not.
pub(super) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Stands before the server of a URL.
    pub(super) async fn before(url: &str, mode: Mode) -> Self {
        let server = url.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, mode) = (listener.local_addr().unwrap(), watch::Sender::new(mode));
        let modes = mode.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                connections.spawn(pass_on(client, server, modes.clone()));
            }
        });
        Self { address, mode, _tasks: tasks }
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(super) fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    /// The URL with this in the place of the server.
    pub(super) fn url(&self, url: &str) -> String {
        let (user, rest) = url.rsplit_once('@').unwrap();
        let (_, database) = rest.split_once('/').unwrap();
        format!("{user}@{}/{database}", self.address)
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, modes: watch::Sender<Mode>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let disarm = |armed: Mode| {
        modes.send_if_modified(|mode| {
            let is_armed = *mode == armed;
            *mode = if is_armed { Mode::Open } else { *mode };
            is_armed
        })
    };
    let has = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let answers = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let Ok(count @ 1..) = from_server.read(&mut bytes).await else { return };
            let bytes = &bytes[..count];
            if has(bytes, INSERTED) && disarm(Mode::SilenceInsert) {
                return std::future::pending().await;
            }
            if has(bytes, COMMITTED) && disarm(Mode::SwallowCommit)
                || to_client.write_all(bytes).await.is_err()
            {
                return;
            }
        }
    };
    let mut mode = modes.subscribe();
    tokio::select! {
        () = answers => {}
        _ = copy(&mut from_client, &mut to_server) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}
