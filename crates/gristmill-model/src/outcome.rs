//! What became of an acknowledged event.

/// What became of an event behind the log. Every acknowledged event has exactly one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// Counted: the first event with its identity.
    Stored = 0,
    /// Not counted: an event with its identity was stored before.
    Duplicate = 1,
    /// Set aside with a reason and its original bytes, because it could not be processed.
    Quarantined = 2,
    /// Not counted: older than the retention set for it.
    Expired = 3,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Outcome; 4] =
        [Outcome::Stored, Outcome::Duplicate, Outcome::Quarantined, Outcome::Expired];

    /// The name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Stored => "stored",
            Outcome::Duplicate => "duplicate",
            Outcome::Quarantined => "quarantined",
            Outcome::Expired => "expired",
        }
    }
}
