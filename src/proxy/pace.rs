//! How fast a request body has to come, so that nobody holds a place with a byte now and then.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::Sleep;

/// Longest wait for the next piece, and all the waiting that costs nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Beyond that, bytes that have to come for each second of waiting.
const BYTES_PER_SECOND: u64 = 128;

/// The waiting for one body. Time in which nobody asks for more of it does not count.
#[derive(Debug, Default)]
pub struct Pace {
    came: u64,
    waited: Duration,
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// A piece of so many bytes came.
    pub fn came(&mut self, len: usize) {
        self.came = self.came.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// How long the next piece may take.
    fn patience(&self) -> Duration {
        let earned = Duration::from_secs(self.came / BYTES_PER_SECOND);
        SILENCE_MAX.min(SILENCE_MAX.saturating_add(earned).saturating_sub(self.waited))
    }

    /// Whether the next piece, which is not here yet, takes too long.
    pub fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = since + self.patience();
        loop {
            let sleep = || Box::pin(tokio::time::sleep_until(deadline.into()));
            let alarm = self.alarm.get_or_insert_with(sleep);
            if alarm.deadline() > deadline.into() {
                alarm.as_mut().reset(deadline.into());
            }
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // Set for an earlier piece: only now is it worth moving.
            alarm.as_mut().reset(deadline.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_buy_time() {
        let after = |came, waited| {
            Pace { came, waited: Duration::from_secs(waited), ..Pace::default() }.patience()
        };
        assert_eq!(after(0, 0), SILENCE_MAX);
        assert_eq!(after(0, 20), Duration::from_secs(10));
        assert_eq!(after(3, 30), Duration::ZERO, "a byte in ten seconds is too little");
        assert_eq!(after(128 * 100, 90), SILENCE_MAX, "a slow line is none");
        assert_eq!(after(128 * 100, 120), Duration::from_secs(10));
        assert_eq!(after(u64::MAX, 1 << 40), SILENCE_MAX);
    }
}
