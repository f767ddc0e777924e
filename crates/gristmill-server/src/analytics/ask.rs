//! What holds for every question, whichever it is: it may be asked live, its answer may be given
//! again, and says in `Server-Timing` how long it took and what was read for it.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use gristmill_query::{Cost, Source, Work};
use http::{HeaderName, HeaderValue, Request};

use super::question::{Format, format};
use super::{again, live};
use crate::app::App;
use crate::trace;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A route that answers a question and changes nothing, so that it may be asked again and again.
#[derive(Clone)]
pub(crate) struct Ask<H>(pub(crate) H);

impl<H, T> Handler<T, Arc<App>> for Ask<H>
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, request: Request<Body>, app: Arc<App>) -> Self::Future {
        let Self(route) = self;
        Box::pin(async move {
            if format(request.headers()) == Format::Events {
                let state = Arc::clone(&app);
                let ask: live::Route = Box::new(move |request| {
                    Box::pin(Handler::<T, _>::call(route.clone(), request, Arc::clone(&state)))
                });
                return live::subscribe(app, request, ask).await.into_response();
            }
            let plain = |request| route.clone().call(request, Arc::clone(&app));
            let (mut response, cost, source) =
                trace::step("query", again::answer(&app, request, plain)).await;
            let timing = server_timing(&cost, source);
            response.headers_mut().extend(timing.map(|timing| (SERVER_TIMING, timing)));
            response
        })
    }
}

/// The value of the header, its times in milliseconds.
fn server_timing(cost: &Cost, source: Option<Source>) -> Option<HeaderValue> {
    let millis = |time: std::time::Duration| time.as_micros() as f64 / 1e3;
    let (waited, answered) = (millis(cost.waited), millis(cost.answered));
    let Work { rows, parts, cache_hits, cache_misses } = cost.work;
    let answer = match source {
        Some(Source::Kept) => ", answer;desc=\"kept\"",
        Some(Source::WorkedOut) => ", answer;desc=\"new\"",
        None => "",
    };
    let timing = format!(
        "wait;dur={waited}, query;dur={answered}, rows;desc=\"{rows}\", parts;desc=\"{parts}\", \
         cache;desc=\"{cache_hits} hits {cache_misses} misses\"{answer}"
    );
    HeaderValue::try_from(timing).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timing_is_in_milliseconds() {
        let work = Work { rows: 7, parts: 2, cache_hits: 3, cache_misses: 1 };
        let answered = Duration::from_micros(12_340);
        let mut cost = Cost::default();
        (cost.answered, cost.work) = (answered, work);
        let text = "wait;dur=0, query;dur=12.34, rows;desc=\"7\", parts;desc=\"2\", \
                    cache;desc=\"3 hits 1 misses\"";
        assert_eq!(server_timing(&cost, None).unwrap(), text);
        let kept = server_timing(&cost, Some(Source::Kept)).unwrap();
        assert_eq!(kept, format!("{text}, answer;desc=\"kept\""));
    }
}
