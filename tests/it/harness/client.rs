//! A raw HTTP/1.1 client: what it sends and what it saw, byte for byte.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Lower-case name and value, in order.
    pub headers: Vec<(String, String)>,
    /// The body, unframed.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Vec<(String, String)>,
    /// Whether the body ended as its framing says.
    pub whole: bool,
}

impl Answer {
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap()
    }

    /// Connects, to a peer that may be gone.
    pub fn try_open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        Some(Self { stream, buffer: Vec::new() })
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        // A peer that has seen enough may close early; what it answered is still read.
        self.stream.write_all(bytes).ok();
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let socket = socket2::Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads exactly `len` bytes, or fewer when the peer ends.
    pub fn read_some(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len && self.fill() {}
        let len = len.min(self.buffer.len());
        self.buffer.drain(..len).collect()
    }

    /// Whether the peer has ended the connection, and all that it sent was read.
    pub fn has_ended(&mut self) -> bool {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        self.buffer.is_empty()
            && match self.stream.read(&mut [0]) {
                Ok(len) => len == 0,
                Err(error) => !matches!(error.kind(), TimedOut | WouldBlock),
            }
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(len) if len > 0 => {
                self.buffer.extend_from_slice(&piece[..len]);
                true
            }
            _ => false,
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':')?;
            fields.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads the head of a chunked answer and `wanted` bytes of its body; gives how many came.
    pub fn read_body(&mut self, wanted: usize) -> usize {
        let mut came = 0;
        if self.line().and_then(|_| self.fields()).is_none() {
            return 0;
        }
        while came < wanted {
            let Some(size) = self.line().and_then(|line| usize::from_str_radix(&line, 16).ok())
            else {
                return came;
            };
            let asked = size.min(wanted - came);
            came += self.read_some(asked).len();
            if asked == size && came < wanted {
                self.line();
            }
        }
        came
    }

    /// Reads one answer to a request with `method`; `None` when the connection ended before its head.
    pub fn answer(&mut self, method: &str) -> Option<Answer> {
        let mut answer = Answer::default();
        loop {
            let line = self.line()?;
            answer.status = line.split(' ').nth(1)?.parse().ok()?;
            answer.headers = self.fields()?;
            if answer.status >= 200 || answer.status == 101 {
                break;
            }
        }
        if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
            answer.whole = true;
            return Some(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            self.chunks(&mut answer);
        } else if let Some(len) = answer.header("content-length") {
            let len: usize = len.parse().ok()?;
            answer.body = self.read_some(len);
            answer.whole = answer.body.len() == len;
        } else {
            while self.fill() {}
            answer.body = std::mem::take(&mut self.buffer);
            answer.whole = true;
        }
        Some(answer)
    }

    fn chunks(&mut self, answer: &mut Answer) {
        loop {
            let Some(line) = self.line() else { return };
            let Ok(size) = usize::from_str_radix(&line, 16) else { return };
            if size == 0 {
                if let Some(trailers) = self.fields() {
                    answer.trailers = trailers;
                    answer.whole = true;
                }
                return;
            }
            let piece = self.read_some(size);
            let short = piece.len() < size;
            answer.body.extend(piece);
            if short || self.line().is_none() {
                return;
            }
        }
    }
}

/// GET on a connection of its own; `None` when nobody answers.
pub fn fetch(address: SocketAddr, path: &str) -> Option<Answer> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut connection = Connection { stream, buffer: Vec::new() };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.send(request.as_bytes());
    connection.answer("GET")
}

/// The answer to a whole request with a body, as it is.
pub fn connect_and_send(address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut connection = Connection::open(address);
    connection.send(request);
    connection.answer("POST")
}

/// POST of JSON on a connection of its own, with more header lines.
pub fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> Answer {
    let mut connection = Connection::open(address);
    connection.send(
        format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    connection.answer("POST").expect("an answer")
}
