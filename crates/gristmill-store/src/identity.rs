//! Identities: 128 bits that stand for (project, user, event id).
//!
//! The hash is keyed with a secret of the store, so that nobody can make two events collide.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

/// The hash of an event's identity.
pub(crate) type Identity = u128;

/// Makes identities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdentityHasher {
    keyed: SipHasher13,
}

impl IdentityHasher {
    pub(crate) fn new(key: u128) -> Self {
        Self { keyed: SipHasher13::new_with_key(&key.to_le_bytes()) }
    }

    /// The lengths are hashed too, so that moving a byte from one text to the next changes the
    /// identity.
    pub(crate) fn identity(&self, project: &str, user: &str, event_id: &str) -> Identity {
        let mut hasher = self.keyed;
        hasher.write_u64((project.len() as u64) << 32 | user.len() as u64);
        hasher.write(project.as_bytes());
        hasher.write(user.as_bytes());
        hasher.write(event_id.as_bytes());
        hasher.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let hasher = IdentityHasher::new(7);
        assert_eq!(hasher.identity("p", "u", "e"), hasher.identity("p", "u", "e"));
        assert_ne!(hasher.identity("p", "ue", ""), hasher.identity("p", "u", "e"));
        assert_ne!(hasher.identity("pu", "", "e"), hasher.identity("p", "u", "e"));
        assert_ne!(IdentityHasher::new(8).identity("p", "u", "e"), hasher.identity("p", "u", "e"));
    }
}
