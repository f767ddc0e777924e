//! `GetStickiness` and `GetLifecycle`.

use std::sync::Arc;

use gristmill_model::{LifecycleBucket, PeriodActivity, ProjectId};
use gristmill_proto::analytics::v1;

use super::selecting::{Selecting, granularity, text, word};
use super::well_known::{count, timestamp};
use crate::analytics::{lifecycle, stickiness};
use crate::app::App;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// On how many days of each period users were active.
pub(super) async fn stickiness(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetStickinessRequest,
) -> Result<v1::GetStickinessResponse, Problem> {
    let period = v1::StickinessPeriod::as_str_name;
    let mut parameters = Parameters::given([
        ("period", word("period", request.period, period, "STICKINESS_PERIOD_")?),
        ("tz", text(request.tz)),
    ]);
    let terms = stickiness::Terms::take(&mut parameters)?;
    let selecting = Selecting::of(request.time_range, request.events, request.at_least);
    let selection = selecting.selection(&app, project).await?;
    let answer = app.services.query.stickiness(terms.question(selection)).await?;
    Ok(v1::GetStickinessResponse { periods: answer.periods.iter().map(activity).collect() })
}

fn activity(period: &PeriodActivity) -> v1::PeriodActivity {
    v1::PeriodActivity {
        start: Some(timestamp(period.start)),
        active_users: count(period.active_users()),
        avg_daily_users: period.mean_daily_users(),
        stickiness: period.stickiness(),
        exactly: period.exactly.iter().copied().map(count).collect(),
        at_least: period.at_least().into_iter().map(count).collect(),
    }
}

/// How many users are new, returning, resurrecting and dormant.
pub(super) async fn lifecycle(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetLifecycleRequest,
) -> Result<v1::GetLifecycleResponse, Problem> {
    let mut parameters = Parameters::given([
        ("granularity", granularity(request.granularity)?),
        ("tz", text(request.tz)),
    ]);
    let terms = lifecycle::Terms::take(&mut parameters)?;
    let selecting = Selecting::of(request.time_range, request.events, request.at_least);
    let selection = selecting.selection(&app, project).await?;
    let answer = app.services.query.lifecycle(terms.question(selection)).await?;
    Ok(v1::GetLifecycleResponse { buckets: answer.buckets.iter().map(bucket).collect() })
}

fn bucket(bucket: &LifecycleBucket) -> v1::LifecycleBucket {
    v1::LifecycleBucket {
        start: Some(timestamp(bucket.start)),
        new: count(bucket.new),
        returning: count(bucket.returning),
        resurrecting: count(bucket.resurrecting),
        dormant: count(bucket.dormant),
    }
}
