//! On how many days of a period users come.

use crate::{Interval, Selection, Timestamp};

/// How many users were active on how many days, period by period.
///
/// A user is active on a day with a selected event of theirs.
#[derive(Clone, Debug)]
pub struct StickinessQuery {
    /// Which events.
    pub selection: Selection,
    /// How long a period is.
    pub period: StickinessPeriod,
    /// The IANA time zone in which days and periods are cut.
    pub zone: String,
}

/// How long a period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickinessPeriod {
    /// A week, from Monday.
    Week,
    /// A calendar month.
    Month,
}

impl StickinessPeriod {
    /// The period as the width of a bucket.
    pub fn interval(self) -> Interval {
        match self {
            StickinessPeriod::Week => Interval::Week,
            StickinessPeriod::Month => Interval::Month,
        }
    }
}

/// Answers a `StickinessQuery`: the periods that the range touches, in order, also those without
/// an active user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StickinessAnswer {
    /// The periods.
    pub periods: Vec<PeriodActivity>,
}

/// How many users were active on how many days of one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodActivity {
    /// The first moment of the period.
    pub start: Timestamp,
    /// How many users were active on exactly one day, on exactly two, and so on: as many numbers
    /// as days of the period lie in the range.
    pub exactly: Vec<u64>,
}

impl PeriodActivity {
    /// How many users were active on at least one day, on at least two, and so on.
    pub fn at_least(&self) -> Vec<u64> {
        let mut users = self.exactly.clone();
        for day in (1..users.len()).rev() {
            users[day - 1] += users[day];
        }
        users
    }

    /// How many users were active in the period.
    pub fn active_users(&self) -> u64 {
        self.exactly.iter().sum()
    }

    /// How many users were active on a day of the period, on average over its days that lie in
    /// the range.
    pub fn mean_daily_users(&self) -> f64 {
        let user_days = |(before, users): (usize, &u64)| (before as u64 + 1) * users;
        let user_days: u64 = self.exactly.iter().enumerate().map(user_days).sum();
        ratio(user_days as f64, self.exactly.len() as f64)
    }

    /// The mean of the daily active users as a share of the period's active users, DAU/WAU or
    /// DAU/MAU; 0 if there is none.
    pub fn stickiness(&self) -> f64 {
        ratio(self.mean_daily_users(), self.active_users() as f64)
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_from_the_days() {
        let period = PeriodActivity { start: Timestamp(0), exactly: vec![3, 0, 1, 0] };
        assert_eq!(period.at_least(), [4, 1, 1, 0]);
        assert_eq!(period.active_users(), 4);
        // Six days of users over four days.
        assert!((period.mean_daily_users() - 1.5).abs() < 1e-12);
        assert!((period.stickiness() - 0.375).abs() < 1e-12);
        let nobody = PeriodActivity { start: Timestamp(0), exactly: vec![0] };
        assert_eq!((nobody.active_users(), nobody.at_least()), (0, vec![0]));
        assert!(nobody.stickiness().abs() < 1e-12);
    }
}
