//! The system's clock and randomness, for programs that hand in none of their own.
//!
//! This is the one module here that may ask for them.

use gristmill_model::{Clock, Entropy, Timestamp};

/// The system's wall clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others take")]
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// The kernel's random numbers.
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::expect_used, reason = "without randomness ids would collide silently")]
    fn next_u128(&self) -> u128 {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel must give random numbers");
        u128::from_le_bytes(bytes)
    }
}

/// A random name for an event, 128 bits as 32 hexadecimal digits.
pub fn random_id() -> String {
    format!("{:032x}", SystemEntropy.next_u128())
}
