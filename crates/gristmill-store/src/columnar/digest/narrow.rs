//! Numbers in as few bytes as the highest one needs.

/// Codes or counts; an absent code is one of them.
#[derive(Debug)]
pub(super) enum Narrow {
    One(Vec<u8>),
    Two(Vec<u16>),
    Four(Vec<u32>),
}

impl Default for Narrow {
    fn default() -> Self {
        Narrow::One(Vec::new())
    }
}

/// What a number is kept as: that of an absent code is 0.
fn up(number: u32) -> u32 {
    number.wrapping_add(1)
}

fn down(kept: impl Into<u32>) -> u32 {
    kept.into().wrapping_sub(1)
}

impl Narrow {
    /// These numbers.
    pub(super) fn of(numbers: impl Iterator<Item = u32> + Clone) -> Self {
        match numbers.clone().map(up).max().unwrap_or(0) {
            0..=0xff => Narrow::One(numbers.map(|number| up(number) as u8).collect()),
            0x100..=0xffff => Narrow::Two(numbers.map(|number| up(number) as u16).collect()),
            _ => Narrow::Four(numbers.map(up).collect()),
        }
    }

    /// Appends all of them.
    pub(super) fn append_all(&self, into: &mut Vec<u32>) {
        match self {
            Narrow::One(kept) => into.extend(kept.iter().map(|kept| down(*kept))),
            Narrow::Two(kept) => into.extend(kept.iter().map(|kept| down(*kept))),
            Narrow::Four(kept) => into.extend(kept.iter().map(|kept| down(*kept))),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Narrow::One(kept) => kept.len(),
            Narrow::Two(kept) => kept.len(),
            Narrow::Four(kept) => kept.len(),
        }
    }

    /// The memory they take, in bytes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Narrow::One(kept) => kept.capacity(),
            Narrow::Two(kept) => kept.capacity() * 2,
            Narrow::Four(kept) => kept.capacity() * 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ABSENT;

    proptest! {
        #[test]
        fn numbers_come_back(
            numbers in proptest::collection::vec(
                prop_oneof![0..300_u32, 65_500..65_600_u32, any::<u32>(), Just(ABSENT)], 0..20),
            few in proptest::collection::vec(prop_oneof![0..254_u32, Just(ABSENT)], 0..20),
        ) {
            for numbers in [numbers, few] {
                let narrow = Narrow::of(numbers.iter().copied());
                let mut back = Vec::new();
                narrow.append_all(&mut back);
                prop_assert_eq!(&back, &numbers);
                prop_assert_eq!(narrow.len(), numbers.len());
            }
        }
    }

    #[test]
    fn few_bytes_do_for_low_numbers() {
        assert!(matches!(Narrow::of([0, 254, ABSENT].into_iter()), Narrow::One(_)));
        assert!(matches!(Narrow::of([255].into_iter()), Narrow::Two(_)));
        assert!(matches!(Narrow::of([65_535].into_iter()), Narrow::Four(_)));
    }
}
