//! `GetSessions`.

use std::sync::Arc;

use gristmill_model::{ProjectId, SessionBucket, SessionGroup, SessionPage, SessionTotals};
use gristmill_proto::analytics::v1;

use super::selecting::{Selecting, granularity, number, text};
use super::well_known::{count, duration, duration_text, timestamp};
use crate::analytics::sessions::{Rates, Terms};
use crate::app::App;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// How many sessions there are, and what they are like.
pub(super) async fn ask(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetSessionsRequest,
) -> Result<v1::GetSessionsResponse, Problem> {
    let mut parameters = Parameters::given([
        ("gap", request.gap.map(duration_text)),
        ("limit", number(request.limit)),
        ("granularity", granularity(request.granularity)?),
        ("tz", text(request.tz)),
        ("group_by", text(request.group_by)),
    ]);
    let terms = Terms::take(&mut parameters)?;
    let selecting = Selecting::of(request.time_range, request.events, request.at_least);
    let selection = selecting.selection(&app, project).await?;
    let answer = app.services.query.sessions(terms.question(selection)).await?;
    Ok(v1::GetSessionsResponse {
        unique_users: count(answer.users),
        totals: Some(totals(&answer.totals)),
        median_duration: answer.median_duration.map(duration),
        p95_duration: answer.p95_duration.map(duration),
        entry_pages: answer.entry_pages.into_iter().map(page).collect(),
        exit_pages: answer.exit_pages.into_iter().map(page).collect(),
        series: answer.series.iter().map(bucket).collect(),
        groups: answer.groups.into_iter().map(group).collect(),
        other_groups: answer.other_groups.as_ref().map(totals),
    })
}

fn totals(totals: &SessionTotals) -> v1::SessionTotals {
    let rates = Rates::of(totals);
    v1::SessionTotals {
        sessions: count(totals.sessions),
        events: count(totals.events),
        page_views: count(totals.page_views),
        events_per_session: rates.events,
        pages_per_session: rates.pages,
        bounces: count(totals.bounces),
        bounce_rate: rates.bounces,
        avg_duration: totals.mean_duration().map(duration),
    }
}

fn page(page: SessionPage) -> v1::SessionPage {
    let SessionPage { page: page_url, sessions, users } = page;
    v1::SessionPage { page_url, sessions: count(sessions), unique_users: count(users) }
}

fn bucket(bucket: &SessionBucket) -> v1::SessionBucket {
    let timestamp = Some(timestamp(bucket.start));
    v1::SessionBucket { timestamp, totals: Some(totals(&bucket.totals)) }
}

fn group(group: SessionGroup) -> v1::SessionGroup {
    v1::SessionGroup { value: group.value, totals: Some(totals(&group.totals)) }
}
