//! Any text as a size, as a length of time and as a file of settings: what is taken is written as settings that
//! are the same.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "the modules of the binary are compiled here as they are"
)]

#[path = "../../crates/gristmill/src"]
mod src {
    pub(crate) mod config;
    pub(crate) mod units;
}

/// What the settings take of the module that writes the log.
#[path = "../../crates/gristmill/src/telemetry"]
mod telemetry {
    mod format;

    pub(crate) use format::LogFormat;
}

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs;

use gristmill_fuzz::folder;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use src::config::{Flags, Settings};
use src::units;

fuzz_target!(|text: &str| {
    reads_back::<units::ByteSize>(text);
    reads_back::<units::Span>(text);
    if !text.contains('=') {
        return;
    }
    let folder = folder();
    let path = folder.path().join("settings.toml");
    fs::write(&path, text).expect("a file");
    let flags = Flags { config: Some(path.clone()), ..Flags::default() };
    let variables: HashMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let _ = Settings::load(&Flags::default(), &variables);
    let Ok(settings) = Settings::load(&flags, &HashMap::new()) else { return };
    let written = settings.to_toml().expect("settings can be written");
    fs::write(&path, &written).expect("a file");
    // Passwords are left out, and are demanded where there was one.
    if let Ok(again) = Settings::load(&flags, &HashMap::new()) {
        assert_eq!(again.to_toml().expect("settings can be written"), written);
    }
});

fn reads_back<T: DeserializeOwned + Serialize + Debug + PartialEq>(text: &str) {
    if let Ok(value) = serde_json::from_value::<T>(text.into()) {
        let written = serde_json::to_value(&value).expect("it has a text");
        assert_eq!(serde_json::from_value::<T>(written).ok(), Some(value));
    }
}
