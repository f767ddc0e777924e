//! All numbers in Prometheus' text format.

use std::fmt::{Display, Write};

use gristmill_model::Timestamp;

use crate::ServerConfig;
use crate::app::App;
use crate::gateway::{Gateway, Outside};
use crate::metrics::{Histogram, Metrics};

/// The text of all metrics now.
pub(crate) fn text(app: &App) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    ingestion(app, &mut page);
    store(app, &mut page);
    answers(app, &mut page);
    http(&app.metrics, &mut page);
    live(app, &mut page);
    relays(&app.metrics, &mut page);
    certificates(&app.config, app.gateway.as_deref(), &mut page);
    process(app.services.version, app.services.started, &mut page);
    page.0
}

/// The text of a process that neither takes events in nor answers questions itself.
pub(crate) fn without_services(gateway: &Gateway) -> String {
    let Outside { server, metrics, ambience, .. } = gateway.outside();
    let mut page = Page(String::with_capacity(4 * 1024));
    http(metrics, &mut page);
    relays(metrics, &mut page);
    certificates(server, Some(gateway), &mut page);
    process(ambience.version, ambience.started, &mut page);
    page.0
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
    page.head("gristmill_ingest_refused_total", "counter", "Requests refused because of load.");
    for (reason, count) in [("busy", admission.refused_busy), ("behind", admission.refused_behind)]
    {
        page.sample(format_args!("gristmill_ingest_refused_total{{reason=\"{reason}\"}}"), count);
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
        "counter",
        "Events settled behind the log, by outcome, since the store was created.",
    );
    for (outcome, count) in [
        ("stored", stats.stored),
        ("duplicate", stats.duplicate),
        ("quarantined", stats.quarantined),
        ("expired", stats.expired),
    ] {
        let name = format_args!("gristmill_events_processed_total{{outcome=\"{outcome}\"}}");
        page.sample(name, count);
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
    page.head("gristmill_http_requests_total", "counter", "Requests by route and class of status.");
    for (route, class, count) in metrics.requests() {
        page.sample(
            format_args!("gristmill_http_requests_total{{route=\"{route}\",status=\"{class}xx\"}}"),
            count,
        );
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
    page.head(name, "counter", "Connections to listeners under TLS, by what became of them.");
    for (outcome, count) in [
        ("done", &metrics.tls_handshakes),
        ("failed", &metrics.tls_failures),
        ("plaintext", &metrics.tls_plaintext),
    ] {
        page.sample(format_args!("{name}{{outcome=\"{outcome}\"}}"), count.get());
    }
    page.counter(
        "gristmill_http_panics_total",
        "Requests that ended in a panic.",
        metrics.panics.get(),
    );
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

/// Handshakes, and what became of certificates, if there are any.
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
    page.head(name, "gauge", "When the process's own certificate expires, since 1970.");
    for (of, status) in &shown {
        if let Some(expires) = status.expires {
            page.sample(format_args!("{name}{{of=\"{of}\"}}"), expires.seconds());
        }
    }
    let name = "gristmill_tls_renewals_total";
    page.head(name, "counter", "Times that changed certificates were taken, or could not be.");
    for (of, status) in &shown {
        for (outcome, count) in [("taken", status.renewals), ("failed", status.failures)] {
            page.sample(format_args!("{name}{{of=\"{of}\",outcome=\"{outcome}\"}}"), count);
        }
    }
}

fn process(version: &'static str, started: Timestamp, page: &mut Page) {
    page.head("gristmill_build_info", "gauge", "The program's version.");
    page.sample(format_args!("gristmill_build_info{{version=\"{version}\"}}"), 1);
    let started = started.0 as f64 / Timestamp::SECOND as f64;
    page.gauge("process_start_time_seconds", "When the process started, since 1970.", started);
}

struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        for (bound, count) in histogram.buckets() {
            self.sample(format_args!("{name}_bucket{{le=\"{bound}\"}}"), count);
        }
        let count = histogram.count();
        self.sample(format_args!("{name}_bucket{{le=\"+Inf\"}}"), count);
        self.sample(format_args!("{name}_sum"), histogram.sum_seconds());
        self.sample(format_args!("{name}_count"), count);
    }

    // Writing to a string cannot fail.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: impl Display, value: impl Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }
}
