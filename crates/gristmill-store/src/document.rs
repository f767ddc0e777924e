//! Documents: what is kept beside the events, and the rules by which it changes.

use std::collections::BTreeMap;

use gristmill_model::{ProjectId, limits};

use crate::StoreError;

/// A small text that is kept beside the events, such as a saved cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The project that it belongs to.
    pub project: ProjectId<'static>,
    /// What it is, such as `cohort`.
    pub kind: String,
    /// Names it among those of its project and kind.
    pub id: String,
    /// Grows with every change, and is never given twice.
    pub version: u64,
    /// What it says; only who wrote it knows its form.
    pub body: String,
}

/// Where a document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentKey<'a> {
    /// The project that it belongs to.
    pub project: ProjectId<'a>,
    /// What it is.
    pub kind: &'a str,
    /// Names it among those of its project and kind.
    pub id: &'a str,
}

/// All documents of a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Documents {
    /// By project, kind and id.
    held: BTreeMap<[String; 3], Document>,
    last_version: u64,
}

impl Documents {
    pub(crate) fn get(&self, key: &DocumentKey<'_>) -> Option<&Document> {
        self.held.get(&name_of(key))
    }

    /// Those of a project and kind, by id.
    pub(crate) fn of_kind(&self, project: &ProjectId<'_>, kind: &str) -> Vec<Document> {
        let first = [project.as_str().to_owned(), kind.to_owned(), String::new()];
        let from = self.held.range(first..);
        let same = from.take_while(|(name, _)| name[0] == project.as_str() && name[1] == kind);
        same.map(|(_, document)| document.clone()).collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Document> {
        self.held.values()
    }

    pub(crate) fn last_version(&self) -> u64 {
        self.last_version
    }

    /// The document that a put would make, if the rules allow it.
    pub(crate) fn next(
        &self,
        key: &DocumentKey<'_>,
        expected: Option<u64>,
        body: String,
    ) -> Result<Document, StoreError> {
        let alike = self
            .held
            .keys()
            .filter(|[project, kind, _]| project == key.project.as_str() && kind == key.kind);
        let old = self.get(key);
        let bytes: usize = self.all().map(|document| document.body.len()).sum();
        let standing = Standing {
            version: old.map(|document| document.version),
            alike: alike.count(),
            bytes_of_others: bytes - old.map_or(0, |document| document.body.len()),
        };
        standing.allows(key, expected, &body)?;
        Ok(Document {
            project: key.project.clone().into_owned(),
            kind: key.kind.to_owned(),
            id: key.id.to_owned(),
            version: self.last_version + 1,
            body,
        })
    }

    /// Makes sure that a document is at a version, or that there is none.
    pub(crate) fn expect(
        &self,
        key: &DocumentKey<'_>,
        expected: Option<u64>,
    ) -> Result<(), StoreError> {
        expect_version(key, self.get(key).map(|document| document.version), expected)
    }

    pub(crate) fn put(&mut self, document: Document) {
        self.note_version(document.version);
        let key = DocumentKey {
            project: document.project.borrowed(),
            kind: &document.kind,
            id: &document.id,
        };
        self.held.insert(name_of(&key), document);
    }

    pub(crate) fn remove(&mut self, key: &DocumentKey<'_>) {
        self.held.remove(&name_of(key));
    }

    /// Versions up to this one have been given.
    pub(crate) fn note_version(&mut self, version: u64) {
        self.last_version = self.last_version.max(version);
    }
}

/// What there is when a document is to be put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// The version of the document that is there.
    pub(crate) version: Option<u64>,
    /// How many documents of its project and kind there are.
    pub(crate) alike: usize,
    /// The length of all other documents of the store together.
    pub(crate) bytes_of_others: usize,
}

impl Standing {
    /// Makes sure that a put keeps to the rules.
    pub(crate) fn allows(
        &self,
        key: &DocumentKey<'_>,
        expected: Option<u64>,
        body: &str,
    ) -> Result<(), StoreError> {
        expect_version(key, self.version, expected)?;
        let most = limits::DOCUMENT_BYTES;
        if body.len() > most {
            return Err(StoreError::Refused(format!(
                "the {} {:?} is larger than {most} bytes",
                key.kind, key.id
            )));
        }
        let most = limits::DOCUMENTS;
        if expected.is_none() && self.alike >= most {
            return Err(StoreError::Refused(format!(
                "there are {most} documents of the kind {} already: remove one first",
                key.kind
            )));
        }
        let most = limits::ALL_DOCUMENTS_BYTES;
        if self.bytes_of_others + body.len() > most {
            return Err(StoreError::Refused(format!(
                "all documents together would be larger than {most} bytes: remove one first"
            )));
        }
        Ok(())
    }
}

/// Makes sure that a document is at a version, or that there is none.
pub(crate) fn expect_version(
    key: &DocumentKey<'_>,
    version: Option<u64>,
    expected: Option<u64>,
) -> Result<(), StoreError> {
    if version == expected {
        return Ok(());
    }
    let (kind, id) = (key.kind, key.id);
    Err(StoreError::Conflict(match version {
        None => format!("there is no {kind} {id:?} any more"),
        Some(_) if expected.is_none() => format!("there is a {kind} {id:?} already"),
        Some(version) => format!("the {kind} {id:?} has changed: it is at version {version}"),
    }))
}

fn name_of(key: &DocumentKey<'_>) -> [String; 3] {
    [key.project.as_str(), key.kind, key.id].map(str::to_owned)
}
