//! Something that is made of files, and made anew when they have changed.

use std::sync::{Arc, Mutex, PoisonError};

use gristmill_model::{Clock, Timestamp};
use tokio::sync::watch;

use super::Status;
use super::files::{NamedFile, Stamp, TlsError};
use crate::metrics::Counter;

type Make<T> = Box<dyn Fn() -> Result<Made<T>, TlsError> + Send + Sync>;

/// What was made of files last.
pub(super) struct Renewed<T> {
    files: Vec<NamedFile>,
    make: Make<T>,
    current: watch::Sender<Arc<Made<T>>>,
    looks: Mutex<Looks>,
    clock: Arc<dyn Clock>,
    renewals: Counter,
    failures: Counter,
}

/// What files say.
pub(super) struct Made<T> {
    pub(super) value: T,
    /// When the process's own certificate expires.
    pub(super) expires: Option<Timestamp>,
}

/// How the files were.
struct Looks {
    /// When they were looked at last.
    seen: Vec<Stamp>,
    /// When they were last used, or could not be used.
    tried: Vec<Stamp>,
}

impl<T> Renewed<T> {
    /// Makes it for the first time.
    pub(super) fn new(
        files: Vec<NamedFile>,
        clock: Arc<dyn Clock>,
        make: impl Fn() -> Result<Made<T>, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let seen = stamps(&files);
        let made = make()?;
        if made.has_expired(clock.now()) {
            let names = names(&files);
            tracing::warn!(
                files = names,
                "the certificate has expired: nobody who checks it takes it"
            );
        }
        let current = watch::Sender::new(Arc::new(made));
        let looks = Mutex::new(Looks { tried: seen.clone(), seen });
        let (renewals, failures) = (Counter::default(), Counter::default());
        Ok(Self { files, make: Box::new(make), current, looks, clock, renewals, failures })
    }

    /// What was made last.
    pub(super) fn current(&self) -> Arc<Made<T>> {
        Arc::clone(&self.current.borrow())
    }

    /// Makes it anew if the files have changed and lie still: a certificate and its key are not written in
    /// the same moment, so what has just changed is given until the next look.
    pub(super) fn renew_if_changed(&self) {
        let now = stamps(&self.files);
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looks.tried != now && looks.seen == now;
        looks.seen = now;
        drop(looks);
        if is_due {
            self.renew();
        }
    }

    /// Makes it anew. If that fails, or it has expired already, what there was stays.
    pub(super) fn renew(&self) {
        let now = stamps(&self.files);
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).tried = now;
        match (self.make)() {
            Ok(made) if self.is_worse(&made) => {
                self.failures.add(1);
                let expired = made.expires.map(|time| time.to_string());
                tracing::error!(
                    files = names(&self.files),
                    expired,
                    "certificates stay as they were: the new one has expired"
                );
            }
            Ok(made) => {
                let expires = made.expires.map(|time| time.to_string());
                self.current.send_replace(Arc::new(made));
                self.renewals.add(1);
                tracing::info!(files = names(&self.files), expires, "certificates were read again");
            }
            Err(error) => {
                self.failures.add(1);
                tracing::error!(%error, "certificates stay as they were: the new ones are no good");
            }
        }
    }

    /// Whether it has expired and what there is has not.
    fn is_worse(&self, made: &Made<T>) -> bool {
        let now = self.clock.now();
        made.has_expired(now) && !self.current.borrow().has_expired(now)
    }

    /// What became of it.
    pub(super) fn status(&self) -> Status {
        let expires = self.current.borrow().expires;
        Status { expires, renewals: self.renewals.get(), failures: self.failures.get() }
    }
}

impl<T> Made<T> {
    fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

fn names(files: &[NamedFile]) -> String {
    let names: Vec<_> = files.iter().map(|file| file.path.to_string_lossy()).collect();
    names.join(", ")
}

fn stamps(files: &[NamedFile]) -> Vec<Stamp> {
    files.iter().map(NamedFile::stamp).collect()
}
