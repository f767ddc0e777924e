//! Every path, in one list, which the router and the OpenAPI document are both made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use gristmill_model::{ErrorCode, Scope};
use http::Method;

use crate::analytics::{Ask, Description};
use crate::app::App;
use crate::gateway::{Gateway, Patience, Relaying};
use crate::keys::{Need, Needs};
use crate::openapi::{self, Operation};
use crate::problem::Problem;
use crate::role::Role;
use crate::{analytics, cors, dialects, gateway, keys, metrics_service, native, ops};

/// A path with what it answers.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    /// What a request must have to be answered.
    pub(crate) needs: Needs,
    /// Which role answers it, and how a gateway has that answer; without, every process answers.
    relaying: Option<Relaying>,
    methods: MethodRouter<Arc<App>>,
    /// What the document says of each method; nothing of the older systems' routes.
    pub(crate) descriptions: Vec<(Method, Describe)>,
}

const WRITE: Need = Need::Scope(Scope::Write);
const READ: Need = Need::Scope(Scope::Read);
const ADMIN: Need = Need::Scope(Scope::Admin);

type Describe = Box<dyn Fn() -> Operation>;
type Tell = fn(Result<Response, Problem>) -> Response;

impl Route {
    /// A path that every process answers.
    fn at(path: &'static str, need: Need) -> Self {
        let needs = Needs::of(need);
        Self { path, needs, relaying: None, methods: MethodRouter::new(), descriptions: Vec::new() }
    }

    /// A path of ingestion.
    fn ingest(path: &'static str) -> Self {
        Self::at(path, WRITE).relayed(Role::Ingest, or_problem)
    }

    /// A path of questions.
    fn query(path: &'static str) -> Self {
        Self::at(path, READ).relayed(Role::Query, or_problem)
    }

    /// The same, answered by a role; `tell` says what a gateway answers.
    fn relayed(mut self, role: Role, tell: Tell) -> Self {
        self.relaying = Some(Relaying { role, patience: Patience::Request, tell });
        self
    }

    /// A path of an older system, whose clients know it. Its own answers to a wrong method are
    /// kept.
    fn older(path: &'static str, methods: MethodRouter<Arc<App>>, role: Role, tell: Tell) -> Self {
        let need = if role == Role::Ingest { WRITE } else { READ };
        Self { methods, ..Self::at(path, need) }.relayed(role, tell)
    }

    /// The same, which needs something else.
    fn needing(mut self, need: Need) -> Self {
        self.needs = Needs::of(need);
        self
    }

    /// The same, whose changes need something else.
    fn changed_with(mut self, need: Need) -> Self {
        self.needs.changes = Some(need);
        self
    }

    /// The same, which a gateway answers in a short time, if only that it cannot.
    fn briefly(mut self) -> Self {
        if let Some(relaying) = &mut self.relaying {
            relaying.patience = Patience::Deadline;
        }
        self
    }

    /// What a process with these parts answers at this path.
    fn in_process(self, app: Option<&Arc<App>>, gateway: Option<&Arc<Gateway>>) -> MethodRouter {
        let role = self.relaying.map(|relaying| relaying.role);
        let is_own = |app: &&Arc<App>| role.is_none_or(|role| app.roles.contains(&role));
        match (app.filter(is_own), self.relaying, gateway) {
            (Some(app), ..) => self.methods.with_state(Arc::clone(app)),
            (None, Some(relaying), Some(gateway)) => {
                let gateway = Arc::clone(gateway);
                any(async move |request| gateway.relay(relaying, request).await)
            }
            (None, Some(Relaying { role, .. }), None) => any(async move || absent(role)),
            (None, None, _) => any(not_found),
        }
    }

    /// The same, which also answers `GET`.
    fn get<H: Handler<T, Arc<App>>, T: 'static>(
        mut self,
        handler: H,
        describe: impl Fn() -> Operation + 'static,
    ) -> Self {
        self.methods = self.methods.get(handler);
        self.described(Method::GET, describe)
    }

    /// The same, which also answers `POST`.
    fn post<H: Handler<T, Arc<App>>, T: 'static>(
        mut self,
        handler: H,
        describe: impl Fn() -> Operation + 'static,
    ) -> Self {
        self.methods = self.methods.post(handler);
        self.described(Method::POST, describe)
    }

    /// The same, which also answers `PUT`.
    fn put<H: Handler<T, Arc<App>>, T: 'static>(
        mut self,
        handler: H,
        describe: impl Fn() -> Operation + 'static,
    ) -> Self {
        self.methods = self.methods.put(handler);
        self.described(Method::PUT, describe)
    }

    /// The same, which also answers `DELETE`.
    fn delete<H: Handler<T, Arc<App>>, T: 'static>(
        mut self,
        handler: H,
        describe: impl Fn() -> Operation + 'static,
    ) -> Self {
        self.methods = self.methods.delete(handler);
        self.described(Method::DELETE, describe)
    }

    /// The same, which also answers a question of parameters.
    fn asked<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        handler: H,
        describe: fn() -> Description,
    ) -> Self {
        self.get(Ask(handler), move || describe().asked())
    }

    /// The same, which also answers a question that is a body.
    fn posted<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        handler: H,
        describe: fn() -> Description,
    ) -> Self {
        self.post(Ask(handler), move || describe().posted())
    }

    /// The same, which also answers a question that is a body or stands in the target.
    fn posted_or_in_target<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        handler: H,
        describe: fn() -> Description,
    ) -> Self {
        self.get(Ask(handler.clone()), move || describe().in_target()).posted(handler, describe)
    }

    fn described(mut self, method: Method, describe: impl Fn() -> Operation + 'static) -> Self {
        self.descriptions.push((method, Box::new(describe)));
        self
    }
}

/// Every path with what it answers.
pub(crate) fn table() -> Vec<Route> {
    let mut table = native();
    table.extend(older());
    table.extend(operators());
    table.extend(key_routes());
    table
}

/// What every path needs, those of older systems included: the path, what asking needs, and what other
/// methods need. That is `nothing`, `any` key, or the name of a scope.
pub fn needs_of_paths() -> Vec<(&'static str, &'static str, &'static str)> {
    let name = |need: Need| match need {
        Need::Nothing => "nothing",
        Need::Key | Need::Elsewhere => "any",
        Need::Scope(scope) => scope.name(),
    };
    let of = |Route { path, needs, .. }: &Route| {
        (*path, name(needs.with(&Method::GET)), name(needs.with(&Method::POST)))
    };
    table().iter().map(of).collect()
}

/// The native interface.
fn native() -> Vec<Route> {
    use analytics as a;
    use openapi::page;
    use ops::health;
    vec![
        Route::at("/v1/openapi.json", Need::Key).get(openapi::get, openapi::describe),
        // A browser sends no key when it opens a page; the page asks for one.
        Route::at("/docs", Need::Nothing).get(page::html, page::describe),
        Route::at("/docs/page.css", Need::Nothing).get(page::style, page::describe_style),
        Route::at("/docs/page.js", Need::Nothing).get(page::script, page::describe_script),
        Route::ingest("/v1/events").post(native::one, native::describe_one),
        Route::ingest("/v1/events/batch").post(native::batch, native::describe_batch),
        Route::ingest("/v1/events/health")
            .needing(Need::Nothing)
            .get(health::health, health::describe_health),
        Route::query("/v1/analytics/health")
            .needing(Need::Nothing)
            .get(health::health, health::describe_health),
        Route::query("/v1/analytics/summary").asked(a::summary::get, a::summary::describe),
        Route::query("/v1/analytics/timeseries")
            .asked(a::timeseries::get, a::timeseries::describe_get)
            .posted(a::timeseries::post, a::timeseries::describe_post),
        Route::query("/v1/analytics/top").asked(a::top::get, a::top::describe),
        Route::query("/v1/analytics/users")
            .posted_or_in_target(a::user_list::post, a::user_list::describe),
        Route::query("/v1/analytics/users/{id}").asked(a::users::get, a::users::describe),
        Route::query("/v1/analytics/funnel")
            .posted_or_in_target(a::funnel::post, a::funnel::describe),
        Route::query("/v1/analytics/funnel/users")
            .posted_or_in_target(a::funnel::users::post, a::funnel::users::describe),
        Route::query("/v1/analytics/retention")
            .posted_or_in_target(a::retention::post, a::retention::describe),
        Route::query("/v1/analytics/stickiness").asked(a::stickiness::get, a::stickiness::describe),
        Route::query("/v1/analytics/lifecycle").asked(a::lifecycle::get, a::lifecycle::describe),
        Route::query("/v1/analytics/sessions").asked(a::sessions::get, a::sessions::describe),
        Route::query("/v1/analytics/paths").posted_or_in_target(a::paths::post, a::paths::describe),
        Route::query("/v1/metrics").get(metrics_service::get, metrics_service::describe_get),
        Route::query("/v1/metrics/export")
            .get(metrics_service::export, metrics_service::describe_export),
        Route::query("/v1/metrics/health")
            .needing(Need::Nothing)
            .get(health::health, health::describe_health),
        Route::query("/v1/cohorts")
            .changed_with(ADMIN)
            .get(a::cohorts::list, a::cohorts::describe_list)
            .post(a::cohorts::create, a::cohorts::describe_create),
        Route::query("/v1/cohorts/{id}")
            .changed_with(ADMIN)
            .get(a::cohorts::get, a::cohorts::describe_get)
            .put(a::cohorts::replace, a::cohorts::describe_replace)
            .delete(a::cohorts::remove, a::cohorts::describe_remove),
        Route::query("/v1/cohorts/{id}/users").get(a::cohorts::users, a::cohorts::describe_users),
    ]
}

/// The dialects of four older systems.
fn older() -> Vec<Route> {
    use Role::{Ingest, Query};
    use dialects::{activity, clicks, events, platform, stream};
    let wrong = platform::wrong_method;
    let event = post(events::one).options(cors::preflight).fallback(wrong);
    let click = post(clicks::ingest).fallback(clicks::wrong_method);
    let clicks_count = get(clicks::count).fallback(clicks::wrong_method);
    let one_async = post(platform::one_async).fallback(wrong);
    let batch = post(platform::batch).fallback(wrong);
    let summary = get(platform::summary).fallback(wrong);
    let stream = get(stream::metrics).options(cors::preflight);
    vec![
        // Clicks.
        Route::older("/ingest", click, Ingest, clicks::relayed),
        Route::older("/analytics/events", clicks_count, Query, clicks::relayed_count).briefly(),
        // Platform events, and session events on the same path.
        Route::older("/events", event, Ingest, platform::relayed),
        Route::older("/events/async", one_async, Ingest, platform::relayed_async),
        Route::older("/events/batch", batch, Ingest, platform::relayed_batch),
        Route::older("/analytics/summary", summary, Query, platform::relayed_summary),
        // Activities.
        Route::older("/activity", post(activity::one), Ingest, activity::relayed),
        // Sessions.
        Route { methods: stream, ..Route::at("/metrics/stream", READ) },
    ]
}

/// What operators and their machines ask.
fn operators() -> Vec<Route> {
    use ops::{compact, health, stats};
    vec![
        Route::at("/health", Need::Nothing).get(health::health, health::describe_health),
        Route::at("/ready", Need::Nothing).get(health::ready, health::describe_ready),
        Route::at("/livez", Need::Nothing).get(health::livez, health::describe_livez),
        Route::at("/readyz", Need::Nothing).get(health::readyz, health::describe_readyz),
        Route::at("/actuator/health", Need::Nothing)
            .get(health::actuator, health::describe_actuator),
        Route::at("/stats", READ).get(stats::stats, stats::describe_stats),
        Route::at("/lag", READ).get(stats::lag, stats::describe_lag),
        Route::at("/metrics", READ).get(ops::metrics, ops::describe_metrics),
        Route::query("/v1/store/compact").needing(ADMIN).post(compact::post, compact::describe),
    ]
}

/// API keys. A path with a name comes before one that takes any.
fn key_routes() -> Vec<Route> {
    use keys::routes as k;
    vec![
        Route::at("/v1/keys/self", Need::Key).get(k::myself, k::describe_myself),
        Route::query("/v1/keys")
            .needing(ADMIN)
            .get(k::list, k::describe_list)
            .post(k::create, k::describe_create),
        Route::query("/v1/keys/{id}")
            .needing(ADMIN)
            .get(k::get, k::describe_get)
            .delete(k::revoke, k::describe_revoke),
        Route::query("/v1/keys/{id}/rotate").needing(ADMIN).post(k::rotate, k::describe_rotate),
    ]
}

/// The router of a process over a table.
pub(crate) fn router(
    table: Vec<Route>,
    app: Option<&Arc<App>>,
    gateway: Option<&Arc<Gateway>>,
) -> Router {
    let router = match (app, gateway) {
        (None, Some(gateway)) => without_services(table, gateway),
        _ => table.into_iter().fold(Router::new(), |router, route| {
            router.route(route.path, route.in_process(app, gateway))
        }),
    };
    // Holds for the routes that are there when it is called.
    router.method_not_allowed_fallback(wrong_method).fallback(not_found)
}

/// The router of a gateway that is nothing else: what it does not answer itself is relayed.
fn without_services(table: Vec<Route>, gateway: &Arc<Gateway>) -> Router {
    let own: BTreeMap<_, _> = gateway::routes(gateway).into_iter().collect();
    let others = table.into_iter().filter(|route| !own.contains_key(route.path));
    let totals = Relaying { role: Role::Ingest, patience: Patience::Request, tell: or_problem };
    let relayed = others.map(|mut route| {
        route.relaying.get_or_insert(totals);
        (route.path, route.in_process(None, Some(gateway)))
    });
    let relayed: Vec<_> = relayed.collect();
    relayed
        .into_iter()
        .chain(own)
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

fn or_problem(relayed: Result<Response, Problem>) -> Response {
    relayed.into_response()
}

fn absent(role: Role) -> Problem {
    let detail = format!("this process does not have the role `{role}`, which answers this path");
    Problem::new(ErrorCode::NotFound, detail)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_has_every_route_but_those_of_older_systems() {
        let document: Value = serde_json::from_str(openapi::openapi()).unwrap();
        let described: BTreeSet<_> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let paths = |table: Vec<Route>| table.into_iter().map(|route| route.path);
        let all: BTreeSet<_> = paths(table()).collect();
        assert_eq!(all.len(), table().len(), "a path stands twice in the table");
        let undescribed: Vec<_> = all.difference(&described).copied().collect();
        assert_eq!(undescribed, Vec::from_iter(BTreeSet::from_iter(paths(older()))));
        assert!(described.is_subset(&all), "{described:?}");
        assert!(paths(older()).all(|path| !path.starts_with("/v1/")));
        for route in table() {
            let methods: BTreeSet<_> = route
                .descriptions
                .iter()
                .map(|(method, _)| method.as_str().to_lowercase())
                .collect();
            assert_eq!(methods.len(), route.descriptions.len(), "{}", route.path);
            let operations = document["paths"][route.path].as_object();
            let operations = operations.into_iter().flatten().map(|(method, _)| method.clone());
            assert_eq!(methods, operations.collect(), "{}", route.path);
        }
    }
}
