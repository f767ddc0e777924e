//! Resuming: how far an import has come, in a small file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::Input;

/// A place between rows of the inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Place {
    /// Which input, from 0.
    pub(crate) file: usize,
    /// How many of its rows lie before.
    pub(crate) rows: u64,
}

#[derive(Deserialize, Serialize)]
struct State {
    inputs: Vec<(String, Option<u64>)>,
    done: Place,
}

/// Keeps how far an import has come: everything before `done` is with the server.
pub(crate) struct Checkpoint {
    path: Option<PathBuf>,
    inputs: Vec<(String, Option<u64>)>,
    done: Place,
    next: u64,
    ahead: BTreeMap<u64, Place>,
    saved: Place,
}

impl Checkpoint {
    /// Continues what the file says of these inputs; from the start if there is no file.
    pub(crate) fn open(path: Option<&Path>, inputs: &[Input]) -> anyhow::Result<Self> {
        let inputs: Vec<_> = inputs.iter().map(|input| (input.name(), input.bytes())).collect();
        let done = match path {
            Some(path) => read(path, &inputs)?,
            None => Place::default(),
        };
        let path = path.map(Path::to_owned);
        Ok(Self { path, inputs, done, next: 0, ahead: BTreeMap::new(), saved: done })
    }

    /// Everything before this place is done.
    pub(crate) fn done(&self) -> Place {
        self.done
    }

    /// Notes that a batch is done. Batches may end in any order.
    pub(crate) fn finish(&mut self, sequence: u64, end: Place) {
        self.ahead.insert(sequence, end);
        while let Some(end) = self.ahead.remove(&self.next) {
            self.done = end;
            self.next += 1;
        }
    }

    /// Writes the file, if there is one and something has changed.
    pub(crate) fn save(&mut self) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.saved == self.done && path.exists() {
            return Ok(());
        }
        let state = State { inputs: self.inputs.clone(), done: self.done };
        let text = serde_json::to_vec(&state)?;
        let fresh = path.with_extension("new");
        let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, path));
        written.with_context(|| format!("--resume: cannot write {}", path.display()))?;
        self.saved = self.done;
        Ok(())
    }
}

fn read(path: &Path, inputs: &[(String, Option<u64>)]) -> anyhow::Result<Place> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Place::default()),
        Err(error) => {
            return Err(error).with_context(|| format!("--resume: cannot read {}", path.display()));
        }
    };
    let state: State = serde_json::from_slice(&text)
        .with_context(|| format!("--resume: {} was not written by an import", path.display()))?;
    if state.inputs != inputs {
        bail!(
            "--resume: {} is about other files, or they have changed: remove it to start over",
            path.display()
        );
    }
    Ok(state.done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_done_without_a_gap_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut checkpoint = Checkpoint::open(Some(&path), &[]).unwrap();
        let place = |rows| Place { file: 0, rows };
        checkpoint.finish(1, place(20));
        assert_eq!(checkpoint.done(), place(0));
        checkpoint.finish(0, place(10));
        assert_eq!(checkpoint.done(), place(20));
        checkpoint.finish(3, place(40));
        checkpoint.save().unwrap();
        assert_eq!(Checkpoint::open(Some(&path), &[]).unwrap().done(), place(20));
    }

    #[test]
    fn a_file_about_other_inputs_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        Checkpoint::open(Some(&path), &[]).unwrap().save().unwrap();
        let other = Input::new(&path).unwrap();
        assert!(Checkpoint::open(Some(&path), &[other]).is_err());
        std::fs::write(&path, "{}").unwrap();
        assert!(Checkpoint::open(Some(&path), &[]).is_err());
    }
}
