//! The parts of the platform that a process may run.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A part of the platform, which may have a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes events in and appends them to the log.
    Ingest,
    /// Settles the log in the store.
    Process,
    /// Answers questions from the store.
    Query,
    /// Speaks to clients, and has processes of the other roles answer.
    Gateway,
}

/// The roles of one process.
pub type Roles = BTreeSet<Role>;

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Process, Self::Query, Self::Gateway];

    /// Its name in settings and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Process => "process",
            Self::Query => "query",
            Self::Gateway => "gateway",
        }
    }

    /// What a process does that is told nothing else: everything, and clients speak to it.
    pub fn all_in_one() -> Roles {
        [Self::Ingest, Self::Process, Self::Query].into()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        let names = Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("{text:?} is no role: there are {names}"))
    }
}
