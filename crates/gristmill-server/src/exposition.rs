//! All numbers of the process: one walk through them, for Prometheus' text format and for whoever wants
//! them one by one.

mod family;

use gristmill_model::Timestamp;

use crate::ServerConfig;
use crate::app::App;
use crate::gateway::{Gateway, Outside};
use crate::metrics::{Histogram, Metrics};

pub(crate) use family::{Family, Kind, Number, Sample, written};

/// The text of all metrics now.
pub(crate) fn text(app: &App) -> String {
    written(&families(app))
}

/// All metrics now.
pub(crate) fn families(app: &App) -> Vec<Family> {
    let mut page = Page(Vec::with_capacity(64));
    ingestion(app, &mut page);
    store(app, &mut page);
    answers(app, &mut page);
    http(&app.metrics, &mut page);
    calls(&app.metrics, &mut page);
    live(app, &mut page);
    relays(&app.metrics, &mut page);
    certificates(&app.config, app.gateway.as_deref(), &mut page);
    process(app.services.version, app.services.started, &mut page);
    page.0
}

/// The text of a process that neither takes events in nor answers questions itself.
pub(crate) fn without_services(gateway: &Gateway) -> String {
    let Outside { server, metrics, ambience, .. } = gateway.outside();
    let mut page = Page(Vec::with_capacity(32));
    http(metrics, &mut page);
    calls(metrics, &mut page);
    relays(metrics, &mut page);
    certificates(server, Some(gateway), &mut page);
    process(ambience.version, ambience.started, &mut page);
    written(&page.0)
}

fn ingestion(app: &App, page: &mut Page) {
    let (stats, metrics) = (app.services.ingest.stats(), &app.metrics);
    let rejected = stats.rejected + metrics.refused.get();
    let received = stats.accepted + rejected + stats.failed;
    page.counter("gristmill_events_received_total", "Events that requests held.", received);
    page.counter(
        "gristmill_events_accepted_total",
        "Events acknowledged as durable.",
        stats.accepted,
    );
    page.counter("gristmill_events_rejected_total", "Events refused one by one.", rejected);
    page.counter(
        "gristmill_events_failed_total",
        "Events whose append was answered with an error; they may be in the log or not.",
        stats.failed,
    );
    page.counter(
        "gristmill_events_queued_lost_total",
        "Events answered as queued, without waiting for storage, that were not appended.",
        metrics.queued_lost.get(),
    );
    page.counter(
        "gristmill_ingest_bytes_total",
        "Bytes of ingestion requests, inflated.",
        metrics.received_bytes.get(),
    );
    let admission = &stats.admission;
    page.gauge(
        "gristmill_ingest_in_flight_bytes",
        "Bytes of requests that are not answered yet.",
        admission.in_flight_bytes,
    );
    page.head("gristmill_ingest_refused_total", Kind::Counter, "Requests refused because of load.");
    for (reason, count) in [("busy", admission.refused_busy), ("behind", admission.refused_behind)]
    {
        page.sample(&[("reason", reason)], count);
    }
    page.histogram(
        "gristmill_ingest_ack_seconds",
        "From a whole request to its durable acknowledgement.",
        &metrics.ack,
    );
    page.histogram(
        "gristmill_ingest_to_visible_seconds",
        "From a whole request until its events can be queried, sampled.",
        &metrics.visible,
    );
}

fn store(app: &App, page: &mut Page) {
    let stats = app.services.store.stats();
    page.head(
        "gristmill_events_processed_total",
        Kind::Counter,
        "Events settled behind the log, by outcome, since the store was created.",
    );
    for (outcome, count) in [
        ("stored", stats.stored),
        ("duplicate", stats.duplicate),
        ("quarantined", stats.quarantined),
        ("expired", stats.expired),
    ] {
        page.sample(&[("outcome", outcome)], count);
    }
    page.gauge(
        "gristmill_consumer_lag_records",
        "Durable records of the log that cannot be queried yet.",
        app.backlog(),
    );
    page.gauge(
        "gristmill_log_available",
        "Whether the log can take events now: 1 or 0.",
        u64::from(app.services.ingest.is_available()),
    );
    page.gauge(
        "gristmill_store_available",
        "Whether the store can be written and asked now: 1 or 0.",
        u64::from(app.services.store.is_available()),
    );
    page.gauge("gristmill_store_hot_rows", "Rows in memory that are not sealed.", stats.hot_rows);
    page.gauge(
        "gristmill_store_hot_bytes",
        "Memory of the rows that are not sealed.",
        stats.hot_bytes,
    );
    page.gauge("gristmill_store_parts", "Immutable files of rows.", stats.parts);
    page.gauge("gristmill_store_part_bytes", "Size of all parts.", stats.part_bytes);
    page.gauge(
        "gristmill_store_merge_debt_rows",
        "Rows that wait to be merged into larger parts.",
        stats.merge_debt_rows,
    );
    page.gauge(
        "gristmill_dedup_window_identities",
        "Identities that are remembered.",
        stats.window_identities,
    );
    let window = stats.window_start.map_or(0, |start| app.now().since(start).max(0));
    page.gauge(
        "gristmill_dedup_window_seconds",
        "How far back identities are remembered.",
        window as f64 / Timestamp::SECOND as f64,
    );
}

fn answers(app: &App, page: &mut Page) {
    let Some(stats) = app.services.query.answer_stats() else { return };
    page.counter(
        "gristmill_cache_hits_total",
        "Questions whose answers were kept and still held.",
        stats.hits,
    );
    page.counter("gristmill_cache_misses_total", "Questions whose answers were not.", stats.misses);
    let cache = stats.cache;
    page.counter(
        "gristmill_cache_errors_total",
        "Times that the cache did not do what it should have.",
        cache.errors,
    );
    page.gauge(
        "gristmill_cache_shunned",
        "Whether the cache is left alone because it was slow or gone: 1 or 0.",
        u64::from(cache.is_shunned),
    );
    page.gauge("gristmill_cache_bytes", "What is kept in this process.", cache.bytes);
}

fn http(metrics: &Metrics, page: &mut Page) {
    page.head(
        "gristmill_http_requests_total",
        Kind::Counter,
        "Requests by route and class of status.",
    );
    for (route, class, count) in metrics.requests() {
        page.sample(&[("route", route), ("status", &format!("{class}xx"))], count);
    }
    let open = metrics.connections_open.get();
    page.gauge("gristmill_http_connections", "Connections being served.", open);
    for (name, help, count) in [
        ("accepted", "Connections that were opened.", &metrics.connections_accepted),
        ("refused", "Connections refused for want of room.", &metrics.connections_refused),
        ("timed_out", "Connections given up on slow clients.", &metrics.connections_timed_out),
        ("failed", "Times that the system could not accept one.", &metrics.accept_errors),
    ] {
        page.counter(&format!("gristmill_http_connections_{name}_total"), help, count.get());
    }
    let name = "gristmill_tls_handshakes_total";
    page.head(name, Kind::Counter, "Connections to listeners under TLS, by what became of them.");
    for (outcome, count) in [
        ("done", &metrics.tls_handshakes),
        ("failed", &metrics.tls_failures),
        ("plaintext", &metrics.tls_plaintext),
    ] {
        page.sample(&[("outcome", outcome)], count.get());
    }
    page.counter(
        "gristmill_wrong_api_keys_total",
        "Requests with an API key that was wrong or not valid any more.",
        metrics.wrong_keys.get(),
    );
    page.counter(
        "gristmill_http_panics_total",
        "Requests that ended in a panic.",
        metrics.panics.get(),
    );
}

fn calls(metrics: &Metrics, page: &mut Page) {
    page.head(
        "gristmill_grpc_requests_total",
        Kind::Counter,
        "Calls that have ended, by method and status code.",
    );
    for (method, code, count) in metrics.calls.counts() {
        page.sample(&[("method", method), ("code", code)], count);
    }
}

fn live(app: &App, page: &mut Page) {
    let metrics = &app.metrics;
    let subscriptions = metrics.live_subscriptions.get();
    page.gauge("gristmill_live_subscriptions", "Subscriptions to live questions.", subscriptions);
    page.counter(
        "gristmill_live_answers_total",
        "Times that live questions were answered, whether the answer had changed or not.",
        metrics.live_answers.get(),
    );
    page.counter(
        "gristmill_live_rows_total",
        "Rows of files that were walked through to answer live questions.",
        metrics.live_rows.get(),
    );
}

fn relays(metrics: &Metrics, page: &mut Page) {
    page.counter(
        "gristmill_gateway_retries_total",
        "Times that the gateway tried a request again.",
        metrics.relay_retries.get(),
    );
    page.counter(
        "gristmill_gateway_failures_total",
        "Requests to the gateway that no other process answered.",
        metrics.relay_failures.get(),
    );
}

/// What became of certificates, if there are any.
fn certificates(config: &ServerConfig, gateway: Option<&Gateway>, page: &mut Page) {
    let shown = [
        ("server", config.tls.as_ref().map(|tls| tls.status())),
        ("gateway", gateway.and_then(Gateway::tls_status)),
    ];
    let shown: Vec<_> = shown.into_iter().filter_map(|(of, it)| Some((of, it?))).collect();
    if shown.is_empty() {
        return;
    }
    let name = "gristmill_tls_certificate_expiry_timestamp_seconds";
    page.head(name, Kind::Gauge, "When the process's own certificate expires, since 1970.");
    for (of, status) in &shown {
        if let Some(expires) = status.expires {
            page.sample(&[("of", of)], expires.seconds());
        }
    }
    let name = "gristmill_tls_renewals_total";
    page.head(name, Kind::Counter, "Times that changed certificates were taken, or could not be.");
    for (of, status) in &shown {
        for (outcome, count) in [("taken", status.renewals), ("failed", status.failures)] {
            page.sample(&[("of", of), ("outcome", outcome)], count);
        }
    }
}

fn process(version: &'static str, started: Timestamp, page: &mut Page) {
    page.head("gristmill_build_info", Kind::Gauge, "The program's version.");
    page.sample(&[("version", version)], 1_u64);
    let started = started.0 as f64 / Timestamp::SECOND as f64;
    page.gauge("process_start_time_seconds", "When the process started, since 1970.", started);
}

/// The metrics that the walk has met.
struct Page(Vec<Family>);

impl Page {
    fn counter(&mut self, name: &str, help: &'static str, value: u64) {
        self.head(name, Kind::Counter, help);
        self.sample(&[], value);
    }

    fn gauge(&mut self, name: &str, help: &'static str, value: impl Into<Number>) {
        self.head(name, Kind::Gauge, help);
        self.sample(&[], value);
    }

    fn histogram(&mut self, name: &str, help: &'static str, histogram: &Histogram) {
        self.head(name, Kind::Histogram, help);
        for (bound, count) in histogram.buckets() {
            self.part("_bucket", &[("le", &bound.to_string())], count);
        }
        let count = histogram.count();
        self.part("_bucket", &[("le", "+Inf")], count);
        self.part("_sum", &[], histogram.sum_seconds());
        self.part("_count", &[], count);
    }

    /// Begins a metric, whose samples follow.
    fn head(&mut self, name: &str, kind: Kind, help: &'static str) {
        self.0.push(Family { name: name.to_owned(), kind, help, samples: Vec::new() });
    }

    /// Adds a number to the metric that was begun last.
    fn sample(&mut self, labels: &[(&'static str, &str)], value: impl Into<Number>) {
        self.part("", labels, value);
    }

    fn part(
        &mut self,
        suffix: &'static str,
        labels: &[(&'static str, &str)],
        value: impl Into<Number>,
    ) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let sample = Sample { suffix, labels, value: value.into() };
        if let Some(family) = self.0.last_mut() {
            family.samples.push(sample);
        }
    }
}
