//! Every path, in one list.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};
use gristmill_model::ErrorCode;

use crate::app::App;
use crate::problem::Problem;
use crate::{analytics, cors, dialects, native, ops};

/// What a path answers.
pub(crate) type Route = (&'static str, MethodRouter<Arc<App>>);

/// Every path with what it answers. The dialects' own answers to a wrong method are kept.
pub(crate) fn table() -> Vec<Route> {
    use analytics::{self as a, Ask};
    use dialects::{activity, clicks, events, platform, stream};
    use ops::{health, stats};
    vec![
        // The native interface.
        ("/v1/events", post(native::one)),
        ("/v1/events/batch", post(native::batch)),
        ("/v1/events/health", get(health::health)),
        ("/v1/analytics/health", get(health::health)),
        ("/v1/analytics/summary", get(Ask(a::summary::get))),
        ("/v1/analytics/timeseries", get(Ask(a::timeseries::get)).post(Ask(a::timeseries::post))),
        ("/v1/analytics/top", get(Ask(a::top::get))),
        ("/v1/analytics/users", posted(a::user_list::post)),
        ("/v1/analytics/users/{id}", get(Ask(a::users::get))),
        ("/v1/analytics/funnel", posted(a::funnel::post)),
        ("/v1/analytics/funnel/users", posted(a::funnel::users::post)),
        ("/v1/analytics/retention", posted(a::retention::post)),
        ("/v1/analytics/stickiness", get(Ask(a::stickiness::get))),
        ("/v1/analytics/lifecycle", get(Ask(a::lifecycle::get))),
        ("/v1/analytics/sessions", get(Ask(a::sessions::get))),
        ("/v1/analytics/paths", posted(a::paths::post)),
        ("/v1/cohorts", get(a::cohorts::list).post(a::cohorts::create)),
        (
            "/v1/cohorts/{id}",
            get(a::cohorts::get).put(a::cohorts::replace).delete(a::cohorts::remove),
        ),
        ("/v1/cohorts/{id}/users", get(a::cohorts::users)),
        // Clicks.
        ("/ingest", post(clicks::ingest).fallback(clicks::wrong_method)),
        ("/analytics/events", get(clicks::count).fallback(clicks::wrong_method)),
        // Platform events, and session events on the same path.
        ("/events", post(events::one).options(cors::preflight).fallback(platform::wrong_method)),
        ("/events/async", post(platform::one_async).fallback(platform::wrong_method)),
        ("/events/batch", post(platform::batch).fallback(platform::wrong_method)),
        ("/analytics/summary", get(platform::summary).fallback(platform::wrong_method)),
        // Activities.
        ("/activity", post(activity::one)),
        // Sessions.
        ("/metrics/stream", get(stream::metrics).options(cors::preflight)),
        // What operators and their machines ask.
        ("/health", get(health::health)),
        ("/ready", get(health::ready)),
        ("/livez", get(health::livez)),
        ("/readyz", get(health::readyz)),
        ("/actuator/health", get(health::actuator)),
        ("/stats", get(stats::stats)),
        ("/lag", get(stats::lag)),
        ("/metrics", get(ops::metrics)),
        ("/v1/store/compact", post(ops::compact::post)),
    ]
}

/// A question with a body, which may also stand in the target.
fn posted<H: Handler<T, Arc<App>>, T: 'static>(route: H) -> MethodRouter<Arc<App>> {
    get(analytics::Ask(route.clone())).post(analytics::Ask(route))
}

/// The router over a table.
pub(crate) fn router(table: Vec<Route>) -> Router<Arc<App>> {
    let router = table
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    // Holds for the routes that are there when it is called.
    router.method_not_allowed_fallback(wrong_method).fallback(not_found)
}

async fn not_found() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is nothing at this path")
}

async fn wrong_method() -> Problem {
    Problem::new(
        ErrorCode::MethodNotAllowed,
        "the path does not know this method; `allow` says which",
    )
}
