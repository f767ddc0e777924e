//! Sums of floating-point numbers that do not depend on the order of the numbers.
//!
//! What an addition loses is a floating-point number as well, so it is kept and added up too
//! (Shewchuk, "Adaptive Precision Floating-Point Arithmetic"). The sum is exact, and rounded once
//! when it is asked for.

/// The exact sum of numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    total: f64,
    /// What the total lacks, as parts of ascending magnitude that share no digits. Most sums lack
    /// nothing. There are never more parts than fit between the least and the greatest number.
    rest: Vec<f64>,
}

impl Sum {
    /// Adds a number.
    pub(crate) fn add(&mut self, number: f64) {
        let (total, lost) = added(self.total, number);
        self.total = total;
        if lost != 0.0 {
            self.keep(lost);
        }
    }

    /// Adds all that another sum is of.
    pub(crate) fn join(&mut self, other: &Sum) {
        self.add(other.total);
        other.rest.iter().for_each(|part| self.add(*part));
    }

    /// The floating-point number that is nearest to the sum; `None` if the sum left their range.
    pub(crate) fn value(&self) -> Option<f64> {
        let mut parts = self.rest.clone();
        add_part(&mut parts, self.total);
        Some(rounded(&parts)).filter(|value| value.is_finite())
    }

    #[cold]
    fn keep(&mut self, lost: f64) {
        if self.total.is_finite() {
            add_part(&mut self.rest, lost);
        } else {
            self.rest.clear();
        }
    }
}

/// The rounded sum of two numbers, and what it lost.
fn added(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

fn add_part(parts: &mut Vec<f64>, mut number: f64) {
    let mut kept = 0;
    for index in 0..parts.len() {
        let (sum, lost) = added(number, parts[index]);
        if lost != 0.0 {
            parts[kept] = lost;
            kept += 1;
        }
        number = sum;
    }
    parts.truncate(kept);
    parts.push(number);
}

/// The sum of parts as they are in a sum, rounded to nearest, ties to even.
fn rounded(parts: &[f64]) -> f64 {
    let mut parts = parts.iter().rev();
    let (mut sum, mut lost) = (0.0, 0.0);
    for part in parts.by_ref() {
        (sum, lost) = added(sum, *part);
        if lost != 0.0 {
            break;
        }
    }
    // Half way between two numbers the parts not looked at yet tip the scale.
    let tips = parts.next().is_some_and(|next| *next != 0.0 && (*next < 0.0) == (lost < 0.0));
    let (beyond, by) = (sum + 2.0 * lost, 2.0 * lost);
    if tips && beyond - sum == by { beyond } else { sum }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(numbers: &[f64]) -> Sum {
        let mut sum = Sum::default();
        numbers.iter().for_each(|number| sum.add(*number));
        sum
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        assert_eq!(sum_of(&[]).value(), Some(0.0));
        assert_eq!(sum_of(&[0.1; 10]).value(), Some(1.0));
        assert_eq!(sum_of(&[1e100, 1.0, -1e100]).value(), Some(1.0));
        assert_eq!(sum_of(&[1e16, 1.0, 1e-16]).value(), Some(1e16 + 2.0));
        assert_eq!(sum_of(&[1e16, 1.0]).value(), Some(1e16));
        assert_eq!(sum_of(&[f64::MAX, f64::MAX, -f64::MAX, 1.0]).value(), None);
    }

    proptest! {
        #[test]
        fn sums_are_those_of_whole_numbers(
            // Multiples of 2^-60 whose sum is below 2^67.
            numbers in proptest::collection::vec(
                (-(1_i64 << 53)..1 << 53, 0..60_u32).prop_map(|(n, left)| n as f64 * 0.5_f64.powi(left as i32)),
                0..60,
            ),
            cut in 0..60_usize,
        ) {
            let scale = 2.0_f64.powi(60);
            let exact: i128 = numbers.iter().map(|number| (number * scale) as i128).sum();
            let expected = Some(exact as f64 / scale);
            prop_assert_eq!(sum_of(&numbers).value(), expected);
            let (left, right) = numbers.split_at(cut.min(numbers.len()));
            let mut joined = sum_of(right);
            joined.join(&sum_of(left));
            prop_assert_eq!(joined.value(), expected);
        }
    }
}
