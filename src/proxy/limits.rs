//! What a key of calltap's own may do: calls at once, calls a minute, money a day.
//!
//! A key with limits has one lock, held for a few steps and never across a wait; a key without has none.
//! What is over a limit is refused, nothing is made to wait.

use super::{ProxyError, capture::micros};
use crate::{
    config::{Dollars, Key},
    model::{Cost, Head, Hold, Timestamp},
    pricing,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Largest `requests_per_minute`: the time of each call of the last minute is kept, 8 bytes each.
pub const REQUESTS_PER_MINUTE_MAX: u32 = 1_000_000;
/// A minute, in microseconds.
const MINUTE_US: u64 = 60_000_000;
/// A UTC day, in microseconds.
const DAY_US: i64 = 86_400_000_000;
/// When to ask again while all places of a key are taken: nobody knows when one is free.
const BUSY_MS: u32 = 1000;
/// What a call is expected to cost while no cost of the key is known: a cent, in picodollars.
const UNKNOWN_PICO: i128 = 10_000_000_000;
/// By which part of the difference an expected cost follows a new one.
const MEAN_SHARE: i128 = 8;

/// What all keys have used, over reloads of the configuration.
#[derive(Debug)]
pub struct KeyLimits {
    accounts: Mutex<HashMap<String, Arc<Mutex<Account>>>>,
    since: Instant,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self::new(Timestamp::default(), [])
    }
}

impl KeyLimits {
    /// With what was `spent` on the day of `at`: key, picodollars, calls.
    pub fn new(at: Timestamp, spent: impl IntoIterator<Item = (String, i128, u64)>) -> Self {
        let account = |(key, spent, calls): (String, i128, u64)| {
            let mean = spent / i128::from(calls.max(1));
            let purse = Purse { day: day(at), spent, reserved: 0, mean };
            (key, Arc::new(Mutex::new(Account { purse, ..Account::default() })))
        };
        let accounts = Mutex::new(spent.into_iter().map(account).collect());
        Self { accounts, since: Instant::now() }
    }

    /// The limits of a key, if it has any. What it uses is counted in any case: a reload may limit it.
    pub(super) fn of(&self, key: &Key) -> Option<Arc<Limiter>> {
        let account = Arc::clone(lock(&self.accounts).entry(key.name.clone()).or_default());
        let is_limited = key.max_parallel_requests.is_some()
            || key.requests_per_minute.is_some()
            || key.budget_per_day.is_some();
        is_limited.then(|| {
            Arc::new(Limiter {
                key: key.name.clone(),
                parallel: key.max_parallel_requests,
                per_minute: key.requests_per_minute,
                budget: key.budget_per_day,
                account,
                since: self.since,
            })
        })
    }

    /// A call is recorded, and its cost as far as it can be known. Runs off the request path.
    pub fn charge(&self, head: &Head, cost: &Cost) {
        let pico = cost.total.as_deref().and_then(pricing::pico).unwrap_or(0);
        if let Some(hold) = &head.hold {
            return hold.settle(pico);
        }
        let Some(key) = &head.client.key else { return };
        let account = lock(&self.accounts).get(key).cloned();
        if let Some(account) = account {
            lock(&account).purse.charge(day(head.started_at), pico);
        }
    }
}

/// The limits of one key.
#[derive(Debug)]
pub struct Limiter {
    key: String,
    parallel: Option<u32>,
    per_minute: Option<u32>,
    budget: Option<Dollars>,
    account: Arc<Mutex<Account>>,
    since: Instant,
}

/// A call that is within the limits of its key.
#[derive(Debug)]
pub struct Admitted {
    /// Its place among the calls that run.
    pub slot: Slot,
    /// What is set aside for it, where the key has a budget.
    pub hold: Option<Arc<dyn Hold>>,
}

/// Why a call is over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Parallel,
    /// And in how many microseconds it would not be.
    Rate(u64),
    /// Spent.
    Budget,
    /// What runs is expected to use up the rest.
    Reserved,
}

impl Limiter {
    /// Lets a call in that began at `at`, or refuses it and counts nothing.
    pub(super) fn admit(&self, at: Timestamp) -> Result<Admitted, ProxyError> {
        let day = day(at);
        let pico = self.take(day).map_err(|over| self.tell(over))?;
        let slot = Slot(Arc::clone(&self.account));
        let hold = |pico| -> Arc<dyn Hold> {
            let account = Arc::clone(&self.account);
            Arc::new(Held { account, day, pico, is_open: AtomicBool::new(true) })
        };
        Ok(Admitted { slot, hold: pico.map(hold) })
    }

    /// All limits or none; what is set aside, in picodollars, where there is a budget.
    fn take(&self, day: i64) -> Result<Option<i128>, Over> {
        let mut account = lock(&self.account);
        // Read under the lock, so that the times of calls stand in order.
        let now_us = micros(self.since.elapsed());
        if self.parallel.is_some_and(|max| account.running >= max) {
            return Err(Over::Parallel);
        }
        if let Some(max) = self.per_minute {
            account.window.has_room(now_us, max).map_err(Over::Rate)?;
        }
        let limit = self.budget.map(|Dollars(nano)| i128::from(nano) * 1000);
        let pico = limit.map(|limit| account.purse.reserve(day, limit)).transpose()?;
        if self.per_minute.is_some() {
            account.window.add(now_us);
        }
        account.running += 1;
        Ok(pico)
    }

    fn tell(&self, over: Over) -> ProxyError {
        let Self { key, parallel, per_minute, budget, .. } = self;
        let budget = budget.unwrap_or(Dollars(0));
        match over {
            Over::Parallel => ProxyError::rate_limited(format!(
                "the key `{key}` has {} calls running, as many as it may; retry when one has ended",
                parallel.unwrap_or(0)
            ))
            .after_ms(BUSY_MS),
            Over::Rate(wait_us) => ProxyError::rate_limited(format!(
                "the key `{key}` has made {} calls within a minute, as many as it may",
                per_minute.unwrap_or(0)
            ))
            .after_ms(u32::try_from(wait_us.div_ceil(1000)).unwrap_or(u32::MAX)),
            Over::Budget => ProxyError::budget_exceeded(format!(
                "the key `{key}` has spent its budget of {budget} for today; the next begins at 00:00 UTC"
            )),
            Over::Reserved => ProxyError::budget_exceeded(format!(
                "the running calls of the key `{key}` are expected to use up its budget of {budget} for today"
            ))
            .after_ms(BUSY_MS),
        }
    }
}

/// What a key has used.
#[derive(Debug, Default)]
struct Account {
    running: u32,
    window: Window,
    purse: Purse,
}

/// A place among the calls of a key that run; dropped when the call has ended.
#[derive(Debug)]
pub struct Slot(Arc<Mutex<Account>>);

impl Drop for Slot {
    fn drop(&mut self) {
        let mut account = lock(&self.0);
        account.running = account.running.saturating_sub(1);
    }
}

/// When the calls of the last minute began: never more than so many in any 60 s, whenever these begin.
#[derive(Debug, Default)]
struct Window {
    /// Microseconds, oldest first.
    begun_us: VecDeque<u64>,
}

impl Window {
    /// Whether one more call may begin; if not, in how many microseconds it may.
    fn has_room(&mut self, now_us: u64, max: u32) -> Result<(), u64> {
        while self.begun_us.front().is_some_and(|begun| begun + MINUTE_US <= now_us) {
            self.begun_us.pop_front();
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        // There may be more than `max`: a reload may have lowered it.
        let before = self.begun_us.len().checked_sub(max).and_then(|over| self.begun_us.get(over));
        before.map_or(Ok(()), |begun| Err((begun + MINUTE_US).saturating_sub(now_us)))
    }

    fn add(&mut self, now_us: u64) {
        self.begun_us.push_back(now_us);
    }
}

/// Money of one UTC day, in picodollars.
#[derive(Debug, Default)]
struct Purse {
    /// Days since 1970.
    day: i64,
    /// What ended calls of the day cost.
    spent: i128,
    /// What those that run are expected to cost.
    reserved: i128,
    /// What a call costs of late; zero while that is not known.
    mean: i128,
}

impl Purse {
    /// Sets aside what a call is expected to cost.
    fn reserve(&mut self, day: i64, limit: i128) -> Result<i128, Over> {
        // A call of yesterday's last moment does not turn the day back; a clock that was set does.
        if day > self.day || day < self.day - 1 {
            self.begin(day);
        }
        if self.spent >= limit {
            return Err(Over::Budget);
        }
        if self.spent + self.reserved >= limit {
            return Err(Over::Reserved);
        }
        let expected = if self.mean == 0 { UNKNOWN_PICO } else { self.mean };
        self.reserved += expected;
        Ok(expected)
    }

    /// A call ended for which `reserved` was set aside on `day`; `None`: nobody knows what it cost.
    fn settle(&mut self, day: i64, reserved: i128, cost: Option<i128>) {
        if let Some(cost) = cost.filter(|cost| *cost > 0) {
            self.learn(cost);
        }
        if day == self.day {
            self.reserved -= reserved;
            self.spent = self.spent.saturating_add(cost.unwrap_or(reserved));
        }
    }

    /// A call ended for which nothing was set aside.
    fn charge(&mut self, day: i64, cost: i128) {
        if day > self.day {
            self.begin(day);
        }
        self.settle(day, 0, Some(cost));
    }

    fn begin(&mut self, day: i64) {
        *self = Self { day, spent: 0, reserved: 0, mean: self.mean };
    }

    /// Calls that cost nothing say nothing about the others.
    fn learn(&mut self, cost: i128) {
        self.mean = if self.mean == 0 { cost } else { self.mean + (cost - self.mean) / MEAN_SHARE };
    }
}

/// What is set aside for a call. Where its end is never recorded, that counts as spent.
#[derive(Debug)]
struct Held {
    account: Arc<Mutex<Account>>,
    day: i64,
    pico: i128,
    is_open: AtomicBool,
}

impl Held {
    fn end(&self, cost: Option<i128>) {
        if self.is_open.swap(false, Ordering::Relaxed) {
            lock(&self.account).purse.settle(self.day, self.pico, cost);
        }
    }
}

impl Hold for Held {
    fn settle(&self, pico: i128) {
        self.end(Some(pico));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end(None);
    }
}

fn day(at: Timestamp) -> i64 {
    at.0.div_euclid(DAY_US)
}

/// Sound whoever panics: every change is a plain sum.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
