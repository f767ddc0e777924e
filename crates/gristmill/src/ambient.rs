//! The world outside: the system's clock, its randomness, its environment, this program's file.
//!
//! This is the one module that may ask for them; everything else takes them as arguments.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use gristmill_client::ApiKey;
use gristmill_model::{Clock, Entropy, Timestamp};
use http::HeaderValue;

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

/// The system's clock, to be handed on.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// The kernel's randomness, to be handed on.
pub(crate) fn entropy() -> Arc<dyn Entropy> {
    Arc::new(SystemEntropy)
}

/// All environment variables whose names and values are Unicode.
#[expect(clippy::disallowed_methods, reason = "this is where the environment comes in")]
pub(crate) fn environment() -> HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The variable that has the API key which commands send.
const API_KEY: &str = "GRISTMILL_API_KEY";

/// The API key of the environment, which requests of commands carry.
pub(crate) fn api_key() -> anyhow::Result<Option<ApiKey>> {
    Ok(text_of_api_key()?.map(ApiKey::new))
}

/// The same as text, for requests that are written by hand.
pub(crate) fn text_of_api_key() -> anyhow::Result<Option<String>> {
    match environment().get(API_KEY).map(|key| key.trim()) {
        None | Some("") => Ok(None),
        Some(key) => check_key(key).context(API_KEY).map(|()| Some(key.to_owned())),
    }
}

/// Makes sure that an API key can stand in a header. The error does not tell the key.
pub(crate) fn check_key(key: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        HeaderValue::from_str(key).is_ok_and(|header| header.to_str().is_ok()),
        "an API key is one line of ASCII characters"
    );
    Ok(())
}

/// The file of this program, to start it again as a child.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}
