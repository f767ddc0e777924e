//! The one place where a request or call is looked at for who sends it.

use std::future::Future;

use gristmill_store::StoreError;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::ring::{Refusal, Ring};
use super::{Hash, Need, Peer, has_any, is_credential, refuse_in_target};
use crate::app::App;
use crate::caller::Who;
use crate::front::Front;
use crate::gateway::name_of;
use crate::problem::Problem;

impl Front {
    /// Finds out who sends a request or call, makes sure that they may do what it needs, and puts the
    /// [`Caller`](crate::caller::Caller) into its extensions. The body is not touched.
    pub(crate) async fn identify<B>(
        &self,
        request: &mut Request<B>,
        need: Need,
    ) -> Result<(), Problem> {
        refuse_in_target(request.uri())?;
        if need == Need::Nothing {
            return Ok(());
        }
        let peer = request.extensions().get::<Peer>().copied();
        let Some(app) = self.app() else {
            let Some(gateway) = self.gateway() else { return Ok(()) };
            if let Err(problem) = self.peers().check(peer)
                && !gateway.is_good(&name_of(request.headers()))
            {
                return Err(problem);
            }
            gateway.may_serve()?;
            gateway.expect_some(request.headers())?;
            // Others answer, who have the keys.
            if need == Need::Elsewhere {
                return Ok(());
            }
            // What a request holds is not shared while others are asked.
            let headers = credentials_of(request.headers());
            return Box::pin(gateway.vouch(headers, need)).await;
        };
        let caller = match app.ring.identify(request.headers()) {
            Ok(caller) => caller,
            Err(refusal) => {
                if let Refusal::Wrong(_) = refusal {
                    app.metrics.wrong_keys.add(1);
                    self.peers().has_failed(peer)?;
                }
                return Err(refusal.into());
            }
        };
        // Keys that are in use go on where another client tries wrong ones; the one of the settings is
        // chosen by people, and so could be guessed.
        let could_be_guessed = match &caller.who {
            Who::Anyone => false,
            Who::Operator => true,
            Who::Key(key) => key.usage.last().is_none(),
        };
        if could_be_guessed {
            self.peers().check(peer)?;
        }
        let room = match &caller.who {
            Who::Key(key) => key.note(app.now(), need),
            Who::Anyone | Who::Operator => Ok(()),
        };
        let checked = caller.check(need);
        request.extensions_mut().insert(caller);
        checked.and(room)
    }

    /// The credentials that a gateway is to watch, by a name that does not tell them.
    pub(crate) fn watched(&self, headers: &HeaderMap, need: Need) -> Option<Hash> {
        let is_watched = self.app().is_none() && need != Need::Nothing && has_any(headers);
        is_watched.then(|| name_of(headers))
    }

    /// Takes in what another process said to watched credentials that came from an address.
    pub(crate) fn note(&self, watched: Hash, peer: Option<Peer>, status: StatusCode) {
        match self.gateway() {
            _ if status == StatusCode::UNAUTHORIZED => {
                self.metrics().wrong_keys.add(1);
                // The next request is told if that was one too many.
                let _ = self.peers().has_failed(peer);
            }
            Some(gateway) if status.is_success() => gateway.note_good(watched),
            _ => {}
        }
    }

    /// The same for the headers that answer a call. A call that is refused has no more than these.
    pub(crate) fn note_call(&self, watched: Hash, peer: Option<Peer>, headers: &HeaderMap) {
        let code =
            headers.get(Status::GRPC_STATUS).map(HeaderValue::as_bytes).map(Code::from_bytes);
        let status = match code {
            None | Some(Code::Ok) => StatusCode::OK,
            Some(Code::Unauthenticated) => StatusCode::UNAUTHORIZED,
            Some(_) => return,
        };
        self.note(watched, peer, status);
    }

    /// Reads the API keys of the store, at once. Later they are read every two seconds, as long as the
    /// server runs.
    ///
    /// # Errors
    ///
    /// The store is away.
    pub async fn refresh_keys(&self) -> Result<(), StoreError> {
        match self.ring() {
            Some(ring) => ring.refresh().await,
            None => Ok(()),
        }
    }

    /// Tells the store what was used of API keys since that was last told, which otherwise happens every
    /// few seconds.
    pub async fn tell_usage(&self) {
        if let Some(ring) = self.ring() {
            ring.tell_all().await;
        }
    }

    /// Why the process may not serve, if the keys are known: other machines can reach it, and there is
    /// not a single one.
    pub fn fault(&self) -> Option<String> {
        self.ring().and_then(Ring::fault)
    }

    /// Tells whether there are keys in the store. A process that is a gateway only never hears of any.
    pub fn has_keys(&self) -> Option<watch::Receiver<bool>> {
        self.ring().map(Ring::watch)
    }

    /// Keeps what is known of keys fresh until `stopping` is set; else gives why the process may not
    /// serve.
    pub(crate) fn keep_keys(
        &self,
        stopping: CancellationToken,
    ) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let (app, gateway) = (self.app().cloned(), self.gateway().cloned());
        async move {
            match (app, gateway) {
                (Some(app), _) => app.ring.keep(stopping).await,
                (None, Some(gateway)) => gateway.keep_asking(stopping).await,
                (None, None) => Ok(()),
            }
        }
    }

    /// The last that is told of keys when the server ends.
    pub(crate) async fn finish_keys(&self) {
        if let Some(ring) = self.ring() {
            ring.finish().await;
        }
    }

    fn ring(&self) -> Option<&Ring> {
        self.app().map(|app: &std::sync::Arc<App>| app.ring.as_ref())
    }
}

/// The headers of a request that say who sends it.
fn credentials_of(headers: &HeaderMap) -> HeaderMap {
    let mut own = HeaderMap::new();
    if !has_any(headers) {
        return own;
    }
    for (name, value) in headers.iter().filter(|(name, _)| is_credential(name)) {
        own.append(name, value.clone());
    }
    own
}
