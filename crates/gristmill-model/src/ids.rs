//! Names of things, each a type of its own so that one cannot stand for another.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The text of an identifier of one kind. Texts are opaque: never trimmed, folded or normalised.
pub struct Id<'a, Kind> {
    text: Cow<'a, str>,
    kind: PhantomData<fn() -> Kind>,
}

/// Marks the id of a project.
pub enum ProjectKind {}
/// Marks the id of an event.
pub enum EventKind {}
/// Marks the id of a user.
pub enum UserKind {}
/// Marks the id of a session.
pub enum SessionKind {}

/// Names a project. Projects share nothing but the machine.
pub type ProjectId<'a> = Id<'a, ProjectKind>;
/// Names an event within its project and user.
pub type EventId<'a> = Id<'a, EventKind>;
/// Names a user within a project. The empty user is one user.
pub type UserId<'a> = Id<'a, UserKind>;
/// Names a session of a user.
pub type SessionId<'a> = Id<'a, SessionKind>;

impl<'a, Kind> Id<'a, Kind> {
    /// Wraps a text, borrowed or owned.
    pub fn new(text: impl Into<Cow<'a, str>>) -> Self {
        Self { text: text.into(), kind: PhantomData }
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same id borrowing from this one.
    pub fn borrowed(&self) -> Id<'_, Kind> {
        Id::new(self.as_str())
    }

    /// The same id owning its text.
    pub fn into_owned(self) -> Id<'static, Kind> {
        Id::new(self.text.into_owned())
    }
}

impl<Kind> Clone for Id<'_, Kind> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), kind: PhantomData }
    }
}

impl<Kind> PartialEq for Id<'_, Kind> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<Kind> Eq for Id<'_, Kind> {}

impl<Kind> fmt::Debug for Id<'_, Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<Kind> fmt::Display for Id<'_, Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
