//! Events of one moment, taken together.

use std::ops::ControlFlow;

/// What is matched at one moment.
pub(super) struct Moment {
    pub(super) time: i64,
    /// The bits that any event of the moment has.
    pub(super) matched: u32,
    /// For each of these bits the first row that has it.
    pub(super) rows: [u32; u32::BITS as usize],
}

/// Calls `each` with every moment at which one of the watched bits is matched, in order, until it
/// says that it has seen enough.
pub(super) fn each_moment(
    times: &[i64],
    sets: &[u32],
    watched: u32,
    mut each: impl FnMut(&Moment) -> ControlFlow<()>,
) {
    let mut moment = Moment { time: i64::MIN, matched: 0, rows: [0; u32::BITS as usize] };
    for (row, (time, set)) in times.iter().zip(sets).enumerate() {
        let mut new = set & watched;
        if new == 0 {
            continue;
        }
        if *time != moment.time {
            if moment.matched != 0 && each(&moment).is_break() {
                return;
            }
            (moment.time, moment.matched) = (*time, 0);
        }
        new &= !moment.matched;
        moment.matched |= new;
        for bit in bits(new) {
            moment.rows[bit] = row as u32;
        }
    }
    if moment.matched != 0 {
        // Nothing comes after it.
        let _ = each(&moment);
    }
}

/// The places of the bits that are set, from the lowest.
pub(super) fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(lowest)
    })
}
