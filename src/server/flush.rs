//! Knows when everything that was handed to a connection has left for the network.
//!
//! hyper drops what it has buffered when a body fails. An answer that breaks off upstream has to
//! reach the client as far as it came, so its failure waits until the rest has been flushed.

use hyper::rt::{Read, ReadBufCursor, Write};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// How often a connection was flushed, and who waits for the next time. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Flushes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicU64,
    awaited: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Flushes {
    /// Times that the connection had nothing left to write.
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Ready once [`count`](Self::count) is above `since`.
    pub fn poll_after(&self, since: u64, cx: &Context<'_>) -> Poll<()> {
        if self.count() > since {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        drop(waiting);
        self.0.awaited.store(true, Ordering::SeqCst);
        // A flush in between saw nobody waiting.
        if self.count() > since { Poll::Ready(()) } else { Poll::Pending }
    }

    fn flushed(&self) {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        if self.0.awaited.load(Ordering::SeqCst) {
            self.0.awaited.store(false, Ordering::SeqCst);
            let waiting = std::mem::take(&mut *self.waiting());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that counts its flushes.
#[derive(Debug)]
pub struct CountedIo<T> {
    inner: T,
    flushes: Flushes,
}

impl<T> CountedIo<T> {
    /// Counts the flushes of `inner`.
    pub fn new(inner: T, flushes: Flushes) -> Self {
        Self { inner, flushes }
    }
}

impl<T: Read + Unpin> Read for CountedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for CountedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper and h2 flush the connection below only when their own buffer is empty.
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_ready() {
            self.flushes.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::Woken, *};

    #[test]
    fn whoever_waits_is_woken_by_the_next_flush() {
        let (flushes, woken) = (Flushes::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let since = flushes.count();
        assert!(flushes.poll_after(since, &cx).is_pending());
        flushes.flushed();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(flushes.poll_after(since, &cx).is_ready());
        flushes.flushed();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1, "nobody waits any more");
    }
}
