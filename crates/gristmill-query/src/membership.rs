//! Columns that say of each event whether its user belongs to a cohort.
//!
//! A store knows no cohorts. The walk asks it for the users of the events in the place of such a
//! column, and looks each user up once.

use std::sync::{Arc, OnceLock};

use gristmill_model::Grouping;
use gristmill_store::{Dictionaries, Dictionary, Events};

use crate::cohort::Members;
use crate::select::Plan;

/// A column of a plan that says who belongs to a cohort.
#[derive(Clone)]
pub(crate) struct MembershipColumn {
    pub(crate) column: usize,
    /// The id of the cohort.
    pub(crate) cohort: String,
    /// Found before the walk; clones share the place.
    pub(crate) members: Arc<OnceLock<Arc<Members>>>,
}

/// Such columns during a walk.
#[derive(Default)]
pub(crate) struct Memberships {
    columns: Vec<Membership>,
    /// What the codes of each column mean, and which it is.
    dictionaries: Vec<(usize, Dictionary)>,
}

struct Membership {
    members: Arc<Members>,
    /// For each code of a user, the code of what is said of that user.
    of_user: Vec<u32>,
    /// One for each of the events at hand.
    codes: Vec<u32>,
}

impl Memberships {
    /// Those of a plan, whose members are known.
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut memberships = Self::default();
        for MembershipColumn { column, members, .. } in &plan.memberships {
            let members = members.get().cloned().unwrap_or_default();
            let (of_user, codes) = (Vec::new(), Vec::new());
            memberships.columns.push(Membership { members, of_user, codes });
            memberships.dictionaries.push((*column, Dictionary::default()));
        }
        memberships
    }

    /// The events with these columns in the place of their users.
    pub(crate) fn tell<'a>(&'a mut self, events: &Events<'a>) -> Events<'a> {
        let mut told = events.clone();
        let Self { columns, dictionaries } = self;
        for (membership, (column, meanings)) in columns.iter_mut().zip(dictionaries.iter_mut()) {
            let users = events.dictionaries.column(*column);
            membership.tell(events.columns[*column], users, meanings);
        }
        for (membership, (column, _)) in columns.iter().zip(dictionaries.iter()) {
            told.columns[*column] = &membership.codes;
        }
        told.dictionaries = events.dictionaries.with(dictionaries);
        told
    }

    /// The dictionaries of all columns, given those of the store.
    pub(crate) fn dictionaries<'a>(&'a self, of_store: &'a [Dictionary]) -> Dictionaries<'a> {
        Dictionaries::of(of_store).with(&self.dictionaries)
    }
}

impl Membership {
    fn tell(&mut self, users: &[u32], names: &Dictionary, meanings: &mut Dictionary) {
        for code in self.of_user.len()..names.len() {
            let belongs = names.text(code as u32).is_some_and(|user| self.members.contains(user));
            let meaning = if belongs { Grouping::IN } else { Grouping::OUT };
            self.of_user.push(meanings.code(meaning));
        }
        self.codes.clear();
        self.codes.extend(users.iter().map(|user| self.of_user[*user as usize]));
    }
}
