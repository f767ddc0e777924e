//! Reproducible random numbers: SplitMix64, one addition and a few shifts per number.

/// A stream of numbers that follows from its seed.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// A number from 0 to below `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The bias of at most end / 2^64 is far below what a load could show.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number from 0.0 to below 1.0.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in this share of cases.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A waiting time with this mean, as between independent events.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// A rank from 0 to below `end`, the k-th about as frequent as 1/k: Zipf's law.
    pub(crate) fn zipf(&mut self, end: u64) -> u64 {
        let rank = ((end + 1) as f64).powf(self.unit()) as u64;
        rank.saturating_sub(1).min(end.saturating_sub(1))
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

/// Scatters the bits of a number; different numbers stay different.
pub(crate) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_prefers_low_ranks_and_stays_in_range() {
        let mut random = Random::new(1);
        let mut counts = [0_u32; 100];
        for _ in 0..100_000 {
            counts[random.zipf(100) as usize] += 1;
        }
        assert!(counts[0] > 2 * counts[2] && counts[2] > 2 * counts[9], "{counts:?}");
        assert!(counts.iter().all(|count| *count > 0));
        assert_eq!(random.zipf(1), 0);
    }

    #[test]
    fn exponential_waits_have_their_mean() {
        let mut random = Random::new(2);
        let sum: f64 = (0..100_000).map(|_| random.exponential(40.0)).sum();
        assert!((39.0..41.0).contains(&(sum / 100_000.0)), "{sum}");
    }
}
