//! A key as it is kept: everything but its secret.

use gristmill_model::{ProjectId, Scope, Scopes, Timestamp};
use gristmill_store::{Document, DocumentKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::limits::Limits;

/// The project that documents of keys belong to. No key and no request can name it.
pub(super) const PROJECT: &str = "";
/// The kind of these documents.
pub(super) const KIND: &str = "key";

/// What is kept of the whole text of a key. Its secret has 256 bits, so that a fast hash will do.
pub(crate) type Hash = [u8; 32];

/// The hash of a text.
pub(crate) fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

/// A key without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(super) project: String,
    /// The names of its scopes.
    pub(super) scopes: Vec<String>,
    /// In hexadecimal digits.
    pub(super) hash: String,
    pub(super) name: String,
    pub(super) created_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_us: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revoked_us: Option<i64>,
    /// When it ends because another has taken its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retires_us: Option<i64>,
    /// The id of the key that takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rotated_to: Option<String>,
    #[serde(default)]
    pub(super) limits: Limits,
}

/// Whether a key can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Active,
    Expired,
    Revoked,
}

impl Status {
    /// Its name on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Record {
    /// What is kept of a new key with this text.
    pub(super) fn of(text: &str, project: String, scopes: Scopes, now: Timestamp) -> Self {
        Self {
            project,
            scopes: scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            hash: hash(text).iter().map(|byte| format!("{byte:02x}")).collect(),
            name: String::new(),
            created_us: now.0,
            expires_us: None,
            revoked_us: None,
            retires_us: None,
            rotated_to: None,
            limits: Limits::default(),
        }
    }

    /// Reads a document; nothing, if it is none of a key.
    pub(super) fn read(document: &Document) -> Option<Self> {
        serde_json::from_str(&document.body).ok()
    }

    /// The body of its document.
    pub(super) fn text(&self) -> String {
        // Its keys are strings, so it has a text.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What it allows.
    pub(super) fn scopes(&self) -> Scopes {
        self.scopes.iter().filter_map(|name| Scope::of_name(name)).collect()
    }

    /// The hash of its text.
    pub(super) fn hash(&self) -> Option<Hash> {
        let mut hash = Hash::default();
        if self.hash.len() != 2 * hash.len() {
            return None;
        }
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(self.hash.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(hash)
    }

    /// When it ends or has ended, in microseconds since 1970.
    pub(super) fn end(&self) -> Option<i64> {
        self.revoked_us.into_iter().chain(self.end_of_life()).min()
    }

    /// The same, if nobody revokes it.
    pub(super) fn end_of_life(&self) -> Option<i64> {
        self.expires_us.into_iter().chain(self.retires_us).min()
    }

    /// Whether it can be used at a time.
    pub(super) fn status(&self, now: Timestamp) -> Status {
        if self.revoked_us.is_some() {
            return Status::Revoked;
        }
        match self.end_of_life() {
            Some(end) if end <= now.0 => Status::Expired,
            _ => Status::Active,
        }
    }
}

/// Where the document of a key is.
pub(super) fn place(id: &str) -> DocumentKey<'_> {
    DocumentKey { project: ProjectId::new(PROJECT), kind: KIND, id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_no_secret_and_comes_back() {
        let scopes = [Scope::Write].into_iter().collect();
        let limits = Limits { events_per_day: Some(7), ..Limits::default() };
        let record = Record::of("a secret", "p".to_owned(), scopes, Timestamp(5));
        let record = Record { limits, ..record };
        let body = record.text();
        assert!(!body.contains("a secret"));
        let document = Document {
            project: ProjectId::new(PROJECT),
            kind: KIND.to_owned(),
            id: "k".to_owned(),
            version: 1,
            body,
        };
        let read = Record::read(&document).unwrap();
        assert_eq!(read, record);
        assert_eq!((read.scopes(), read.limits), (scopes, limits));
        assert_eq!(read.hash(), Some(hash("a secret")));
        let later = document.body.replace("\"events_per_day\"", "\"more\":1,\"events_per_day\"");
        let later = Record::read(&Document { body: later, ..document.clone() }).unwrap();
        assert_eq!(later.limits, limits, "what a later version has added is left alone");
        let expiring = Record { expires_us: Some(10), ..record };
        assert_eq!(expiring.status(Timestamp(9)), Status::Active);
        assert_eq!(expiring.status(Timestamp(10)), Status::Expired);
        let revoked = Record { revoked_us: Some(1), ..expiring };
        assert_eq!(revoked.status(Timestamp(9)), Status::Revoked);
    }
}
