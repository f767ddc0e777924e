//! What is asked, and how answers are read.

use serde_json::json;

use super::*;

#[test]
fn parameters_are_encoded() {
    let select = Selection::of("a b").matching(Filter::is("plan", "pro")).at_least("p0-7");
    let asked = Summary { select, top: Some(0) }.asked();
    let expected = "/v1/analytics/summary?event_type=a%20b&where=%7B%22field%22%3A%22plan%22%2C\
                    %22value%22%3A%22pro%22%7D&at_least=p0-7&top=0";
    assert_eq!(asked.target, expected);
    assert_eq!(User::of("a/b?").asked().target, "/v1/analytics/users/a%2Fb%3F");
}

#[test]
fn bodies_are_those_of_the_api() {
    let select = Selection { start: "2026-01-01T00:00:00Z".parse().ok(), ..Selection::all() };
    let steps = vec![FunnelStep::of("view"), FunnelStep::of("buy")];
    let funnel = Funnel { steps, window: Some("1h".to_owned()), select, ..Funnel::default() };
    let users = FunnelUsers { step: 2, funnel, ..FunnelUsers::default() };
    let expected = json!({"step": 2, "steps": [{"event_type": "view"}, {"event_type": "buy"}],
        "window": "1h", "start": "2026-01-01T00:00:00Z"});
    assert_eq!(users.asked(), Asked::post("/v1/analytics/funnel/users", &expected));
    let retention = Retention { start_event: Events::of("signup"), ..Retention::default() };
    let expected = json!({"start_event": {"event_type": ["signup"]}, "return_event": {}});
    assert_eq!(retention.asked().body, Some(expected));
    let filter = Filter::any([Filter::exists("a"), Filter::cohort("loyal").negated()]);
    let expected = json!({"or": [{"field": "a", "op": "exists"}, {"not": {"cohort": "loyal"}}]});
    assert_eq!(json!(filter), expected);
}

#[test]
fn answers_may_tell_more_and_less() {
    let answer = json!({"total_events": 3, "first_event": null, "surprise": {"x": 1}});
    let answer: SummaryAnswer = serde_json::from_value(answer).unwrap();
    assert_eq!((answer.total_events, answer.first_event), (3, None));
    let answer = json!({"series": [{"timestamp": "1970-01-01T00:00:01Z", "value": null}]});
    let answer: SeriesAnswer = serde_json::from_value(answer).unwrap();
    assert_eq!(answer.series[0].timestamp, gristmill_model::Timestamp(1_000_000));
    assert!(serde_json::from_value::<SeriesAnswer>(json!({"series": [{"timestamp": 3}]})).is_err());
}
