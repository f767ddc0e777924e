//! What happens in one session: views, now and then a search, and the way from a product through
//! cart and checkout to a purchase, which most people leave early.

use super::random::Random;

/// One step of a session.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Seconds after the step before.
    pub(super) after: f64,
    pub(super) event_type: &'static str,
    pub(super) page: Page,
}

/// Where a step happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Home,
    Search(u64),
    Product(u64),
    Cart,
    Checkout,
    Thanks,
}

/// How many products the shop has.
const PRODUCTS: u64 = 5_000;
/// The mean time between two steps, in seconds.
const PAUSE: f64 = 35.0;
/// Sessions end with a gap of half an hour, so no pause within one is as long.
const LONGEST_PAUSE: f64 = 25.0 * 60.0;
/// The shares of people who go on: from a product to the cart, to the checkout, to the purchase.
const TO_CART: f64 = 0.12;
const TO_CHECKOUT: f64 = 0.55;
const TO_PURCHASE: f64 = 0.7;

/// About how many steps a session has.
pub(super) const MEAN_STEPS: f64 = 5.4;

/// Writes a session.
pub(super) fn session(random: &mut Random, steps: &mut Vec<Step>) {
    steps.clear();
    let mut add = |random: &mut Random, event_type, page| {
        let after = if steps.is_empty() { 0.0 } else { random.exponential(PAUSE) };
        steps.push(Step { after: after.min(LONGEST_PAUSE), event_type, page });
    };
    if random.chance(0.6) {
        add(random, "page_view", Page::Home);
    }
    loop {
        if random.chance(0.3) {
            let query = random.zipf(PRODUCTS);
            add(random, "search", Page::Search(query));
        }
        let product = random.zipf(PRODUCTS);
        add(random, "page_view", Page::Product(product));
        if random.chance(TO_CART) {
            add(random, "add_to_cart", Page::Product(product));
            if random.chance(TO_CHECKOUT) {
                add(random, "page_view", Page::Cart);
                add(random, "checkout", Page::Checkout);
                if random.chance(TO_PURCHASE) {
                    add(random, "purchase", Page::Thanks);
                }
                return;
            }
        }
        if random.chance(0.3) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_have_their_mean_length_and_funnels_narrow() {
        let mut random = Random::new(7);
        let (mut steps, mut total) = (Vec::new(), 0);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..20_000 {
            session(&mut random, &mut steps);
            assert!(steps[0].after == 0.0 && steps.iter().all(|step| step.after < 1_800.0));
            total += steps.len();
            for step in &steps {
                *counts.entry(step.event_type).or_insert(0) += 1;
            }
        }
        let mean = f64::from(total as u32) / 20_000.0;
        assert!((mean - MEAN_STEPS).abs() < 0.3, "{mean}");
        assert!(counts["page_view"] > counts["add_to_cart"], "{counts:?}");
        assert!(counts["add_to_cart"] > counts["checkout"], "{counts:?}");
        assert!(counts["checkout"] > counts["purchase"] && counts["purchase"] > 0, "{counts:?}");
    }
}
