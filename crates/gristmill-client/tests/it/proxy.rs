//! A network between client and server that can be cut, be slow, or swallow what is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const PASS: u8 = 0;
const SLOW: u8 = 1;
const SWALLOW: u8 = 2;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    way: Arc<Way>,
    _tasks: JoinSet<()>,
}

struct Way {
    mode: AtomicU8,
    cuts: watch::Sender<u64>,
    passed: AtomicU64,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = Way {
            mode: AtomicU8::new(PASS),
            cuts: watch::Sender::new(0),
            passed: AtomicU64::new(0),
        };
        let way = Arc::new(way);
        let shared = Arc::clone(&way);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(join(near, server, Arc::clone(&shared)));
            }
        });
        Self { address, way, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections at once.
    pub(crate) fn cut(&self) {
        self.way.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets little through at a time.
    pub(crate) fn slow(&self) {
        self.way.mode.store(SLOW, SeqCst);
    }

    /// Takes everything and passes nothing on.
    pub(crate) fn swallow(&self) {
        self.way.mode.store(SWALLOW, SeqCst);
    }

    /// As if it were not there.
    pub(crate) fn pass(&self) {
        self.way.mode.store(PASS, SeqCst);
    }

    pub(crate) fn passed(&self) -> u64 {
        self.way.passed.load(SeqCst)
    }
}

async fn join(near: TcpStream, server: SocketAddr, way: Arc<Way>) {
    let mut cuts = way.cuts.subscribe();
    let Ok(far) = TcpStream::connect(server).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pass(near_in, far_out, &way) => {}
        () = pass(far_in, near_out, &way) => {}
        _ = cuts.changed() => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &Way) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let most = if way.mode.load(SeqCst) == SLOW { 512 } else { buffer.len() };
        let Ok(read) = from.read(&mut buffer[..most]).await else { return };
        if read == 0 {
            return;
        }
        match way.mode.load(SeqCst) {
            SWALLOW => continue,
            SLOW => tokio::time::sleep(Duration::from_millis(1)).await,
            _ => {}
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        way.passed.fetch_add(read as u64, SeqCst);
    }
}
