//! Something that is made of files, and made anew when they have changed.

use std::sync::{Arc, Mutex, PoisonError};

use gristmill_model::Timestamp;
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
        make: impl Fn() -> Result<Made<T>, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let seen = stamps(&files);
        let current = watch::Sender::new(Arc::new(make()?));
        let looks = Mutex::new(Looks { tried: seen.clone(), seen });
        let (renewals, failures) = (Counter::default(), Counter::default());
        Ok(Self { files, make: Box::new(make), current, looks, renewals, failures })
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

    /// Makes it anew. If that fails, what there was stays.
    pub(super) fn renew(&self) {
        let now = stamps(&self.files);
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).tried = now;
        match (self.make)() {
            Ok(made) => {
                let expires = made.expires.map(|time| time.to_string());
                self.current.send_replace(Arc::new(made));
                self.renewals.add(1);
                tracing::info!(files = self.names(), expires, "certificates were read again");
            }
            Err(error) => {
                self.failures.add(1);
                tracing::error!(%error, "certificates stay as they were: the new ones are no good");
            }
        }
    }

    /// What became of it.
    pub(super) fn status(&self) -> Status {
        let expires = self.current.borrow().expires;
        Status { expires, renewals: self.renewals.get(), failures: self.failures.get() }
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|file| file.path.to_string_lossy()).collect();
        names.join(", ")
    }
}

fn stamps(files: &[NamedFile]) -> Vec<Stamp> {
    files.iter().map(NamedFile::stamp).collect()
}
