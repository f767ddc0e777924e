//! Events out of messages.

use gristmill_ingest::dialect::message::{self, Message, PayloadKind};
use gristmill_ingest::dialect::{Context, Rejection};
use gristmill_model::Event;
use gristmill_proto::analytics::v1;
use gristmill_proto::analytics::v1::event::EventData;

use super::payload;

/// The event of a message, which stands at `index` in its request.
pub(super) fn of<'a>(
    event: &'a v1::Event,
    context: &Context<'a>,
    index: usize,
) -> Result<Event<'a>, Rejection> {
    let message = Message {
        id: &event.id,
        user: &event.user_id,
        session: &event.session_id,
        kind: event.event_type,
        event_type: &event.r#type,
        time: event.timestamp.as_ref().map(|time| (time.seconds, time.nanos)),
        source: &event.source,
        page_url: &event.page_url,
        payload: event.event_data.as_ref().map(payload),
        properties: Some(&event.properties),
        properties_json: &event.properties_json,
    };
    message::event(&message, context, index)
}

fn payload(data: &EventData) -> (PayloadKind, String) {
    match data {
        EventData::UserEvent(event) => (PayloadKind::User, payload::user(event)),
        EventData::TransactionEvent(event) => {
            (PayloadKind::Transaction, payload::transaction(event))
        }
        EventData::SystemEvent(event) => (PayloadKind::System, payload::system(event)),
        EventData::CustomEvent(event) => (PayloadKind::Custom, payload::custom(event)),
    }
}
