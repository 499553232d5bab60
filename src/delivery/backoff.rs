//! When a lane that met trouble may try again: full jitter, never before the sink said.

use std::time::Duration;
use tokio::time::Instant;

/// How long a lane waits for what. Tests are in more of a hurry.
#[derive(Clone, Copy, Debug)]
pub struct Tempo {
    /// Upper bound of the first wait after a failure.
    pub first: Duration,
    /// Upper bound of every such wait.
    pub longest: Duration,
    /// How often a lane that stands still by itself tries whether the key or the address works now.
    pub probe: Duration,
    /// How long a host may be without an address before it counts as gone.
    pub unresolved: Duration,
    /// How often a lane looks for exceptions that are due, and at least looks around.
    pub look: Duration,
}

impl Default for Tempo {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_mins(5),
            probe: Duration::from_mins(1),
            unresolved: Duration::from_hours(1),
            look: Duration::from_secs(1),
        }
    }
}

impl Tempo {
    /// A wait before try `attempt` (from 1): anywhere between nothing and an exponential bound.
    pub fn full_jitter(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(16);
        self.first.saturating_mul(1 << doublings).min(self.longest).mul_f64(random())
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

/// How many requests a lane may have in flight, and from when on.
#[derive(Debug)]
pub struct Gate {
    tempo: Tempo,
    max: usize,
    allowed: usize,
    /// Successes since `allowed` last changed.
    streak: usize,
    /// Rounds of failures without a success between them.
    failures: u32,
    opens: Instant,
    last_failure: Instant,
}

impl Gate {
    /// A gate that lets `max` through.
    pub fn new(max: usize, tempo: Tempo, now: Instant) -> Self {
        Self { tempo, max, allowed: max, streak: 0, failures: 0, opens: now, last_failure: now }
    }

    /// How many more may be sent now, with so many in flight.
    pub fn free(&self, in_flight: usize, now: Instant) -> usize {
        let allowed = if self.failures > 0 { 1 } else { self.allowed };
        if now < self.opens { 0 } else { allowed.saturating_sub(in_flight) }
    }

    /// When it opens.
    pub fn opens(&self) -> Instant {
        self.opens
    }

    /// Whether the last round failed.
    pub fn in_trouble(&self) -> bool {
        self.failures > 0
    }

    /// A request was answered: the sink lives. Concurrency comes back one by one.
    pub fn answered(&mut self) {
        self.failures = 0;
        self.streak += 1;
        if self.streak >= self.allowed && self.allowed < self.max {
            self.allowed += 1;
            self.streak = 0;
        }
    }

    /// A request that was sent at `sent` failed. Those that failed together count once.
    pub fn failed(&mut self, sent: Instant, now: Instant, retry_after: Option<Duration>) {
        if sent >= self.last_failure {
            self.failures += 1;
            self.allowed = (self.allowed / 2).max(1);
            self.streak = 0;
            self.last_failure = now;
            self.opens = self.opens.max(now + self.tempo.full_jitter(self.failures));
        }
        self.wait(now, retry_after);
    }

    /// The sink asks to be left alone for a while.
    pub fn wait(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.opens = self.opens.max(now + retry_after.unwrap_or_default());
    }

    /// A person asks for a try at once.
    pub fn open(&mut self, now: Instant) {
        self.opens = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_spread() {
        for attempt in 1..40 {
            let tempo = Tempo::default();
            let bound = tempo.first.saturating_mul(1 << (attempt - 1).min(16)).min(tempo.longest);
            let waits: Vec<Duration> = (0..50).map(|_| tempo.full_jitter(attempt)).collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "{attempt}");
            assert!(waits.iter().any(|wait| *wait < bound / 2), "{attempt}");
        }
    }

    #[test]
    fn failures_close_it_and_successes_bring_it_back() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gate = Gate::new(8, Tempo::default(), start);
        assert_eq!(gate.free(3, at(0)), 5);
        gate.failed(at(0), at(1), Some(Duration::from_secs(30)));
        gate.failed(at(0), at(2), None);
        assert_eq!((gate.failures, gate.free(0, at(3))), (1, 0));
        assert_eq!(gate.free(0, at(30_000)), 0, "not before the sink said");
        assert_eq!(gate.free(0, at(30_100)), 1, "one to see whether it lives");
        gate.answered();
        assert_eq!(gate.free(0, at(30_100)), 4);
        for _ in 0..100 {
            gate.answered();
        }
        assert_eq!(gate.free(0, at(30_100)), 8);
    }
}
