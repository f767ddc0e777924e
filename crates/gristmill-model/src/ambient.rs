//! Time and randomness as something that is handed in, so that tests decide both.

use crate::Timestamp;

/// Tells the wall-clock time. The binary hands in the system's clock, tests a clock of their own.
pub trait Clock: Send + Sync + 'static {
    /// The time now, in microseconds UTC. It may jump in either direction.
    fn now(&self) -> Timestamp;
}

/// A source of unpredictable bits for ids and keys.
pub trait Entropy: Send + Sync + 'static {
    /// 128 random bits.
    fn next_u128(&self) -> u128;
}
