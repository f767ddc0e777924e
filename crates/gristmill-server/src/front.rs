//! The front door: what holds for every request and every call, whatever its route or service.
//!
//! Requests that no route should see are refused here; answers get the request's name, their
//! security headers, and the body of a [`Problem`] here; every request is counted here. The same holds
//! for calls of gRPC, whose refusals are statuses.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use gristmill_model::{Clock, Entropy, ErrorCode, Scope, Timestamp, limits};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::analytics::live::Hub;
use crate::app::{App, Services};
use crate::background::Background;
use crate::caller::Who;
use crate::connection::Speech;
use crate::gateway::{Gateway, GatewayConfig, Outside};
use crate::grpc::call::Call;
use crate::grpc::methods::{methods, service_of};
use crate::grpc::reflection::Reflection;
use crate::grpc::{self, Protocol};
use crate::keys::{self, Ending, Need, Needs, Peer, Peers, Ring};
use crate::metrics::Metrics;
use crate::problem::{self, Problem};
use crate::request_id::{RequestIds, X_REQUEST_ID};
use crate::role::{Role, Roles};
use crate::trace::Visit;
use crate::visibility::Sample;
use crate::vitals::Vitals;
use crate::well_formed::check;
use crate::{ServerConfig, body, caller, cors, gateway, routes};

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
    /// What each route needs, by its number.
    needs: Vec<Needs>,
    /// Addresses that tried wrong API keys.
    peers: Peers,
    app: Option<Arc<App>>,
    gateway: Option<Arc<Gateway>>,
    reflection: Option<Reflection>,
    /// In bytes.
    large_messages: Arc<Semaphore>,
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
        let mut needs: Vec<_> = table.iter().map(|route| route.needs).collect();
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
        let peers = Peers::new(Arc::clone(&ambience.clock));
        let outside = Outside {
            server: config.clone(),
            metrics: Arc::clone(&metrics),
            ambience,
            draining: draining.clone(),
        };
        let gateway = gateway.map(|config| Arc::new(Gateway::new(config, outside)));
        if let (None, Some(gateway)) = (&services, &gateway) {
            gateway::leave_to_others(gateway, &paths, &mut needs);
        }
        let app = services.map(|services| {
            let (store, clock) = (Arc::clone(&services.store), Arc::clone(&services.clock));
            let ring = Ring::new(store, clock, config.access.clone());
            Arc::new(App {
                config: config.clone(),
                services,
                roles,
                gateway: gateway.clone(),
                ring: Arc::new(ring),
                metrics: Arc::clone(&metrics),
                visibility: Sample::default(),
                live: Hub::default(),
                background: Background::default(),
                has_caught_up: AtomicBool::new(false),
                draining: draining.clone(),
            })
        });
        let router = routes::router(table, app.as_ref(), gateway.as_ref());
        let reflection = config.grpc_reflection.then(Reflection::new).and_then(|built| {
            let failed = |error| tracing::error!(%error, "there is no reflection");
            built.map_err(failed).ok()
        });
        let large_messages = Arc::new(Semaphore::new(limits::LARGE_MESSAGES_BYTES));
        let hall = Hall {
            config,
            metrics,
            request_ids,
            draining,
            needs,
            peers,
            app,
            gateway,
            reflection,
            large_messages,
        };
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

    /// Addresses that tried wrong API keys.
    pub(crate) fn peers(&self) -> &Peers {
        &self.hall.peers
    }

    /// What relays, if anything does.
    pub(crate) fn gateway(&self) -> Option<&Arc<Gateway>> {
        self.hall.gateway.as_ref()
    }

    /// What tells of the calls, if it may.
    pub(crate) fn reflection(&self) -> Option<&Reflection> {
        self.hall.reflection.as_ref()
    }

    /// The room that all large messages share, in bytes.
    pub(crate) fn large_messages(&self) -> &Arc<Semaphore> {
        &self.hall.large_messages
    }

    /// Whether the process should get calls.
    pub(crate) fn is_serving(&self) -> bool {
        match (self.app(), self.gateway()) {
            (Some(app), _) => app.is_serving(),
            (None, Some(gateway)) => gateway.is_ready(),
            (None, None) => false,
        }
    }

    /// Whether calls to services of a role are answered; none, if nobody would.
    pub(crate) fn serves(&self, role: Role) -> Option<bool> {
        let own = self.app().and_then(|app| app.serves(role));
        own.or_else(|| self.gateway()?.reaches(role))
    }

    /// Answers a request that came over a connection.
    pub(crate) async fn answer_on(
        &self,
        vitals: &Vitals,
        speech: Speech,
        request: Request<Body>,
    ) -> Response<Body> {
        if vitals.has_ambiguous_length() {
            let detail = "the request has both content-length and transfer-encoding";
            let problem = Problem::new(ErrorCode::InvalidBody, detail).closing();
            let id = self.hall.request_ids.of(request.headers());
            return self.finish(problem.into_response(), &id);
        }
        match (Protocol::of(&request), speech) {
            (Some(Protocol::Native), _) => self.answer_call(speech, request).await,
            (Some(Protocol::Web), _) => self.answer_from_page(request).await,
            (None, Speech::Http) => self.answer(request).await,
            (None, Speech::Grpc) if cors::is_preflight(&request) => self.answer(request).await,
            (None, Speech::Grpc) => grpc::no_call(),
        }
    }

    /// Answers a call of gRPC.
    pub(crate) async fn answer_call(
        &self,
        speech: Speech,
        request: Request<Body>,
    ) -> Response<Body> {
        let mut request = match grpc::relayed(self, speech, request).await {
            Ok(response) => return response,
            Err(request) => request,
        };
        let id = self.hall.request_ids.of(request.headers());
        request.headers_mut().insert(X_REQUEST_ID, id.clone());
        let mut visit = Visit::begin_call(self.config().tracer.as_ref(), &id, &mut request);
        let answering = pin!(self.answer_named_call(request, id));
        visit.run(answering).await
    }

    async fn answer_named_call(
        &self,
        mut request: Request<Body>,
        id: HeaderValue,
    ) -> Response<Body> {
        let (metrics, longest) = (Arc::clone(&self.hall.metrics), self.config().request_timeout);
        let mut call = Call::begin(request.uri().path(), id, metrics);
        let need = keys::need_of_call(request.uri().path());
        // A gateway passes calls on with their keys, and answers only some itself.
        let is_passed_on =
            self.app().is_none() && methods().role_of(service_of(request.uri().path())).is_some();
        let need = if is_passed_on && need != Need::Nothing { Need::Elsewhere } else { need };
        let fit = check(&request).and_then(|()| call.limit(request.headers(), longest));
        let admitted = match fit {
            Ok(()) => {
                let identifying = pin!(self.identify(&mut request, need));
                let identified = unless_it_panics(identifying).await;
                identified.unwrap_or_else(|| Err(self.mistake()))
            }
            Err(problem) => Err(problem),
        };
        let who = caller::who_of(request.extensions()).filter(|_| call.is_stream());
        let watched = self.watched(request.headers(), need);
        let peer = request.extensions().get::<Peer>().copied();
        let response = match admitted {
            Ok(()) => call.run(Box::pin(self.dispatch(request, who))).await,
            Err(problem) => call.refuse(&problem),
        };
        if let Some(watched) = watched {
            self.note_call(watched, peer, response.headers());
        }
        response.map(Body::new)
    }

    /// Has a service answer a call. A stream ends when whoever reads it may do so no more.
    async fn dispatch(&self, request: Request<Body>, who: Option<Who>) -> Response<Body> {
        let response = grpc::dispatch(self, request).await;
        match (who, self.app()) {
            (Some(who), Some(app)) => keys::guard(response, &app.ring, who, Ending::Status),
            _ => response,
        }
    }

    /// Answers a call of gRPC-Web, which a browser makes for a page of some origin.
    async fn answer_from_page(&self, request: Request<Body>) -> Response<Body> {
        let origin = cors::allowed_origin(&request, self.config());
        let mut response = Box::pin(grpc::web::answer(self, request)).await;
        if let Some(origin) = origin {
            cors::allow(response.headers_mut(), origin);
        }
        response
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
        let is_preflight = origin.is_some() && cors::is_preflight(&request);
        let need = self.need_of(route, request.method());
        let watched = self.watched(request.headers(), need);
        let peer = request.extensions().get::<Peer>().copied();
        let mut visit = self.visit(route, &id, &mut request);
        let answering = pin!(async {
            let response = match check(&request) {
                Ok(()) if is_preflight => cors::permission(),
                Ok(()) if methods().at(request.uri().path()).is_some() => {
                    wrong_media().into_response()
                }
                Ok(()) => self.admit(request, need).await,
                Err(problem) => problem.into_response(),
            };
            if let Some(watched) = watched {
                self.note(watched, peer, response.status());
            }
            response
        });
        let mut response = self.answer_within(&mut visit, answering, &id).await;
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
        let need = self.need_of(route, request.method());
        let mut visit = self.visit(route, &id, &mut request);
        let response = self.answer_within(&mut visit, pin!(self.admit(request, need)), &id).await;
        self.metrics().answered(route, response.status());
        response
    }

    fn visit(&self, route: usize, id: &HeaderValue, request: &mut Request<Body>) -> Visit {
        let path = self.metrics().path_of(route);
        Visit::begin(self.config().tracer.as_ref(), id, path, request)
    }

    /// Lets a request be answered under its name and finishes the answer.
    async fn answer_within(
        &self,
        visit: &mut Visit,
        answering: impl Future<Output = Response<Body>> + Unpin,
        id: &HeaderValue,
    ) -> Response<Body> {
        visit.run(pin!(async { self.finish(answering.await, id) })).await
    }

    /// What a request of a route needs; for what is no route, some key.
    fn need_of(&self, route: usize, method: &Method) -> Need {
        self.hall.needs.get(route).copied().unwrap_or(Needs::of(Need::Key)).with(method)
    }

    /// Answers a request if whoever sends it may have that. A panic ends the request, not the server.
    async fn admit(&self, request: Request<Body>, need: Need) -> Response<Body> {
        let answering = pin!(self.answer_if_allowed(request, need));
        let answered = unless_it_panics(answering).await;
        answered.unwrap_or_else(|| self.mistake().into_response())
    }

    /// Asks who sends a request before its body is read.
    async fn answer_if_allowed(&self, mut request: Request<Body>, need: Need) -> Response<Body> {
        let admitted = self.identify(&mut request, need).await;
        let who = caller::who_of(request.extensions());
        let response = match admitted {
            Ok(()) => self.route(request).await,
            Err(problem) => {
                let (head, body) = request.into_parts();
                body::refuse(&head.headers, body, problem).await.into_response()
            }
        };
        let (Some(who), Some(app)) = (who, self.app()) else { return response };
        let mut response = keys::guard(response, &app.ring, who.clone(), Ending::Silent);
        if let (Need::Scope(Scope::Write), Who::Key(key)) = (need, who)
            && let Some(meter) = key.meter()
            && !keys::tells_limits(response.headers())
        {
            meter.tell(app.now(), response.headers_mut());
        }
        response
    }

    /// Runs the route under the request's deadline.
    async fn route(&self, request: Request<Body>) -> Response<Body> {
        let routed = self.router.clone().oneshot(request);
        match tokio::time::timeout(self.config().request_timeout, routed).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let detail = "the request took longer than `server.request_timeout`; \
                    whether it was accepted is unknown: send the same again";
                Problem::new(ErrorCode::DeadlineExceeded, detail).into_response()
            }
        }
    }

    /// What a panic is answered with.
    fn mistake(&self) -> Problem {
        self.metrics().panics.add(1);
        tracing::error!("a request ended in a panic");
        Problem::new(ErrorCode::Internal, "the server made a mistake")
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

/// Does something to its end, or gives nothing if that panics. The work is pinned already, for what answers
/// a request is large, and every move would copy it.
pub(crate) fn unless_it_panics<F: Future + Unpin>(
    mut work: F,
) -> impl Future<Output = Option<F::Output>> {
    std::future::poll_fn(move |context| {
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut work).poll(context))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
}

/// Refuses a call that does not say that it is one.
fn wrong_media() -> Problem {
    let detail = "calls have the content type application/grpc, over HTTP/2 with prior knowledge, or \
        one of gRPC-Web's";
    Problem::new(ErrorCode::UnsupportedMedia, detail)
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
