//! The API key of the settings, which no output shows.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, ensure};
use gristmill_model::limits;
use gristmill_server::AdminKey;
use serde::{Deserialize, Serialize, Serializer};

use super::ServerSettings;

/// The text of the key; empty is none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct AdminKeyText(String);

impl fmt::Debug for AdminKeyText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "none" } else { "hidden" })
    }
}

impl Serialize for AdminKeyText {
    /// Leaves it out.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("")
    }
}

impl ServerSettings {
    /// The key of the settings, read from its file if that is named.
    pub(crate) fn admin_key(&self) -> anyhow::Result<Option<AdminKey>> {
        let (name, text) = match self.admin_key_file.as_path() {
            path if path == Path::new("") => ("server.admin_key", self.admin_key.0.clone()),
            path => {
                ensure!(
                    self.admin_key.0.is_empty(),
                    "server.admin_key and server.admin_key_file are both set: set one of them"
                );
                let text = std::fs::read_to_string(path).with_context(|| {
                    format!("server.admin_key_file: cannot read {}", path.display())
                })?;
                let text = text.trim_end_matches(['\n', '\r']).to_owned();
                // An empty variable is a variable that is not set; an empty file is a mistake.
                ensure!(!text.is_empty(), "server.admin_key_file: {} is empty", path.display());
                ("server.admin_key_file", text)
            }
        };
        if text.is_empty() {
            return Ok(None);
        }
        let bounds = limits::ADMIN_KEY_BYTES;
        ensure!(
            bounds.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()),
            "{name}: a key must have {} to {} visible ASCII characters, as from `openssl rand -hex 32`",
            bounds.start(),
            bounds.end()
        );
        Ok(Some(AdminKey::new(&text)))
    }
}
