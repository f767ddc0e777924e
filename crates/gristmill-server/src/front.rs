//! The front door: what holds for every request, whatever its route.
//!
//! Requests that no route should see are refused here; answers get the request's name, their
//! security headers, and the body of a [`Problem`] here; every request is counted here.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use gristmill_model::{Clock, Entropy, ErrorCode, Timestamp, limits};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::analytics::live::Hub;
use crate::app::{App, Services};
use crate::gateway::{Gateway, GatewayConfig, Outside};
use crate::metrics::Metrics;
use crate::problem::{self, Problem};
use crate::request_id::{RequestIds, X_REQUEST_ID};
use crate::role::{Role, Roles};
use crate::trace::Visit;
use crate::visibility::Sample;
use crate::vitals::Vitals;
use crate::{ServerConfig, cors, routes};

/// Answers requests; cheap to clone.
#[derive(Clone)]
pub struct Front {
    hall: Arc<Hall>,
    router: Router,
}

/// What a process has behind its front door.
pub enum Parts {
    /// Everything, for some roles, which may include that of a gateway.
    Services(Services, Roles, Option<GatewayConfig>),
    /// Nothing but relays.
    Gateway(GatewayConfig, Ambience),
}

/// What a process takes from its surroundings.
pub struct Ambience {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// For request ids, and what must differ from request to request.
    pub entropy: Arc<dyn Entropy>,
    /// When the process started.
    pub started: Timestamp,
    /// The program's version.
    pub version: &'static str,
}

/// What is behind all routes.
struct Hall {
    config: ServerConfig,
    metrics: Arc<Metrics>,
    request_ids: RequestIds,
    draining: CancellationToken,
    app: Option<Arc<App>>,
    gateway: Option<Arc<Gateway>>,
}

impl Front {
    /// All routes over these services.
    pub fn new(config: ServerConfig, services: Services) -> Self {
        Self::of(config, Parts::Services(services, Role::all_in_one(), None))
    }

    /// The routes of a process.
    pub fn of(config: ServerConfig, parts: Parts) -> Self {
        let table = routes::table();
        let paths: Vec<_> = table.iter().map(|route| route.path).collect();
        let (services, roles, gateway, ambience) = match parts {
            Parts::Services(services, roles, gateway) => {
                let ambience = services.ambience();
                (Some(services), roles, gateway, ambience)
            }
            Parts::Gateway(gateway, ambience) => {
                (None, [Role::Gateway].into(), Some(gateway), ambience)
            }
        };
        let (metrics, draining) = (Arc::new(Metrics::new(&paths)), CancellationToken::new());
        let request_ids = RequestIds::new(ambience.entropy.as_ref());
        let outside = Outside {
            server: config.clone(),
            metrics: Arc::clone(&metrics),
            ambience,
            draining: draining.clone(),
        };
        let gateway = gateway.map(|config| Arc::new(Gateway::new(config, outside)));
        let app = services.map(|services| {
            Arc::new(App {
                config: config.clone(),
                services,
                roles,
                gateway: gateway.clone(),
                metrics: Arc::clone(&metrics),
                visibility: Sample::default(),
                live: Hub::default(),
                has_caught_up: AtomicBool::new(false),
                draining: draining.clone(),
            })
        });
        let router = routes::router(table, app.as_ref(), gateway.as_ref());
        let hall = Hall { config, metrics, request_ids, draining, app, gateway };
        Self { hall: Arc::new(hall), router }
    }

    /// What was set.
    pub(crate) fn config(&self) -> &ServerConfig {
        &self.hall.config
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.hall.metrics
    }

    /// Set when the server stops.
    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.hall.draining
    }

    /// The state behind the routes of the process's own, if it has any.
    pub(crate) fn app(&self) -> Option<&Arc<App>> {
        self.hall.app.as_ref()
    }

    /// What relays, if anything does.
    pub(crate) fn gateway(&self) -> Option<&Arc<Gateway>> {
        self.hall.gateway.as_ref()
    }

    /// Answers a request that came over a connection.
    pub(crate) async fn answer_on(
        &self,
        vitals: &Vitals,
        request: Request<Body>,
    ) -> Response<Body> {
        if vitals.has_ambiguous_length() {
            let detail = "the request has both content-length and transfer-encoding";
            let problem = Problem::new(ErrorCode::InvalidBody, detail).closing();
            let id = self.hall.request_ids.of(request.headers());
            return self.finish(problem.into_response(), &id);
        }
        self.answer(request).await
    }

    /// Answers a request.
    pub async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        let id = self.hall.request_ids.of(request.headers());
        if self.hall.gateway.is_some() {
            request.headers_mut().insert(X_REQUEST_ID, id.clone());
        }
        if request.uri().path().len() > 1 && request.uri().path().ends_with('/') {
            trim_slash(request.uri_mut());
        }
        let route = self.metrics().route(request.uri().path());
        let origin = cors::allowed_origin(&request, self.config());
        let visit = self.visit(route, &id, &mut request);
        let answering = async {
            match check(&request) {
                Ok(()) => self.route(request).await,
                Err(problem) => problem.into_response(),
            }
        };
        let mut response = self.answer_within(visit, answering, &id).await;
        if let Some(origin) = origin {
            cors::allow(response.headers_mut(), origin);
        }
        self.metrics().answered(route, response.status());
        response
    }

    /// Answers a request that a gateway has taken in, and checked.
    pub(crate) async fn answer_relayed(&self, mut request: Request<Body>) -> Response<Body> {
        let id = self.hall.request_ids.of(request.headers());
        let route = self.metrics().route(request.uri().path());
        let visit = self.visit(route, &id, &mut request);
        let response = self.answer_within(visit, self.route(request), &id).await;
        self.metrics().answered(route, response.status());
        response
    }

    /// Has a call of gRPC answered under its name, which the answer carries too.
    pub(crate) async fn answer_call<F: Future<Output = Response<Body>>>(
        &self,
        mut request: Request<Body>,
        answer: impl FnOnce(Request<Body>) -> F,
    ) -> Response<Body> {
        let id = self.hall.request_ids.of(request.headers());
        let visit = Visit::begin_call(self.config().tracer.as_ref(), &id, &mut request);
        let mut response = visit.current().run(answer(request)).await;
        visit.end(&response);
        response.headers_mut().insert(X_REQUEST_ID, id);
        response
    }

    fn visit(&self, route: usize, id: &HeaderValue, request: &mut Request<Body>) -> Visit {
        let path = self.metrics().path_of(route);
        Visit::begin(self.config().tracer.as_ref(), id, path, request)
    }

    /// Lets a request be answered under its name and finishes the answer.
    async fn answer_within(
        &self,
        visit: Visit,
        answering: impl Future<Output = Response<Body>>,
        id: &HeaderValue,
    ) -> Response<Body> {
        let finished = async { self.finish(answering.await, id) };
        let response = visit.current().run(finished).await;
        visit.end(&response);
        response
    }

    /// Runs the route under the request's deadline. A panic ends the request, not the server.
    async fn route(&self, request: Request<Body>) -> Response<Body> {
        let mut routed = pin!(self.router.clone().oneshot(request));
        let guarded = std::future::poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| routed.as_mut().poll(context)));
            polled.unwrap_or_else(|_| {
                self.metrics().panics.add(1);
                tracing::error!("a request ended in a panic");
                let problem = Problem::new(ErrorCode::Internal, "the server made a mistake");
                Poll::Ready(Ok::<_, Infallible>(problem.into_response()))
            })
        });
        match tokio::time::timeout(self.config().request_timeout, guarded).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let detail = "the request took longer than `server.request_timeout`; \
                    whether it was accepted is unknown: send the same again";
                Problem::new(ErrorCode::DeadlineExceeded, detail).into_response()
            }
        }
    }

    fn finish(&self, mut response: Response<Body>, id: &HeaderValue) -> Response<Body> {
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            // Its detail may quote what the client has sent.
            let code = problem.code().name();
            tracing::debug!(code, "a request was not answered with success");
            problem::render(&problem, id, &mut response);
        }
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, id.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// Refuses what is well-formed enough for hyper and still not a request for us.
fn check(request: &Request<Body>) -> Result<(), Problem> {
    let (uri, headers) = (request.uri(), request.headers());
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > limits::URI_BYTES) {
        let detail = format!("the request target is longer than {} bytes", limits::URI_BYTES);
        return Err(Problem::new(ErrorCode::UriTooLong, detail));
    }
    // Per header: a colon, a space and the line's end.
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > limits::HEADER_BYTES || headers.len() > limits::HEADERS {
        let (most, bytes) = (limits::HEADERS, limits::HEADER_BYTES);
        let detail = format!("the request has more than {most} headers or {bytes} bytes of them");
        return Err(Problem::new(ErrorCode::HeadersTooLarge, detail).closing());
    }
    let bad = |detail: &str| Err(Problem::new(ErrorCode::InvalidArgument, detail).closing());
    if request.method() == Method::CONNECT || uri.path() == "*" {
        return bad("the request target must be a path");
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    match request.version() {
        Version::HTTP_2 => {
            if uri.authority().is_none() && hosts != 1 {
                return bad("the request names no authority");
            }
        }
        version => {
            if uri.authority().is_some() {
                return bad("the request target must be a path, not a whole URL");
            }
            if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
                return bad("the request must have exactly one host header");
            }
        }
    }
    Ok(())
}

/// Takes one slash off the end of the path.
fn trim_slash(uri: &mut Uri) {
    let path = uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let target = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = target.ok();
    if let Ok(trimmed) = Uri::from_parts(parts) {
        *uri = trimmed;
    }
}
