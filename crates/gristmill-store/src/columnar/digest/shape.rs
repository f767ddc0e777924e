//! Which questions can be answered from the same digest.

use gristmill_model::{Field, TimeRange};

use crate::hours::cuts_hours;
use crate::{Precision, Scan, Ties, Wanted};

/// What a walk gives, whatever its range.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::columnar) struct Shape {
    pub(super) walked: Walked,
    project: String,
    pub(super) precision: Precision,
    fields: Vec<Field>,
    numbers: Vec<Field>,
    pub(super) wanted: Wanted,
}

/// What is walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::columnar) enum Walked {
    Users,
    Events,
}

impl Shape {
    /// The shape of a walk, given whether its range holds all that the parts have; `None` if a
    /// digest would not do, or hold nearly as much as the columns.
    pub(in crate::columnar) fn of(walked: Walked, scan: &Scan, range: Covers) -> Option<Self> {
        let Scan { precision, fields, numbers, wanted, .. } = scan;
        let decides = match wanted {
            Wanted::WithText(column, _) => fields.get(*column),
            Wanted::Ends => fields.iter().chain(numbers).next(),
            Wanted::All | Wanted::WithNumber => None,
        };
        let cannot_decide = match wanted {
            Wanted::Ends => decides.is_some(),
            _ => decides == Some(&Field::SessionWithinUser),
        };
        let is_left_out = |field: &Field| match field {
            // Nearly every user or event has another one.
            Field::UserId | Field::EventId | Field::Properties => true,
            // Codes of sessions mean nothing without their users.
            Field::SessionWithinUser => walked == Walked::Events,
            _ => false,
        };
        let mut columns = fields.iter().chain(numbers);
        if scan.user.is_some() || cannot_decide || columns.any(is_left_out) {
            return None;
        }
        if *wanted == Wanted::Ends && range != Covers::All {
            return None;
        }
        let precision = match (walked, *precision) {
            (Walked::Users, Precision::Times) => {
                let are_few = matches!(wanted, Wanted::WithText(..));
                (are_few && scan.ties == Ties::InAnyOrder).then_some(Precision::Times)?
            }
            (Walked::Events, Precision::Times) => {
                let are_few = matches!(wanted, Wanted::WithNumber | Wanted::Ends);
                are_few.then_some(Precision::Times)?
            }
            (Walked::Users, Precision::Untold) if range == Covers::All => Precision::Untold,
            (_, Precision::Hours | Precision::Untold) => {
                (range == Covers::All || !cuts_hours(&scan.range)).then_some(Precision::Hours)?
            }
        };
        Some(Self {
            walked,
            project: scan.project.as_str().to_owned(),
            precision,
            fields: fields.clone(),
            numbers: numbers.clone(),
            wanted: wanted.clone(),
        })
    }

    /// The walk that finds what a digest is made of. Sessions are told by their ids.
    pub(in crate::columnar) fn scan(&self, scan: &Scan) -> Scan {
        let by_id = |field: &Field| match field {
            Field::SessionWithinUser => Field::SessionId,
            field => field.clone(),
        };
        Scan {
            range: TimeRange::ALL,
            precision: self.precision,
            fields: self.fields.iter().map(by_id).collect(),
            wanted: match &self.wanted {
                // The walk is to tell how many rows there are.
                Wanted::WithNumber => Wanted::All,
                wanted => wanted.clone(),
            },
            ..scan.clone()
        }
    }

    /// Whether a column holds sessions of a user.
    pub(super) fn is_of_sessions(&self, column: usize) -> bool {
        self.fields[column] == Field::SessionWithinUser
    }

    pub(super) fn columns(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn numbers(&self) -> usize {
        self.numbers.len()
    }
}

/// How much of some rows is in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::columnar) enum Covers {
    All,
    Some,
}
