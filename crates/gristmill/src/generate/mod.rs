//! A believable load: people with sessions who look around and sometimes buy.
//!
//! Everything follows from a seed. Users and pages are skewed as real ones are, nights are
//! quieter than days, and sessions of different users interleave in time order.

mod random;
mod script;
mod world;

pub(crate) use random::Random;
pub(crate) use world::{World, WorldConfig};
