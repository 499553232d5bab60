//! Connections to upstreams, which are known to be closed before they are used again.
//!
//! A server may close an idle connection at any time, and the runtime tells of it a moment later. Within that
//! moment a request would be written to nobody, and could not be sent again: it may have been read. So an
//! idle connection is asked itself. hyper reads before it takes a request, and what it did not take yet goes
//! out on another connection.

use super::pool::Patience;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustix::{io::Errno, net::RecvFlags};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower::util::MapResponse;

/// Most bytes taken by one look: there are none, or what a TLS server says before it closes.
const LOOK_BYTES: usize = 512;

/// A connection that was quiet for this long is idle: an end that comes earlier is no idle timer's, and the
/// pieces of a stream cost no look.
const IDLE: Duration = Duration::from_millis(1);

/// Connects by TCP.
pub type Connector =
    MapResponse<HttpConnector, fn(TokioIo<TcpStream>) -> TokioIo<UpstreamConnection>>;

/// Connections of `tcp` that can be watched.
pub fn connector(tcp: HttpConnector) -> Connector {
    MapResponse::new(tcp, |stream| TokioIo::new(UpstreamConnection::new(stream.into_inner())))
}

/// Has a connection looked at before it is used again, if it speaks HTTP/1: HTTP/2 has its own ways to tell
/// what was not read. `watcher` is told of its end, if nobody used it then.
pub fn watch(stream: &mut MaybeHttpsStream<TokioIo<UpstreamConnection>>, watcher: Arc<Patience>) {
    if stream.connected().is_negotiated_h2() {
        return;
    }
    let tcp = match stream {
        MaybeHttpsStream::Http(tcp) => tcp,
        MaybeHttpsStream::Https(tls) => tls.inner_mut().get_mut().0.inner_mut(),
    };
    tcp.inner_mut().watcher = Some(watcher);
}

/// A TCP connection to an upstream.
#[derive(Debug)]
pub struct UpstreamConnection {
    tcp: TcpStream,
    /// Who is told of an idle end, if the socket itself is asked once nothing comes.
    watcher: Option<Arc<Patience>>,
    /// Whether something was written and nothing came since.
    asked: bool,
    /// Since when nothing comes, if that is so, and nothing was written.
    quiet: Option<Instant>,
}

impl UpstreamConnection {
    fn new(tcp: TcpStream) -> Self {
        Self { tcp, watcher: None, asked: false, quiet: None }
    }

    /// Whether nothing has come for a while.
    fn is_idle(&mut self) -> bool {
        self.watcher.is_some() && self.quiet.get_or_insert_with(Instant::now).elapsed() >= IDLE
    }

    /// Reads what the runtime may not know of yet: an end, an error, bytes.
    fn look(&self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; LOOK_BYTES];
        let room = buf.remaining().min(LOOK_BYTES);
        if room == 0 {
            return Poll::Pending;
        }
        match rustix::net::recv(&self.tcp, &mut bytes[..room], RecvFlags::DONTWAIT) {
            Ok((len, _)) => {
                buf.put_slice(&bytes[..len]);
                Poll::Ready(Ok(()))
            }
            Err(Errno::AGAIN) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncRead for UpstreamConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let mut read = Pin::new(&mut this.tcp).poll_read(cx, buf);
        if read.is_pending() && this.is_idle() {
            read = this.look(buf);
        }
        if read.is_ready() {
            let is_end = buf.filled().len() == before;
            if let (true, false, Some(since), Some(watcher)) =
                (is_end, this.asked, this.quiet, &this.watcher)
            {
                watcher.ended(since.elapsed());
            }
            (this.quiet, this.asked) = (None, false);
        }
        read
    }
}

impl AsyncWrite for UpstreamConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        (this.quiet, this.asked) = (None, true);
        Pin::new(&mut this.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        (this.quiet, this.asked) = (None, true);
        Pin::new(&mut this.tcp).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

impl Connection for UpstreamConnection {
    fn connected(&self) -> Connected {
        self.tcp.connected()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{body::UpstreamBody, upstream::Upstreams},
        *,
    };
    use crate::config::{Config, Upstream as Options};
    use http::Request;
    use std::{
        future::poll_fn,
        io::{ErrorKind, Read, Write},
        net::{Shutdown, TcpListener as Listener, TcpStream as Peer},
        sync::mpsc,
        task::ready,
    };

    /// Both ends of a connection that is idle, as far as the runtime knows.
    async fn idle(looks: bool) -> (UpstreamConnection, Peer) {
        let listener = Listener::bind(("127.0.0.1", 0)).unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut connection = UpstreamConnection {
            watcher: looks.then(Arc::default),
            ..UpstreamConnection::new(tcp)
        };
        let read = poll_fn(|cx| Poll::Ready(read(&mut connection, cx))).await;
        assert!(read.is_pending());
        (connection, listener.accept().unwrap().0)
    }

    fn read(connection: &mut UpstreamConnection, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 16];
        let mut buf = ReadBuf::new(&mut bytes);
        ready!(Pin::new(connection).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// What is read after `act`, with no turn of the runtime in between.
    async fn read_after<T>(looks: bool, act: impl FnOnce(Peer) -> T) -> Poll<io::Result<usize>> {
        let (mut connection, peer) = idle(looks).await;
        let _kept = act(peer);
        std::thread::sleep(Duration::from_millis(20));
        poll_fn(|cx| Poll::Ready(read(&mut connection, cx))).await
    }

    fn fin(peer: Peer) -> Peer {
        peer.shutdown(Shutdown::Write).unwrap();
        peer
    }

    #[tokio::test]
    async fn an_end_is_seen_before_the_runtime_tells_of_it() {
        assert!(read_after(false, fin).await.is_pending(), "the runtime does not know yet");
        assert!(matches!(read_after(true, fin).await, Poll::Ready(Ok(0))));
        let reset = |peer: Peer| {
            let socket = socket2::Socket::from(peer);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            drop(socket);
        };
        let read = read_after(true, reset).await;
        assert!(
            matches!(read, Poll::Ready(Err(error)) if error.kind() == ErrorKind::ConnectionReset)
        );
    }

    #[tokio::test]
    async fn an_open_connection_stays_and_bytes_are_read_once() {
        assert!(read_after(true, |peer| peer).await.is_pending());
        let (mut connection, mut peer) = idle(true).await;
        peer.write_all(b"abc").unwrap();
        let read_one = poll_fn(|cx| read(&mut connection, cx)).await;
        assert_eq!(read_one.unwrap(), 3);
        // The runtime still tells of them.
        let read_again = tokio::time::timeout(
            Duration::from_millis(50),
            poll_fn(|cx| read(&mut connection, cx)),
        );
        assert!(read_again.await.is_err(), "nothing is left to read");
        fin(peer);
        assert_eq!(poll_fn(|cx| read(&mut connection, cx)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_was_just_written_or_read_needs_no_look() {
        let (mut connection, peer) = idle(true).await;
        let wrote = poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, b"x")).await;
        assert_eq!(wrote.unwrap(), 1);
        let _peer = fin(peer);
        std::thread::sleep(Duration::from_millis(20));
        let reads = poll_fn(|cx| {
            let first = read(&mut connection, cx);
            std::thread::sleep(2 * IDLE);
            Poll::Ready([first, read(&mut connection, cx)])
        });
        assert!(matches!(reads.await, [Poll::Pending, Poll::Ready(Ok(0))]));
    }

    #[tokio::test]
    async fn only_an_end_that_nobody_waited_at_tells_of_an_idle_timer() {
        for (writes, tells) in [(false, true), (true, false)] {
            let patience = Arc::new(Patience::default());
            for _ in 0..2 {
                let (mut connection, peer) = idle(true).await;
                connection.watcher = Some(Arc::clone(&patience));
                if writes {
                    let wrote = poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, b"x")).await;
                    assert_eq!(wrote.unwrap(), 1);
                    assert!(
                        poll_fn(|cx| Poll::Ready(read(&mut connection, cx))).await.is_pending()
                    );
                }
                std::thread::sleep(Duration::from_millis(20));
                let _peer = fin(peer);
                assert_eq!(poll_fn(|cx| read(&mut connection, cx)).await.unwrap(), 0);
            }
            assert_eq!(patience.is_known(), tells);
        }
    }

    /// hyper asks before it takes a request.
    #[tokio::test]
    async fn a_request_that_meets_an_end_goes_out_on_another_connection() {
        let listener = Listener::bind(("127.0.0.1", 0)).unwrap();
        let mut config = Config::default();
        let base_url = Some(format!("http://{}/v1", listener.local_addr().unwrap()));
        config.upstreams.insert("openai".into(), Options { base_url, ..Options::default() });
        let upstreams = Upstreams::new(&config).unwrap();
        let (tell, answered) = mpsc::channel();
        std::thread::spawn(move || {
            for _ in 0..2 {
                let mut peer = listener.accept().unwrap().0;
                let mut head = Vec::new();
                while !head.ends_with(b"{}") {
                    let mut piece = [0; 1024];
                    let len = peer.read(&mut piece).unwrap();
                    head.extend_from_slice(&piece[..len]);
                }
                peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                tell.send(peer).unwrap();
            }
        });
        let call = async || {
            let upstream = upstreams.default();
            let body = UpstreamBody::Whole(Some("{}".into()));
            let request = Request::post(format!("{}/x", upstream.base_url)).body(body).unwrap();
            upstream.pool.client().0.request(request).await.unwrap()
        };
        assert_eq!(call().await.status(), 200);
        tokio::time::sleep(10 * IDLE).await;
        let _first = fin(answered.recv().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(call().await.status(), 200);
        assert!(answered.recv().is_ok(), "on a second connection");
    }
}
