//! `GetUserAnalytics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_model::{ProjectId, UserEvent, UserProfile, UserSession};
use gristmill_proto::analytics::v1;
use gristmill_proto::analytics::v1::event::EventData;
use serde_json::value::RawValue;

use super::payload::payload;
use super::selecting::{Selecting, number, text};
use super::well_known::{count, duration, small, timestamp};
use crate::analytics::users::{Terms, UserPage};
use crate::app::App;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// One user's profile and a page of the user's events.
pub(super) async fn ask(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetUserAnalyticsRequest,
) -> Result<v1::GetUserAnalyticsResponse, Problem> {
    let missing = || Problem::argument("`user_id` is missing");
    let user = text(request.user_id).ok_or_else(missing)?;
    let mut parameters = Parameters::given([
        ("limit", number(request.limit)),
        ("include_events", Some(request.include_events.to_string())),
        ("include_sessions", Some(request.include_sessions.to_string())),
        ("tz", text(request.tz)),
        ("order", request.oldest_first.then(|| "asc".to_owned())),
        ("page_token", text(request.page_token)),
    ]);
    let terms = Terms::take(&mut parameters)?;
    let selecting = Selecting {
        range: request.time_range,
        event_types: request.event_types,
        filters: request.filters,
        filter: ("where", request.r#where),
        at_least: request.at_least,
    };
    let selection = selecting.selection(&app, project).await?;
    let with_sessions = terms.with_sessions;
    let UserPage { answer, next, previous } = terms.ask(&app, selection, user.clone()).await?;
    let events = answer.events.into_iter().map(|found| event(&user, found)).collect();
    let profile = answer.profile.as_ref();
    let sessions = profile.filter(|_| with_sessions).map_or(&[][..], |profile| &profile.sessions);
    Ok(v1::GetUserAnalyticsResponse {
        sessions: sessions.iter().map(session).collect(),
        metrics: Some(profile.map(metrics).unwrap_or_default()),
        user_profile: Some(v1::UserProfile {
            first_seen: profile.map(|profile| timestamp(profile.first_seen)),
            last_seen: profile.map(|profile| timestamp(profile.last_seen)),
            total_sessions: profile.map_or(0, |profile| small(profile.total_sessions)),
            total_events: profile.map_or(0, |profile| small(profile.total_events)),
            attributes: BTreeMap::new(),
            user_id: user,
        }),
        events,
        next_page_token: next.unwrap_or_default(),
        previous_page_token: previous.unwrap_or_default(),
    })
}

fn metrics(profile: &UserProfile) -> v1::UserMetrics {
    let page = |page: &gristmill_model::UserPage| v1::UserPage {
        page_url: page.page_url.clone(),
        events: count(page.events),
    };
    v1::UserMetrics {
        engagement_score: profile.engagement(),
        days_active: small(profile.active_days),
        avg_session_duration: profile.mean_session_duration.unwrap_or(0) as f64 / 1e6,
        total_transactions: small(profile.transactions),
        total_revenue: profile.revenue,
        top_pages: profile.top_pages.iter().map(page).collect(),
    }
}

fn session(session: &UserSession) -> v1::UserSession {
    v1::UserSession {
        session_id: session.id.clone(),
        start_time: Some(timestamp(session.start)),
        end_time: Some(timestamp(session.end)),
        event_count: small(session.events),
        duration: Some(duration(session.end.since(session.start))),
        properties: BTreeMap::new(),
    }
}

/// An event that could be sent again as it is.
fn event(user: &str, event: UserEvent) -> v1::Event {
    let Properties { texts, data, rest } = properties(&event.properties);
    let (kind, data) = data.unzip();
    v1::Event {
        id: event.id,
        user_id: user.to_owned(),
        session_id: event.session.unwrap_or_default(),
        event_type: kind.unwrap_or_default().into(),
        timestamp: Some(timestamp(event.time)),
        source: event.source,
        properties: texts,
        event_data: data,
        r#type: event.event_type,
        page_url: event.page_url,
        properties_json: rest,
    }
}

/// An event's properties, as a message has them.
struct Properties {
    /// Those that are texts.
    texts: BTreeMap<String, String>,
    /// The one that is the payload of a typed event.
    data: Option<(v1::EventType, EventData)>,
    /// The JSON text of all others; empty, if there are none.
    rest: String,
}

/// Properties were checked when they came in; should they be damaged, the rest of the event still
/// counts.
fn properties(text: &str) -> Properties {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    let (mut texts, mut data, mut rest) = (BTreeMap::new(), None, BTreeMap::new());
    for (name, value) in members {
        if let Ok(text) = serde_json::from_str(value.get()) {
            texts.insert(name, text);
            continue;
        }
        // A message has room for one.
        match payload(&name, value.get()).filter(|_| data.is_none()) {
            Some(found) => data = Some(found),
            None => {
                rest.insert(name, value);
            }
        }
    }
    let rest = if rest.is_empty() { None } else { serde_json::to_string(&rest).ok() };
    Properties { texts, data, rest: rest.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_payloads_and_other_properties_stand_apart() {
        let all = r#"{"b": "x", "a": 1.50, "c": {"d": "e"}, "f": null, "user_event": {"action": "y"},
            "custom_event": {"name": "z"}}"#;
        let Properties { texts, data, rest } = properties(all);
        assert_eq!(texts.into_iter().collect::<Vec<_>>(), [("b".into(), "x".into())]);
        let (kind, EventData::CustomEvent(event)) = data.unwrap() else { panic!("no payload") };
        assert_eq!((kind, event.name.as_str()), (v1::EventType::Custom, "z"));
        assert_eq!(rest, r#"{"a":1.50,"c":{"d": "e"},"f":null,"user_event":{"action": "y"}}"#);
        assert!(properties("{}").rest.is_empty());
        assert!(properties("damaged").rest.is_empty());
    }
}
