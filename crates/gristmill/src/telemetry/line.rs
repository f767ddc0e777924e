//! Lines of the log that belong to a request carry its names.

use std::fmt;

use gristmill_server::{RequestNames, current_request};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes lines as `line` does, and the names of the request at their end.
pub(super) struct Named<F> {
    pub(super) line: F,
    pub(super) names: Names,
}

/// How the names of a request are written.
#[derive(Clone, Copy)]
pub(super) enum Names {
    /// As the last members of a JSON object.
    Json,
    /// As `name=value`.
    Text,
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(names) = current_request() else {
            return self.line.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.line.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&self.names.after(&line, &names))
    }
}

impl Names {
    /// A line with names added to its end.
    fn after(self, line: &str, names: &RequestNames) -> String {
        let line = line.trim_end_matches('\n');
        let RequestNames { request_id, trace_id } = names;
        match self {
            Names::Json => {
                let Some(open) = line.strip_suffix('}') else { return format!("{line}\n") };
                let mut named = open.to_owned();
                for (name, value) in
                    [("request_id", Some(request_id)), ("trace_id", trace_id.as_ref())]
                {
                    if let Some(value) = value {
                        named +=
                            &format!(",\"{name}\":{}", serde_json::Value::from(value.as_str()));
                    }
                }
                named + "}\n"
            }
            Names::Text => {
                let trace = trace_id.as_ref().map(|trace| format!(" trace_id={trace}"));
                format!("{line} request_id={request_id}{}\n", trace.unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_the_end_of_a_line() {
        let names = RequestNames { request_id: "a\"b".to_owned(), trace_id: None };
        let json = Names::Json.after("{\"level\":\"WARN\"}\n", &names);
        assert_eq!(json, "{\"level\":\"WARN\",\"request_id\":\"a\\\"b\"}\n");
        let names = RequestNames { request_id: "a".to_owned(), trace_id: Some("0f".to_owned()) };
        let json = Names::Json.after("{\"level\":\"WARN\"}\n", &names);
        assert_eq!(json, "{\"level\":\"WARN\",\"request_id\":\"a\",\"trace_id\":\"0f\"}\n");
        assert_eq!(Names::Text.after("oh\n", &names), "oh request_id=a trace_id=0f\n");
    }
}
