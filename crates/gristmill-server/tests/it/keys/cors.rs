//! Pages of other origins.

use gristmill_server::ServerConfig;
use http::HeaderValue;

use super::Keyed;
use crate::support::{Answer, with_admin_key};

const PAGE: &str = "https://app.example";

fn with_page() -> Keyed {
    let cors_origins = vec![HeaderValue::from_static(PAGE)];
    Keyed::of(ServerConfig { cors_origins, ..with_admin_key() })
}

fn given(answer: &Answer) -> Vec<String> {
    let names = answer.headers.keys().map(|name| name.as_str().to_owned());
    names.filter(|name| name.starts_with("access-control")).collect()
}

#[tokio::test]
async fn a_page_of_the_list_may_ask_and_read() {
    let keyed = with_page();
    let preflight = [
        ("origin", PAGE),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-api-key,content-type"),
    ];
    for path in ["/v1/events", "/v1/analytics/funnel", "/v1/cohorts/x", "/metrics", "/health"] {
        let answer = keyed.send("OPTIONS", path, &preflight, "").await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        assert!(answer.header("vary").contains("origin"));
        for name in [
            "content-type",
            "x-api-key",
            "authorization",
            "idempotency-key",
            "x-request-id",
            "x-grpc-web",
            "grpc-timeout",
            "x-user-agent",
        ] {
            let allowed = answer.header("access-control-allow-headers");
            assert!(allowed.split(',').any(|allowed| allowed == name), "{name} in {allowed}");
        }
        assert!(answer.header("access-control-allow-methods").contains("DELETE"));
        assert_eq!(answer.header("access-control-allow-credentials"), "");
    }
    // The refusal, too, so that the page knows why.
    let answer = keyed.send("GET", "/v1/analytics/summary", &[("origin", PAGE)], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (401, PAGE));
    assert!(answer.header("access-control-expose-headers").contains("retry-after"));
}

#[tokio::test]
async fn other_pages_are_told_nothing() {
    let keyed = with_page();
    for origin in ["https://evil.example", "null", "https://app.example.evil", "http://app.example"]
    {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        for path in ["/v1/events", "/events", "/v1/analytics/summary"] {
            for method in ["OPTIONS", "GET", "POST"] {
                let answer = keyed.send(method, path, &headers, "{}").await;
                assert_eq!(given(&answer), [""; 0], "{method} {path} {origin}");
            }
        }
    }
    let keyed = Keyed::of(ServerConfig { cors_origins: Vec::new(), ..with_admin_key() });
    let answer = keyed.send("GET", "/health", &[("origin", PAGE)], "").await;
    assert_eq!(given(&answer), [""; 0]);
}
