//! Progress: a bar on a terminal, plain lines now and then elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::console::{remark, thousands};

/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how far a command has come, on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total_bytes: Option<u64>,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Starts; without a total there is no rest time.
    pub(crate) fn start(total_bytes: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(total_bytes));
        let now = Instant::now();
        Self { bar, total_bytes, started: now, last_line: now }
    }

    /// Shows the newest numbers.
    pub(crate) fn update(&mut self, bytes: u64, events: u64) {
        let rate = per_second(events, self.started.elapsed());
        let text = format!("{} events, {}/s", thousands(events), thousands(rate));
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            bar.set_message(text);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let share = self.total_bytes.filter(|total| *total > 0);
            match share.map(|total| 100 * bytes.min(total) / total) {
                Some(percent) => remark(format!("{percent:>3} %  {text}")),
                None => remark(text),
            }
        }
    }

    /// Takes the bar away and tells how long it took.
    pub(crate) fn finish(self) -> Duration {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.started.elapsed()
    }
}

/// So many in such a time, per second.
pub(crate) fn per_second(count: u64, time: Duration) -> u64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { (count as f64 / seconds) as u64 } else { 0 }
}

fn bar(total_bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match total_bytes {
        Some(total) => (ProgressBar::new(total), "{bar:30} {percent:>3} %  {msg}, {eta} to go"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    // The templates are constants; should one be wrong, the default is shown.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
