//! The body of a call, for which memory is taken from the admission budget as its bytes come: a message is
//! kept whole before anybody sees it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use gristmill_ingest::Permit;
use http::{Extensions, Request};
use hyper::body::{Frame, SizeHint};
use prost::Message;
use tonic::Status;

use super::status;
use crate::app::App;
use crate::body::refused;
use crate::keys;

/// What a call holds of the budget, in its extensions.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Option<Permit>>>);

/// A call whose body is admitted as it comes.
pub(super) fn admitted(app: &Arc<App>, mut request: Request<Body>) -> Request<Body> {
    let held = Held::default();
    request.extensions_mut().insert(held.clone());
    request.map(|inner| Body::new(Admitted { app: Arc::clone(app), held, inner }))
}

/// Takes over what a call holds of the budget.
pub(super) fn take_permit(app: &App, extensions: &Extensions) -> Result<Permit, Status> {
    let held = extensions.get::<Held>();
    let permit = held.and_then(|held| held.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    match permit {
        Some(permit) => Ok(permit),
        None => app.services.ingest.admit(0).map_err(|error| status::of(&refused(error))),
    }
}

/// Counts what a call is about to append against the limits of the caller's key.
pub(super) fn charge(
    app: &App,
    extensions: &Extensions,
    events: usize,
    request: &impl Message,
) -> Result<(), Status> {
    let charged = keys::charge(app, extensions, events, || request.encoded_len());
    charged.map_err(|problem| status::of(&problem))
}

struct Admitted {
    app: Arc<App>,
    held: Held,
    inner: Body,
}

impl Admitted {
    fn hold(&self, bytes: usize) -> Result<(), Status> {
        let mut held = self.held.0.lock().unwrap_or_else(PoisonError::into_inner);
        let grown = match held.as_mut() {
            Some(permit) => permit.grow(bytes),
            None => self.app.services.ingest.admit(bytes).map(|permit| *held = Some(permit)),
        };
        self.app.metrics.received_bytes.add(bytes as u64);
        grown.map_err(|error| status::of(&refused(error)))
    }
}

impl hyper::body::Body for Admitted {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(frame) => frame?,
        };
        if let Some(data) = frame.data_ref()
            && let Err(status) = self.hold(data.len())
        {
            return Poll::Ready(Some(Err(status.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
