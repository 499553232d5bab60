use super::*;
use crate::model::{Client, CostStatus};
use proptest::prelude::*;

const SECOND_US: u64 = 1_000_000;
/// A day, and a moment of it.
const DAY: i64 = 20_000;
const NOON: Timestamp = Timestamp(DAY * DAY_US + DAY_US / 2);

fn key(name: &str) -> Key {
    Key {
        name: name.into(),
        sha256: String::new(),
        upstream_key: None,
        defaults: [].into(),
        upstreams: None,
        max_parallel_requests: None,
        requests_per_minute: None,
        budget_per_day: None,
    }
}

/// Picodollars, as many as are whole nano-dollars.
fn budget(pico: u64) -> Dollars {
    Dollars(pico / 1000)
}

#[test]
fn a_key_without_limits_has_no_limiter() {
    let limits = KeyLimits::default();
    assert!(limits.of(&key("a")).is_none());
    let busy = limits.of(&Key { max_parallel_requests: Some(1), ..key("a") }).unwrap();
    let first = busy.admit(NOON).unwrap();
    assert!(first.hold.is_none());
    let refused = busy.admit(NOON).unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.code), (429, "calltap_rate_limited"));
    drop(first);
    busy.admit(NOON).unwrap();
}

#[test]
fn what_runs_is_counted_over_a_reload() {
    let limits = KeyLimits::default();
    let two = Key { max_parallel_requests: Some(2), ..key("a") };
    let before = limits.of(&two).unwrap();
    let slots = [before.admit(NOON).unwrap(), before.admit(NOON).unwrap()];
    let after = limits.of(&two).unwrap();
    after.admit(NOON).unwrap_err();
    drop(slots);
    after.admit(NOON).unwrap();
    // Another key is another's business.
    let other = limits.of(&Key { name: "b".into(), ..two }).unwrap();
    let _held = [other.admit(NOON).unwrap(), other.admit(NOON).unwrap()];
    after.admit(NOON).unwrap();
}

#[test]
fn never_more_at_once_whoever_races() {
    let limits = KeyLimits::default();
    let limiter = limits.of(&Key { max_parallel_requests: Some(7), ..key("a") }).unwrap();
    let (running, most) = (Mutex::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let Ok(admitted) = limiter.admit(NOON) else { continue };
                    *lock(&running) += 1;
                    let now = *lock(&running);
                    let mut most = lock(&most);
                    *most = now.max(*most);
                    drop(most);
                    std::thread::yield_now();
                    *lock(&running) -= 1;
                    drop(admitted);
                }
            });
        }
    });
    let most = *lock(&most);
    assert!((1..=7).contains(&most), "{most}");
    assert_eq!(lock(&limiter.account).running, 0);
}

#[test]
fn a_lower_rate_counts_what_was() {
    let mut window = Window::default();
    for at in 0..10 {
        window.has_room(at * SECOND_US, 10).unwrap();
        window.add(at * SECOND_US);
    }
    // Seven have to leave, the last of which began at 6 s.
    assert_eq!(window.has_room(10 * SECOND_US, 4), Err(56 * SECOND_US));
    assert_eq!(window.has_room(66 * SECOND_US - 1, 4), Err(1));
    assert_eq!(window.has_room(66 * SECOND_US, 4), Ok(()));
}

proptest! {
    /// No 60 s hold more than the limit, and no call is refused that would fit.
    #[test]
    fn no_minute_holds_more(
        steps in prop::collection::vec(0..40 * SECOND_US, 1..300),
        dense in any::<bool>(),
        max in 1_u32..12,
    ) {
        let (mut window, mut now, mut begun) = (Window::default(), 0, Vec::<u64>::new());
        for step in steps {
            now += if dense { step / 10 } else { step };
            let inside = |at: u64| begun.iter().filter(|b| **b + MINUTE_US > at).count();
            let fits = inside(now) < max as usize;
            match window.has_room(now, max) {
                Ok(()) => {
                    prop_assert!(fits);
                    window.add(now);
                    begun.push(now);
                }
                Err(wait) => {
                    prop_assert!(!fits && wait > 0 && wait <= MINUTE_US);
                    // It fits then, and not a moment earlier.
                    prop_assert!(inside(now + wait) < max as usize);
                    prop_assert!(inside(now + wait - 1) >= max as usize);
                }
            }
            prop_assert!(window.begun_us.len() <= max as usize);
        }
        for at in &begun {
            let minute = begun.iter().filter(|b| (*at..at + MINUTE_US).contains(*b)).count();
            prop_assert!(minute <= max as usize);
        }
    }

    /// Calls that cost alike pass the budget by less than one of them, however they overlap.
    #[test]
    fn a_budget_holds_within_one_call(
        cost in 1..=UNKNOWN_PICO,
        calls in 1_i128..60,
        known in any::<bool>(),
        events in prop::collection::vec(any::<bool>(), 1..400),
    ) {
        let limit = calls * cost - cost / 3;
        let mut purse = Purse::default();
        if known {
            purse.charge(DAY, cost);
        }
        let mut running = Vec::new();
        for begins in events {
            if begins {
                match purse.reserve(DAY, limit) {
                    Ok(reserved) => running.push(reserved),
                    Err(Over::Budget) => prop_assert!(purse.spent >= limit),
                    Err(_) => prop_assert!(purse.spent + purse.reserved >= limit),
                }
            } else if let Some(reserved) = running.pop() {
                purse.settle(DAY, reserved, Some(cost));
            }
        }
        while let Some(reserved) = running.pop() {
            purse.settle(DAY, reserved, Some(cost));
        }
        prop_assert_eq!(purse.reserved, 0);
        prop_assert!(purse.spent < limit + cost);
    }

    /// What is spent is the sum of what calls cost, and nothing stays set aside.
    #[test]
    fn a_purse_adds_up(calls in prop::collection::vec((0_i128..10_000, 0..3_u8), 0..100)) {
        let mut purse = Purse { mean: 700, ..Purse::default() };
        let mut sum = 0;
        for (cost, how) in calls {
            if how == 0 {
                purse.charge(DAY, cost);
                sum += cost;
                continue;
            }
            let reserved = purse.reserve(DAY, i128::MAX).unwrap();
            let known = (how == 1).then_some(cost);
            sum += known.unwrap_or(reserved);
            purse.settle(DAY, reserved, known);
        }
        prop_assert_eq!((purse.spent, purse.reserved), (sum, 0));
    }
}

#[test]
fn a_day_begins_anew() {
    let mut purse = Purse::default();
    purse.charge(DAY, 900);
    let yesterdays = purse.reserve(DAY, 1000).unwrap();
    assert_eq!(purse.reserve(DAY, 1000), Err(Over::Reserved));
    // The next day; a call of the day before is no part of it, and does not turn it back.
    let reserved = purse.reserve(DAY + 1, 1000).unwrap();
    purse.settle(DAY, yesterdays, Some(900));
    purse.charge(DAY, 5);
    assert_eq!((purse.day, purse.spent, purse.reserved), (DAY + 1, 0, reserved));
    purse.reserve(DAY, 10_000).unwrap();
    assert_eq!(purse.day, DAY + 1);
    // A clock that was years ahead is believed again once it is right.
    purse.charge(DAY + 4000, 1);
    purse.reserve(DAY + 2, 1000).unwrap();
    assert_eq!(purse.day, DAY + 2);
}

fn head(key: &str, hold: Option<Arc<dyn Hold>>) -> Head {
    let client = Client { key: Some(key.into()), ..Client::default() };
    Head { client, hold, started_at: NOON, ..Head::default() }
}

fn cost(dollars: &str) -> Cost {
    Cost { status: CostStatus::Priced, total: Some(dollars.into()), ..Cost::default() }
}

#[test]
fn a_budget_is_charged_when_the_cost_is_known() {
    let limits = KeyLimits::new(NOON, [("a".to_owned(), 2_000_000, 2)]);
    let limiter = limits.of(&Key { budget_per_day: Some(budget(4_000_000)), ..key("a") }).unwrap();
    // 2 of 4 are spent, at 1 a call: there is room for two that run.
    let first = limiter.admit(NOON).unwrap();
    let second = limiter.admit(NOON).unwrap();
    let refused = limiter.admit(NOON).unwrap_err();
    assert_eq!(refused.code, "calltap_budget_exceeded");
    assert_eq!(refused.retry, super::super::Retry::AfterMs(BUSY_MS));
    // One costs nothing, and makes room; the other costs all of the rest.
    limits.charge(&head("a", first.hold), &Cost::default());
    let third = limiter.admit(NOON).unwrap();
    limits.charge(&head("a", third.hold), &cost("0.000002"));
    let refused = limiter.admit(NOON).unwrap_err();
    assert_eq!(refused.retry, super::super::Retry::No);
    assert!(refused.message.contains("`a`") && refused.message.contains("0.000004 USD"));
    // A call whose end nobody records counts as what was set aside.
    drop(second.hold);
    assert_eq!(lock(&limiter.account).purse.spent, 5_000_000);
    assert_eq!(lock(&limiter.account).purse.reserved, 0);
    // What has no hold is charged by the key's name; another's is not.
    limits.charge(&head("a", None), &cost("0.000001"));
    limits.charge(&head("b", None), &cost("0.000001"));
    assert_eq!(lock(&limiter.account).purse.spent, 6_000_000);
}

#[test]
fn a_refused_call_uses_up_nothing() {
    let limits = KeyLimits::new(NOON, [("a".to_owned(), 5_000, 1)]);
    let limited =
        Key { requests_per_minute: Some(1), budget_per_day: Some(budget(5_000)), ..key("a") };
    limits.of(&limited).unwrap().admit(NOON).unwrap_err();
    let richer = Key { budget_per_day: Some(budget(50_000)), ..limited };
    let limiter = limits.of(&richer).unwrap();
    limiter.admit(NOON).unwrap();
    let refused = limiter.admit(NOON).unwrap_err();
    assert!(matches!(refused.retry, super::super::Retry::AfterMs(59_000..=60_000)), "{refused:?}");
    assert_eq!(lock(&limiter.account).running, 0);
}
