//! The members of a body that say what a funnel is.

use gristmill_model::{
    Attribution, FunnelBreakdown, FunnelExclusion, FunnelOrder, FunnelQuery, FunnelStep, Grouping,
    Selection, Timestamp, limits,
};

use super::super::object::{Member, Object};
use super::super::posted::{all_filters, duration, filter_terms, select};
use super::super::question::{choice, duration_term, grouping_term};
use crate::openapi::{Term, object};
use crate::problem::Problem;

/// The orders by name.
pub(super) const ORDERS: [(&str, FunnelOrder); 3] =
    [("ordered", FunnelOrder::Ordered), ("strict", FunnelOrder::Strict), ("any", FunnelOrder::Any)];

/// Which event's value counts, by name; which step is said beside it.
const ATTRIBUTIONS: [(&str, Attribution); 3] =
    [("first", Attribution::First), ("last", Attribution::Last), ("step", Attribution::Step(0))];

/// How many values a breakdown lists if nobody says.
const TOP: usize = 10;

/// What [`funnel`] takes.
pub(super) fn funnel_terms() -> Vec<Term> {
    let most = limits::FUNNEL_STEPS;
    let event_type = || Term::text("event_type", "the type of the events").required();
    let number = |name, about| Term::whole(name, about, 1..=most);
    let mut step = vec![event_type(), Term::text("name", "`event_type` if missing")];
    step.extend(filter_terms());
    let mut exclusion = vec![
        event_type(),
        number("from_step", "the step behind which it begins").by_default(1),
        number("to_step", "the step before which it ends; the last if missing"),
    ];
    exclusion.extend(filter_terms());
    let breakdown = [
        grouping_term("property", "what users are told apart by").required(),
        Term::choice("attribution", "whose event's value counts", &ATTRIBUTIONS)
            .by_default("first"),
        number("step", "the step of the attribution `step`"),
        Term::whole("top", "how many values are listed", 1..=limits::FUNNEL_GROUPS).by_default(TOP),
    ];
    let exclusions = 0..=limits::FUNNEL_EXCLUSIONS;
    let between = "events that a user must not make between steps";
    vec![
        Term::list("steps", "what users do", &object(step), 2..=most).required(),
        Term::choice("order", "which events make a way through the steps", &ORDERS)
            .by_default("ordered"),
        duration_term("window", "the longest time from the first step to the last"),
        duration_term("step_timeout", "the longest time between two steps"),
        Term::list("exclusions", between, &object(exclusion), exclusions),
        Term::new("breakdown", "users by value", object(breakdown)),
    ]
}

/// The funnel that a body says, about what is left of `selection`.
pub(super) fn funnel(
    body: &mut Object<'_>,
    mut selection: Selection,
) -> Result<FunnelQuery, Problem> {
    let steps = body.take_array("steps")?.ok_or_else(|| Problem::argument("`steps` is missing"))?;
    if !(2..=limits::FUNNEL_STEPS).contains(&steps.len()) {
        let (count, most) = (steps.len(), limits::FUNNEL_STEPS);
        return Err(Problem::argument(format!("a funnel has 2 to {most} `steps`, not {count}")));
    }
    let steps = steps.into_iter().map(step).collect::<Result<Vec<_>, Problem>>()?;
    select(body, &mut selection)?;
    let order = body.take_text("order")?;
    let (_, order) = choice("order", order.as_deref().unwrap_or("ordered"), &ORDERS)?;
    let window = duration(body, "window")?;
    let step_timeout = duration(body, "step_timeout")?;
    let exclusions = body.take_array("exclusions")?.unwrap_or_default();
    let exclusion = |member| exclusion(member, steps.len());
    let exclusions = exclusions.into_iter().map(exclusion).collect::<Result<_, Problem>>()?;
    let breakdown = body.take("breakdown")?.map(|member| breakdown(member, steps.len()));
    let breakdown = breakdown.transpose()?;
    // Without a window the steps may be any time apart.
    let window = window.unwrap_or_else(|| Timestamp::MAX.since(Timestamp::MIN));
    Ok(FunnelQuery { selection, steps, order, window, step_timeout, exclusions, breakdown })
}

fn step(step: Member<'_>) -> Result<FunnelStep, Problem> {
    let mut step = step.object()?;
    let event_type = event_type(&mut step)?;
    let name = step.take_text("name")?.unwrap_or_else(|| event_type.clone());
    let filters = all_filters(&mut step)?;
    step.finish()?;
    Ok(FunnelStep { name, event_type, filters })
}

fn exclusion(exclusion: Member<'_>, steps: usize) -> Result<FunnelExclusion, Problem> {
    let mut exclusion = exclusion.object()?;
    let event_type = event_type(&mut exclusion)?;
    let filters = all_filters(&mut exclusion)?;
    let from_step = exclusion.take_whole("from_step", 1..=steps)?.unwrap_or(1);
    let to_step = exclusion.take_whole("to_step", 1..=steps)?.unwrap_or(steps);
    exclusion.finish()?;
    Ok(FunnelExclusion { event_type, filters, from_step, to_step })
}

fn event_type(object: &mut Object<'_>) -> Result<String, Problem> {
    let missing = Problem::argument(format!("`{}` is missing", object.name_of("event_type")));
    object.take_text("event_type")?.ok_or(missing)
}

fn breakdown(breakdown: Member<'_>, steps: usize) -> Result<FunnelBreakdown, Problem> {
    let mut breakdown = breakdown.object()?;
    let property = breakdown.take_text("property")?.filter(|name| !name.is_empty());
    let property = property.ok_or_else(|| Problem::argument("`breakdown.property` is missing"))?;
    let attribution = breakdown.take_text("attribution")?;
    let attribution = attribution.as_deref().unwrap_or("first");
    let (_, attribution) = choice("breakdown.attribution", attribution, &ATTRIBUTIONS)?;
    let step = breakdown.take_whole("step", 1..=steps)?;
    let attribution = match (attribution, step) {
        (Attribution::Step(_), Some(step)) => Attribution::Step(step),
        (Attribution::Step(_), None) => {
            return Err(Problem::argument("`breakdown.step` is missing: say whose value counts"));
        }
        (_, Some(_)) => {
            return Err(Problem::argument(
                "`breakdown.step` needs `breakdown.attribution` to be \"step\"",
            ));
        }
        (attribution, None) => attribution,
    };
    let top = breakdown.take_whole("top", 1..=limits::FUNNEL_GROUPS)?.unwrap_or(TOP);
    breakdown.finish()?;
    Ok(FunnelBreakdown { by: Grouping::from_name(&property), attribution, top })
}
