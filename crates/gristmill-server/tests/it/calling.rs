//! A client of gRPC that is as good or as bad as a test wants.

use std::io;
use std::net::SocketAddr;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::PATIENCE;

pub(crate) const EVENT_COUNT: &str = "/analytics.AnalyticsService/GetEventCount";

/// A connection to a server.
pub(crate) struct Caller {
    sender: http2::SendRequest<Body>,
    _driving: JoinSet<hyper::Result<()>>,
}

/// An answer that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Caller {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(connection);
        Self { sender, _driving: driving }
    }

    /// Sends one message and gives all of the answer.
    pub(crate) async fn call(
        &mut self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Body>,
    ) -> Ended {
        ended(self.begin(path, headers, body).await).await
    }

    /// Sends a message and gives the answer as soon as it begins.
    pub(crate) async fn begin(
        &mut self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Body>,
    ) -> Response<Incoming> {
        let mut request =
            Request::post(format!("http://localhost{path}")).body(body.into()).unwrap();
        let all = request.headers_mut();
        all.insert("content-type", HeaderValue::from_static("application/grpc"));
        all.insert("te", HeaderValue::from_static("trailers"));
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        let answer = timeout(PATIENCE, self.sender.send_request(request)).await;
        answer.expect("there is no answer").unwrap()
    }
}

/// Reads an answer to its end.
pub(crate) async fn ended(answer: Response<Incoming>) -> Ended {
    let (parts, body) = answer.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("the answer does not end").unwrap();
    let trailers = body.trailers().cloned().unwrap_or_else(|| parts.headers.clone());
    Ended { headers: parts.headers, body: body.to_bytes(), trailers }
}

/// The first message of an answer, or how it ended without one.
pub(crate) async fn first(answer: &mut Response<Incoming>) -> Result<Bytes, Ended> {
    let mut bytes = BytesMut::new();
    let mut trailers = answer.headers().clone();
    loop {
        if let Some((&[0, a, b, c, d], rest)) = bytes.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if let Some(payload) = rest.get(..length) {
                return Ok(Bytes::copy_from_slice(payload));
            }
        }
        let frame = timeout(PATIENCE, answer.body_mut().frame()).await.expect("nothing comes");
        match frame.map(|frame| frame.unwrap().into_data()) {
            Some(Ok(data)) => bytes.extend_from_slice(&data),
            Some(Err(frame)) => trailers = frame.into_trailers().unwrap(),
            None => {
                let headers = answer.headers().clone();
                return Err(Ended { headers, body: bytes.freeze(), trailers });
            }
        }
    }
}

impl Ended {
    pub(crate) fn status(&self) -> &str {
        text(&self.trailers, "grpc-status")
    }

    pub(crate) fn message(&self) -> &str {
        text(&self.trailers, "grpc-message")
    }
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// Sends a body as the test goes on; the body ends when this is dropped.
pub(crate) struct Sending(mpsc::Sender<io::Result<Frame<Bytes>>>);

impl Sending {
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) {
        self.0.send(Ok(Frame::data(piece.into()))).await.unwrap();
    }

    /// The client gives the call up.
    pub(crate) async fn give_up(self) {
        self.0.send(Err(io::ErrorKind::ConnectionAborted.into())).await.unwrap();
    }
}

/// A body that is sent as the test goes on.
pub(crate) fn slow_body() -> (Sending, Body) {
    let (sender, mut receiver) = mpsc::channel(16);
    let pieces = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    (Sending(sender), Body::new(StreamBody::new(pieces)))
}

/// A message as gRPC frames it.
pub(crate) fn framed(flag: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], payload].concat()
}

/// The payloads of messages that are not compressed.
pub(crate) fn payloads(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let [0, length @ ..] = *head else { panic!("{head:?}") };
        let (payload, rest) = rest.split_at(u32::from_be_bytes(length) as usize);
        all.push(payload);
        bytes = rest;
    }
    all
}

/// A message of texts, the fields 1, 2 and so on.
pub(crate) fn texts(texts: &[&str]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (text, number) in texts.iter().zip(1..) {
        payload.push(number << 3 | 2);
        let mut length = text.len();
        while length >= 0x80 {
            payload.push(length as u8 | 0x80);
            length >>= 7;
        }
        payload.push(length as u8);
        payload.extend(text.as_bytes());
    }
    payload
}
