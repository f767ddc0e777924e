//! The largest of many counted things.

use std::cmp::Reverse;

/// Counted things in two parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ranking<T> {
    /// The largest, in order.
    pub(crate) first: Vec<T>,
    /// All others, in no order.
    pub(crate) others: Vec<T>,
}

/// Parts counted things into the `limit` largest and the others. Ties go to the smaller key.
pub(crate) fn largest<K: Ord, V>(
    counted: impl IntoIterator<Item = (K, V)>,
    limit: usize,
    size: impl Fn(&V) -> u64,
) -> Ranking<(K, V)> {
    let mut first: Vec<(K, V)> = counted.into_iter().collect();
    let order =
        |a: &(K, V), b: &(K, V)| (Reverse(size(&a.1)), &a.0).cmp(&(Reverse(size(&b.1)), &b.0));
    let mut others = Vec::new();
    if first.len() > limit {
        first.select_nth_unstable_by(limit, order);
        others = first.split_off(limit);
    }
    first.sort_unstable_by(order);
    Ranking { first, others }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_ties_go_by_key() {
        let counted = [("c", 2), ("a", 1), ("d", 3), ("b", 2)];
        let Ranking { first, others } = largest(counted, 2, |count| *count);
        assert_eq!(first, [("d", 3), ("b", 2)]);
        assert_eq!(others.into_iter().map(|(key, _)| key).min(), Some("a"));
        assert_eq!(largest(counted, 4, |count| *count).others, []);
        assert_eq!(largest(counted, 0, |count| *count).first, []);
    }
}
