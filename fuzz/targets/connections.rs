//! Any bytes over a socket, of HTTP/1.1 and HTTP/2: each connection ends soon after the client has sent all.
#![no_main]

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gristmill_fuzz::Platform;
use gristmill_server::{Listeners, Server};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a connection may last: longer than anything that the server waits for.
const PATIENCE: Duration = Duration::from_secs(9);

thread_local! {
    static SERVER: RefCell<Listening> = RefCell::new(Listening::new());
}

struct Listening {
    platform: Platform,
    addresses: [SocketAddr; 2],
    connections: u32,
}

fuzz_target!(|input: &[u8]| {
    let Some((place, bytes)) = input.split_first() else { return };
    SERVER.with_borrow_mut(|server| {
        server.exchange(usize::from(place % 2), bytes);
        if server.platform.is_used_up() {
            *server = Listening { connections: server.connections, ..Listening::new() };
        }
    });
});

impl Listening {
    fn new() -> Self {
        let platform = Platform::new();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listeners = Listeners { http: vec![any], grpc: vec![any] };
        let bind = async { Server::bind(&listeners, platform.front().clone()) };
        let server = platform.runtime.block_on(bind).expect("an address");
        let bound = server.local_addrs();
        let addresses = [bound.http[0], bound.grpc[0]];
        platform.runtime.spawn(server.run(CancellationToken::new()));
        Self { platform, addresses, connections: 0 }
    }

    fn exchange(&mut self, place: usize, bytes: &[u8]) {
        // A port is not free at once when its connection has ended, so each has an address of its own.
        self.connections = self.connections.wrapping_add(1);
        let [_, a, b, _] = self.connections.to_be_bytes();
        let own = SocketAddr::from((Ipv4Addr::new(127, a % 250, b % 250, 1), 0));
        let address = self.addresses[place];
        let exchange = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(own)?;
            let mut stream = socket.connect(address).await?;
            // The server may answer and close before it has read everything.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let mut buffer = [0; 4096];
            while let Ok(1..) = stream.read(&mut buffer).await {}
            std::io::Result::Ok(())
        };
        let ended = self.platform.runtime.block_on(async { timeout(PATIENCE, exchange).await });
        ended.expect("the server neither answers nor closes").expect("a connection");
    }
}
