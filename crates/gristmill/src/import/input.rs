//! Opening files: compression by content, format by name or content, progress by bytes read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};

use super::access_log::is_access_log;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InputFormat {
    /// One JSON object per line
    Ndjson,
    /// Comma-separated values with a header
    Csv,
    /// Tab-separated values with a header
    Tsv,
    /// A web server's log in common or combined format
    AccessLog,
}

/// A file of rows, or standard input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    path: PathBuf,
    bytes: Option<u64>,
}

/// An input that is open.
pub(super) struct OpenInput {
    pub(super) reader: Box<dyn BufRead + Send>,
    pub(super) format: InputFormat,
}

/// How much is read ahead.
const BUFFER_BYTES: usize = 256 * 1024;

impl Input {
    /// A file, or standard input for `-`. The file must be there.
    pub(crate) fn new(path: &Path) -> anyhow::Result<Self> {
        let bytes = if path == Path::new("-") {
            None
        } else {
            let facts = std::fs::metadata(path);
            Some(facts.with_context(|| format!("cannot read {}", path.display()))?.len())
        };
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// What it is called in messages.
    pub(crate) fn name(&self) -> String {
        match self.bytes {
            Some(_) => self.path.display().to_string(),
            None => "standard input".to_owned(),
        }
    }

    /// Its size as it lies there; unknown for standard input.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Opens it, undoing gzip and zstd, and finds out its format unless that is given. The bytes
    /// of the file that were read are added to `read`.
    pub(super) fn open(
        &self,
        format: Option<InputFormat>,
        read: Arc<AtomicU64>,
    ) -> anyhow::Result<OpenInput> {
        let raw: Box<dyn Read + Send> = match self.bytes {
            None => Box::new(io::stdin()),
            Some(_) => Box::new(File::open(&self.path).with_context(|| self.name())?),
        };
        let mut raw = BufReader::with_capacity(BUFFER_BYTES, Counting { inner: raw, read });
        let magic = raw.fill_buf().with_context(|| self.name())?;
        let plain: Box<dyn Read + Send> = if magic.starts_with(&[0x1F, 0x8B]) {
            Box::new(flate2::bufread::MultiGzDecoder::new(raw))
        } else if magic.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
            Box::new(zstd::Decoder::with_buffer(raw)?)
        } else {
            Box::new(raw)
        };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, plain);
        let format = match format.or_else(|| format_of_name(&self.path)) {
            Some(format) => format,
            None => {
                let start = reader.fill_buf().with_context(|| self.name())?;
                match format_of_content(start) {
                    Some(format) => format,
                    None => bail!("cannot tell the format of {}: give --format", self.name()),
                }
            }
        };
        Ok(OpenInput { reader: Box::new(reader), format })
    }
}

fn format_of_name(path: &Path) -> Option<InputFormat> {
    let mut extension = path.extension()?.to_str()?;
    if matches!(extension, "gz" | "zst") {
        extension = Path::new(path.file_stem()?).extension()?.to_str()?;
    }
    match extension {
        "ndjson" | "jsonl" | "json" => Some(InputFormat::Ndjson),
        "csv" => Some(InputFormat::Csv),
        "tsv" => Some(InputFormat::Tsv),
        _ => None,
    }
}

fn format_of_content(start: &[u8]) -> Option<InputFormat> {
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start);
    let line = start.split(|byte| *byte == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.trim_ascii_start().starts_with(b"{") {
        Some(InputFormat::Ndjson)
    } else if is_access_log(line) {
        Some(InputFormat::AccessLog)
    } else if line.contains(&b'\t') {
        Some(InputFormat::Tsv)
    } else if line.contains(&b',') {
        Some(InputFormat::Csv)
    } else {
        None
    }
}

struct Counting {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_name_then_by_content() {
        for (name, format) in [
            ("a.ndjson.gz", Some(InputFormat::Ndjson)),
            ("a.b.csv", Some(InputFormat::Csv)),
            ("a.tsv.zst", Some(InputFormat::Tsv)),
            ("access.log.gz", None),
            ("-", None),
        ] {
            assert_eq!(format_of_name(Path::new(name)), format, "{name}");
        }
        for (content, format) in [
            (" {\"a\":1}\n", Some(InputFormat::Ndjson)),
            ("\u{feff}a,b\n1,2\n", Some(InputFormat::Csv)),
            ("a\tb,c\n", Some(InputFormat::Tsv)),
            ("h - - [t] \"GET / HTTP/1.1\" 200 5\n", Some(InputFormat::AccessLog)),
            ("what\n", None),
            ("", None),
        ] {
            assert_eq!(format_of_content(content.as_bytes()), format, "{content}");
        }
    }
}
