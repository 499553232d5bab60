//! A raw-socket HTTP/1.1 upstream that does what a script says, byte for byte.

use rustix::net::RecvFlags;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `POST /v1/x HTTP/1.1`.
    pub line: String,
    /// Name and value, in order, as sent.
    pub headers: Vec<(String, String)>,
    /// The body, unframed.
    pub body: Vec<u8>,
    /// Lines behind the last chunk.
    pub trailers: Vec<String>,
}

impl Request {
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub enum Step {
    /// One write of exactly these bytes.
    Send(Vec<u8>),
    /// The same, of bytes that thousands of answers share; the kernel takes few of them at a time.
    Share(Arc<[u8]>),
    /// Nothing for a while.
    Pause(Duration),
    /// The connection ends in order.
    Fin,
    /// The connection is reset.
    Rst,
    /// The connection ends in order unless the next request begins within this time, as a server's idle
    /// timer has it.
    Expire(Duration),
    /// Nothing more, until the peer goes away.
    Stall,
    /// Nothing until the counter is at least this high: the test holds the thread.
    Until(Arc<AtomicUsize>, usize),
    /// Tells the test what time it is.
    Mark(mpsc::Sender<Instant>),
}

/// Connections that the script closed.
#[derive(Debug, Default)]
pub struct Closes {
    /// All of them.
    pub all: AtomicUsize,
    /// Those on which a request lay that nobody had read: it was written before the close.
    pub unread: AtomicUsize,
    /// Those on which a request was written at the same moment ([`Step::Expire`] only).
    pub crossed: AtomicUsize,
    /// Those on which a request was written when the end was there already ([`Step::Expire`] only).
    pub late: AtomicUsize,
}

impl Closes {
    /// Called right before the close; whether a request lies there.
    fn begin(&self, reader: &BufReader<&TcpStream>) -> bool {
        let is_unread = !reader.buffer().is_empty() || has_bytes(reader.get_ref());
        self.all.fetch_add(1, Ordering::Relaxed);
        self.unread.fetch_add(usize::from(is_unread), Ordering::Relaxed);
        is_unread
    }
}

/// Whether there is something to read now.
fn has_bytes(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(stream, &mut [0], flags).is_ok_and(|(len, _)| len > 0)
}

type Script = dyn Fn(&Request) -> Vec<Step> + Send + Sync;

/// The upstream.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections that the script closed.
    pub closes: Arc<Closes>,
    requests: Arc<Mutex<Vec<Request>>>,
    open: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Upstream {
    /// Answers every request as `script` says.
    pub fn start(script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// The same at an address of its own.
    pub fn at(
        address: SocketAddr,
        script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (open, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let script: Arc<Script> = Arc::new(script);
        let closes = Arc::new(Closes::default());
        let shared_closes = Arc::clone(&closes);
        let shared = (Arc::clone(&requests), Arc::clone(&open), Arc::clone(&stop));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.2.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (requests, open, script) =
                    (Arc::clone(&shared.0), Arc::clone(&shared.1), Arc::clone(&script));
                let closes = Arc::clone(&shared_closes);
                thread::Builder::new()
                    .stack_size(256 * 1024)
                    .spawn(move || {
                        open.fetch_add(1, Ordering::Relaxed);
                        serve(stream, &requests, &closes, &*script);
                        open.fetch_sub(1, Ordering::Relaxed);
                    })
                    .unwrap();
            }
        });
        Self { address, closes, requests, open, stop }
    }

    /// Base URL for a configuration.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The latest request.
    pub fn last(&self) -> Option<Request> {
        self.requests.lock().unwrap().last().cloned()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.requests.lock().unwrap().clear();
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok();
    }
}

fn serve(stream: TcpStream, requests: &Mutex<Vec<Request>>, closes: &Closes, script: &Script) {
    stream.set_nodelay(true).unwrap();
    if is_reset(&stream, requests, closes, script) {
        // Closing with a linger of zero sends RST.
        socket2::Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Answers what comes; whether the connection is to be reset then.
fn is_reset(
    stream: &TcpStream,
    requests: &Mutex<Vec<Request>>,
    closes: &Closes,
    script: &Script,
) -> bool {
    let mut writer = stream;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, writer) {
        let steps = script(&request);
        requests.lock().unwrap().push(request);
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    if writer.write_all(&bytes).is_err() {
                        return false;
                    }
                }
                Step::Share(bytes) => {
                    socket2::SockRef::from(stream).set_send_buffer_size(16 * 1024).unwrap();
                    if writer.write_all(&bytes).is_err() {
                        return false;
                    }
                }
                Step::Pause(time) => thread::sleep(time),
                Step::Fin => {
                    closes.begin(&reader);
                    stream.shutdown(Shutdown::Both).ok();
                    return false;
                }
                Step::Rst => {
                    closes.begin(&reader);
                    return true;
                }
                Step::Expire(idle) => {
                    if expires(&mut reader, idle, closes) {
                        return false;
                    }
                }
                Step::Until(counter, at_least) => {
                    let until = Instant::now() + Duration::from_secs(20);
                    while counter.load(Ordering::Relaxed) < at_least && Instant::now() < until {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                Step::Mark(tell) => {
                    tell.send(Instant::now()).ok();
                }
                Step::Stall => {
                    stream.set_read_timeout(Some(Duration::from_mins(1))).ok();
                    let mut byte = [0];
                    while reader.read(&mut byte).is_ok_and(|len| len > 0) {}
                    return false;
                }
            }
        }
    }
    false
}

/// Waits for the next request; ends the connection when none comes in time, and takes note of one that
/// comes later.
fn expires(reader: &mut BufReader<&TcpStream>, idle: Duration, closes: &Closes) -> bool {
    let wait = |stream: &TcpStream, time| stream.set_read_timeout(time).unwrap();
    wait(reader.get_ref(), Some(idle));
    if reader.fill_buf().is_ok() {
        wait(reader.get_ref(), None);
        return false;
    }
    let is_unread = closes.begin(reader);
    reader.get_ref().shutdown(Shutdown::Write).ok();
    if is_unread {
        return true;
    }
    // What is on its way over loopback is there at once.
    let met = if has_bytes(reader.get_ref()) { &closes.crossed } else { &closes.late };
    wait(reader.get_ref(), Some(Duration::from_secs(1)));
    let comes = reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
    met.fetch_add(usize::from(comes), Ordering::Relaxed);
    true
}

fn read_request(reader: &mut impl BufRead, mut writer: &TcpStream) -> Option<Request> {
    let mut request = Request { line: read_line(reader)?, ..Request::default() };
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    if request.header("expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if let Some(len) = request.header("content-length") {
        request.body = vec![0; len.parse().ok()?];
        reader.read_exact(&mut request.body).ok()?;
    } else if request.header("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(read_line(reader)?.split(';').next()?, 16).ok()?;
            let start = request.body.len();
            request.body.resize(start + size, 0);
            reader.read_exact(&mut request.body[start..]).ok()?;
            if size == 0 {
                loop {
                    let line = read_line(reader)?;
                    if line.is_empty() {
                        break;
                    }
                    request.trailers.push(line);
                }
                break;
            }
            read_line(reader)?;
        }
    }
    Some(request)
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line).ok()? == 0 {
        return None;
    }
    Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

/// A whole JSON answer.
pub fn json_answer(status: u16, body: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-request-id: req-1\r\n\r\n",
        body.len()
    );
    vec![Step::Send([head.as_bytes(), body.as_bytes()].concat())]
}

/// A chunked event stream: one chunk and one write for each event, with a pause between.
pub fn sse_answer(events: &[String], pause: Duration) -> Vec<Step> {
    let mut steps = vec![Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec(),
    )];
    for event in events {
        if !pause.is_zero() {
            steps.push(Step::Pause(pause));
        }
        steps.push(Step::Send(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()));
    }
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    steps
}

/// Behaves like a provider of chat completions: usage in streams only where it was asked for.
pub fn chat(words: usize, pause: Duration) -> impl Fn(&Request) -> Vec<Step> + Send + Sync {
    move |request| {
        let json = request.json();
        if json["stream"] != true {
            return json_answer(
                200,
                r#"{"id":"c1","object":"chat.completion","created":1,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#,
            );
        }
        let usage = json["stream_options"]["include_usage"] == true;
        let null = if usage { r#","usage":null"# } else { "" };
        let head = r#""id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini-2024-07-18""#;
        let delta = |delta: &str, finish: &str| {
            format!(
                "data: {{{head},\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]{null}}}\n\n"
            )
        };
        let mut events = vec![delta(r#"{"role":"assistant","content":""}"#, "null")];
        events.extend((0..words).map(|at| delta(&format!("{{\"content\":\"w{at} \"}}"), "null")));
        events.push(delta("{}", "\"stop\""));
        if usage {
            events.push(format!(
                "data: {{{head},\"choices\":[],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{words},\"total_tokens\":{}}}}}\n\n",
                9 + words
            ));
        }
        events.push("data: [DONE]\n\n".to_owned());
        sse_answer(&events, pause)
    }
}
