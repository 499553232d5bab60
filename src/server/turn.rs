//! A connection's task, which is polled once more at once where a waker of its own would only send it to the end
//! of the runtime's queue.
//!
//! Whoever takes a piece of a request's body wakes the connection, which may read on. A call does that inside
//! the connection's own task: that then goes to the queue, an idle worker is woken to take it, and the rest of
//! the call goes on there, on another processor. To look once more right away costs nearly nothing.

use futures_util::task::AtomicWaker;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Lets the task of a connection go on. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Of the runtime.
    outer: AtomicWaker,
    polled: AtomicBool,
    woken: AtomicBool,
    goes_on: AtomicBool,
}

impl Turn {
    /// If the task is woken while it is polled now, before this or after, it is polled again at once, one time.
    pub fn go_on(&self) {
        self.0.goes_on.store(true, Ordering::Relaxed);
    }

    /// Runs `task`, whose parts hold this turn.
    pub fn run<F: Future>(self, task: F) -> Turns<F> {
        Turns { waker: Waker::from(Arc::clone(&self.0)), turn: self.0, task }
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        if !self.polled.load(Ordering::SeqCst) {
            self.outer.wake();
        }
    }
}

pin_project_lite::pin_project! {
    /// A task that may go on.
    #[derive(Debug)]
    pub struct Turns<F> {
        turn: Arc<Inner>,
        waker: Waker,
        #[pin]
        task: F,
    }
}

impl<F: Future> Future for Turns<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let turn = this.turn;
        turn.outer.register(cx.waker());
        loop {
            turn.woken.store(false, Ordering::SeqCst);
            turn.polled.store(true, Ordering::SeqCst);
            let polled = this.task.as_mut().poll(&mut Context::from_waker(this.waker));
            turn.polled.store(false, Ordering::SeqCst);
            let goes_on = turn.goes_on.swap(false, Ordering::Relaxed);
            if polled.is_ready() || !turn.woken.load(Ordering::SeqCst) {
                return polled;
            }
            if !goes_on {
                cx.waker().wake_by_ref();
                return polled;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::Woken, *};
    use std::{future::poll_fn, sync::atomic::AtomicU32, time::Duration};

    /// A task that wakes itself whenever it is polled, and goes on after the first `on` times: how often
    /// it was polled and woken by one poll.
    fn polled_once(on: u32) -> (u32, u32) {
        let (turn, woken, times) = (Turn::default(), Arc::new(Woken::default()), AtomicU32::new(0));
        let (inner, waker) = (turn.clone(), Waker::from(Arc::clone(&woken)));
        let mut task = Box::pin(turn.run(poll_fn(|cx| {
            if times.fetch_add(1, Ordering::SeqCst) < on {
                inner.go_on();
            }
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })));
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        (times.load(Ordering::SeqCst), woken.0.load(Ordering::SeqCst))
    }

    #[test]
    fn a_task_that_goes_on_is_polled_again_and_any_other_takes_its_turn() {
        assert_eq!(polled_once(0), (1, 1));
        assert_eq!(polled_once(1), (2, 1));
        assert_eq!(polled_once(3), (4, 1));
    }

    #[test]
    fn going_on_is_for_one_poll_only() {
        let (turn, woken) = (Turn::default(), Arc::new(Woken::default()));
        let (inner, waker) = (turn.clone(), Waker::from(Arc::clone(&woken)));
        let mut times = 0;
        let mut task = Box::pin(turn.run(poll_fn(|cx| {
            times += 1;
            // Without a wake there is nothing to go on for.
            if times == 1 {
                inner.go_on();
            } else {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        })));
        for _ in 0..2 {
            assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(task);
        assert_eq!((times, woken.0.load(Ordering::SeqCst)), (2, 1));
    }

    /// No wake is lost, whenever it comes: from another thread, in the middle of a poll or between two.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn wakes_from_elsewhere_arrive() {
        let turn = Turn::default();
        let inner = turn.clone();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
        let reads = turn.run(async move {
            let mut sum = 0_u64;
            while let Some(number) = receiver.recv().await {
                inner.go_on();
                sum += number;
            }
            sum
        });
        let reading = tokio::spawn(reads);
        std::thread::spawn(move || {
            for number in 0..100_000 {
                sender.blocking_send(number).unwrap();
            }
        });
        let sum = tokio::time::timeout(Duration::from_secs(30), reading).await.unwrap().unwrap();
        assert_eq!(sum, 99_999 * 50_000);
    }
}
