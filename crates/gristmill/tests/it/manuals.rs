//! The commands of the four systems' manuals, to the letter.

pub(crate) const CLICK: &str = r#"curl -X POST http://localhost:8080/ingest \
  -H "Content-Type: application/json" \
  -d '{
    "event_id": "test_123",
    "user_id": "user_1",
    "event_type": "click",
    "page_url": "https://example.com",
    "time_stamp": "2025-11-05T20:00:00Z"
  }'"#;

pub(crate) const CLICK_COUNT: &str = r#"curl -X GET http://localhost:8081/analytics/events \
  -H "Content-Type: application/json" \
  -d '{"user_id": "user_1", "page_url": "https://example.com"}'"#;

pub(crate) const WRAPPED_EVENT: &str = r#"curl -X POST http://localhost:8080/v1/events \
  -H "x-api-key: your-api-key" \
  -H "Content-Type: application/json" \
  -d '{
    "event": {
      "id": "evt-123",
      "user_id": "user-456",
      "event_type": "EVENT_TYPE_USER",
      "timestamp": "2024-01-01T12:00:00Z",
      "source": "web-app"
    }
  }'"#;

pub(crate) const SUMMARY: &str = r#"curl -X GET "http://localhost:8080/v1/analytics/summary" \
  -H "x-api-key: your-api-key""#;

pub(crate) const PLATFORM_EVENT: &str = r#"curl -X POST http://localhost:8081/events \
  -H "Content-Type: application/json" \
  -d '{
    "id": "event_123",
    "user_id": "user_456", 
    "event_type": "page_view",
    "properties": {
      "page": "/dashboard",
      "duration": "45"
    },
    "timestamp": 1640995200,
    "source": "web-app"
  }'"#;

pub(crate) const PLATFORM_SUMMARY: &str = "curl http://localhost:8083/analytics/summary | jq";

pub(crate) const ACTIVITY: &str = r#"curl -X POST http://localhost:8080/activity \
  -H "Content-Type: application/json" \
  -d '{
    "user_id": "12345",
    "activity_type": "page_view",
    "timestamp": "2024-07-01T12:34:56Z",
    "metadata": {
      "page_url": "https://example.com/home",
      "referrer": "https://google.com"
    }
  }'"#;

pub(crate) const HEALTH: &str = "curl http://localhost:8080/health";

pub(crate) const SESSION_EVENT: &str = r#"curl -X POST http://localhost:8081/events \
  -H 'Content-Type: application/json' \
  -d '{"sessionId":"test-1","eventType":"page_view","payload":"{\"path\":\"/home\"}"}'"#;

pub(crate) const METRICS_STREAM: &str = "curl -N http://localhost:8082/metrics/stream";
