//! What a gateway knows of API keys: what the processes behind it say.
//!
//! A gateway that is nothing else has no store and so no keys. What it relays is looked at where it is
//! answered. For the few answers of its own it asks another process who sends a request, and keeps what it
//! hears for some seconds under the hash of the key.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use gristmill_model::{ErrorCode, Scope, Scopes, limits};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Gateway;
use crate::keys::{Hash, Need, Needs, Refusal, has_any, hash, is_credential, without_keys};
use crate::problem::Problem;
use crate::role::Role;

/// How long it is known who has a key.
const KEPT: Duration = Duration::from_secs(5);
/// How often it is asked whether keys are needed, until that is known, and then until they are.
const PAUSE: Duration = Duration::from_secs(1);
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// The longest answer to the question who sends a request, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;
/// Where that is asked.
const SELF: &str = "/v1/keys/self";

/// What was heard of keys.
#[derive(Default)]
pub(super) struct Heard {
    /// Whether the processes behind need keys, as far as is known.
    need_keys: AtomicBool,
    kept: Mutex<HashMap<Hash, (Instant, Verdict)>>,
    /// Credentials that were accepted.
    good: Mutex<HashSet<Hash>>,
}

/// What another process says of a key.
#[derive(Clone, Copy)]
enum Verdict {
    Allows(Scopes),
    Missing,
    Wrong,
}

#[derive(Deserialize)]
struct Myself {
    scopes: Vec<String>,
}

/// Has others say what the paths need that they answer.
pub(crate) fn leave_to_others(
    gateway: &std::sync::Arc<Gateway>,
    paths: &[&'static str],
    needs: &mut [Needs],
) {
    let own: BTreeSet<_> = super::routes(gateway).into_iter().map(|(path, _)| path).collect();
    for (path, needs) in paths.iter().zip(needs) {
        if !own.contains(path) && needs.all != Need::Nothing {
            *needs = Needs::of(Need::Elsewhere);
        }
    }
}

impl Gateway {
    /// Whether it may speak to clients, which it may not without knowing that keys are needed if other
    /// machines can reach it.
    pub(crate) fn may_serve(&self) -> Result<(), Problem> {
        let demands_keys = self.outside.server.access.demands_keys.is_some();
        if !demands_keys || self.heard.need_keys.load(Relaxed) {
            return Ok(());
        }
        let detail = "no process has said yet whether there are API keys: send the same again";
        Err(Problem::new(ErrorCode::NotReady, detail))
    }

    /// Refuses what has no key where keys are known to be needed, so that its body is not read.
    pub(crate) fn expect_some(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let is_refused = !has_any(headers) && self.heard.need_keys.load(Relaxed);
        if is_refused { Err(Refusal::Missing.into()) } else { Ok(()) }
    }

    /// Whether only this machine reaches it, and nobody has said that keys are needed.
    fn is_open(&self) -> bool {
        let demands_keys = self.outside.server.access.demands_keys.is_some();
        !demands_keys && !self.heard.need_keys.load(Relaxed)
    }

    /// Makes sure that a request may have an answer of the gateway's own.
    pub(crate) async fn vouch(&self, headers: HeaderMap, need: Need) -> Result<(), Problem> {
        let name = name_of(&headers);
        let verdict = match self.kept(&name) {
            Some(verdict) => verdict,
            None => match self.ask(headers).await {
                Ok(verdict) => {
                    self.keep(name, verdict);
                    verdict
                }
                // Its own numbers are wanted most when there is nobody behind it.
                Err(problem) if problem.code() == ErrorCode::NotReady && self.is_open() => {
                    return Ok(());
                }
                Err(problem) => return Err(problem),
            },
        };
        match (verdict, need) {
            (Verdict::Allows(scopes), Need::Scope(scope)) if !scopes.allow(scope) => {
                let detail = format!("this needs an API key with the scope `{scope}`");
                Err(Problem::new(ErrorCode::PermissionDenied, detail))
            }
            (Verdict::Allows(_), _) => Ok(()),
            (Verdict::Missing, _) => Err(Refusal::Missing.into()),
            (Verdict::Wrong, _) => Err(Refusal::Wrong("the API key is not valid").into()),
        }
    }

    /// Remembers credentials that were accepted.
    pub(crate) fn note_good(&self, name: Hash) {
        let mut good = self.heard.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.contains(&name) {
            return;
        }
        if good.len() >= limits::GATEWAY_KEYS {
            good.clear();
        }
        good.insert(name);
    }

    /// Whether credentials were accepted lately.
    pub(crate) fn is_good(&self, name: &Hash) -> bool {
        self.heard.good.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Asks whether keys are needed until they are, or gives why the process may not serve: other
    /// machines can reach it, and they are not.
    pub(crate) async fn keep_asking(&self, stopping: CancellationToken) -> Result<(), String> {
        while !stopping.is_cancelled() && !self.heard.need_keys.load(Relaxed) {
            let answer = match self.reaches(Role::Query) {
                Some(true) => self.ask(HeaderMap::new()).await.ok(),
                _ => None,
            };
            if let (Some(Verdict::Allows(_)), Some(address)) =
                (answer, &self.outside.server.access.demands_keys)
            {
                return Err(without_keys(address));
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                () = sleep(if answer.is_some() { LONG_PAUSE } else { PAUSE }) => {}
            }
        }
        stopping.cancelled().await;
        Ok(())
    }

    /// Asks a process who sends a request with these headers.
    async fn ask(&self, headers: HeaderMap) -> Result<Verdict, Problem> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from_static(SELF);
        let is_without = headers.is_empty();
        *request.headers_mut() = headers;
        let answer = self.answer(Role::Query, request).await?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            self.heard.need_keys.store(true, Relaxed);
            return Ok(if is_without { Verdict::Missing } else { Verdict::Wrong });
        }
        let unknown = || Problem::new(ErrorCode::NotReady, "no process says whose API key it is");
        if status == StatusCode::BAD_REQUEST {
            let detail = "the credentials contradict each other: send one API key";
            return Err(Problem::argument(detail));
        }
        if status != StatusCode::OK {
            return Err(unknown());
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|_| unknown())?.to_bytes();
        let Myself { scopes } = serde_json::from_slice(&body).map_err(|_| unknown())?;
        let scopes = scopes.iter().filter_map(|name| Scope::of_name(name)).collect();
        Ok(Verdict::Allows(scopes))
    }

    fn kept(&self, name: &Hash) -> Option<Verdict> {
        let kept = self.heard.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(name).filter(|(since, _)| since.elapsed() < KEPT).map(|(_, verdict)| *verdict)
    }

    fn keep(&self, name: Hash, verdict: Verdict) {
        let mut kept = self.heard.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= limits::GATEWAY_KEYS {
            kept.retain(|_, (since, _)| since.elapsed() < KEPT);
        }
        if kept.len() >= limits::GATEWAY_KEYS {
            kept.clear();
        }
        kept.insert(name, (Instant::now(), verdict));
    }
}

/// A name for the credentials among headers that does not tell them.
pub(crate) fn name_of(headers: &HeaderMap) -> Hash {
    let mut text = String::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_credential(name)) {
        text.push_str(name.as_str());
        text.push(':');
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        text.push('\n');
    }
    hash(&text)
}
