//! The part of H that is about HTTP/2, written frame by frame (RFC 9113 §4 and §6).

use super::List;
use crate::harness::{Calltap, Upstream, chat, chat_body, post};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What comes of a stream.
#[derive(Debug, PartialEq)]
enum Fate {
    /// An answer begins with this byte of its header block: `0x88` is status 200.
    Answered(u8),
    /// The stream, or the connection, is ended.
    Ended,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields without compression (RFC 7541 §6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fn text(bytes: &mut Vec<u8>, text: &str) {
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(u8::try_from(rest).unwrap());
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name);
        text(&mut bytes, value);
    }
    bytes
}

/// A connection that has said hello.
fn open(calltap: &Calltap) -> TcpStream {
    let mut stream = TcpStream::connect(calltap.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    stream
}

/// What comes of stream 1.
fn fate(stream: &mut TcpStream) -> Fate {
    let mut head = [0; 9];
    loop {
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) => {
                let waits = matches!(error.kind(), std::io::ErrorKind::WouldBlock);
                assert!(!waits, "nothing comes of it");
                return Fate::Ended;
            }
        }
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload).ok();
        match (head[3], head[8]) {
            (HEADERS, 1) => return Fate::Answered(payload[0]),
            (RST_STREAM, 1) | (GOAWAY, _) => return Fate::Ended,
            _ => {}
        }
    }
}

/// The fields of a sound request, with `more` behind them.
fn fields<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)];
    [&usual[..], more].concat()
}

fn asked(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

/// Requests that are refused before anything of them goes upstream.
fn refusals() -> Vec<(&'static str, Vec<u8>)> {
    let with = |more: &[(&'static str, &'static str)]| asked(&fields("/v1/x", more));
    let body = |length: &'static str, data: &[u8]| {
        let head = block(&fields("/v1/x", &[("content-length", length)]));
        [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, data)].concat()
    };
    vec![
        ("H34 an empty path", asked(&fields("", &[]))),
        ("H34 no path", asked(&[(":method", "POST"), (":scheme", "http"), (":authority", "x")])),
        ("H34 no method", asked(&[(":path", "/v1/x"), (":scheme", "http"), (":authority", "x")])),
        ("H34 two paths", with(&[(":path", "/v1/y")])),
        ("H34 two methods", with(&[(":method", "GET")])),
        ("H34 an unknown pseudo-header", with(&[(":evil", "x")])),
        ("H34 a pseudo-header behind a header", with(&[("x-a", "b"), (":authority", "y")])),
        ("H34 an upper-case name", with(&[("X-A", "b")])),
        ("H34 connection", with(&[("connection", "close")])),
        ("H34 keep-alive", with(&[("keep-alive", "1")])),
        ("H34 transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("H34 te: gzip", with(&[("te", "gzip")])),
        ("H35 a length without data", with(&[("content-length", "5")])),
        ("H35 less data than said", body("10", b"{}")),
        ("H35 more data than said", body("1", b"{}")),
        ("H36 CR LF in a value", with(&[("x-a", "b\r\nx-evil: c")])),
        ("H36 LF in a value", with(&[("x-a", "b\nx-evil: c")])),
        ("H36 NUL in a value", with(&[("x-a", "b\0")])),
        ("H36 a colon in a name", with(&[("x-a: b", "c")])),
        ("H36 CR LF in a name", with(&[("x-a\r\nx-evil", "c")])),
        ("H36 CR LF in the path", asked(&fields("/v1/x HTTP/1.1\r\nx-evil: c", &[]))),
        ("H36 a space in the path", asked(&fields("/v1/x y", &[]))),
        (
            "H36 CR LF in the method",
            asked(&[
                (":method", "GET /v1/evil HTTP/1.1\r\n\r\nPOST"),
                (":scheme", "http"),
                (":authority", "x"),
                (":path", "/v1/x"),
            ]),
        ),
    ]
}

/// How many records there are, once none is on its way any more.
fn settled(calltap: &Calltap) -> usize {
    let mut seen = calltap.calls("").len();
    loop {
        std::thread::sleep(Duration::from_millis(250));
        let now = calltap.calls("").len();
        if now == seen {
            return now;
        }
        seen = now;
    }
}

/// Rows of the list against its calltap.
pub fn rows(list: &mut List, calltap: &Calltap, upstream: &Upstream, calls: &mut usize) {
    let mut known = settled(calltap);
    let count = |calls: &mut usize, known: usize| {
        let now = settled(calltap);
        *calls += now - known;
        now
    };
    for (name, bytes) in refusals() {
        list.row(name, || {
            let before = upstream.requests().len();
            let mut stream = open(calltap);
            stream.write_all(&bytes).ok();
            let fate = fate(&mut stream);
            assert_ne!(fate, Fate::Answered(0x88), "it was taken");
            assert_eq!(upstream.requests().len(), before, "nothing goes upstream");
            drop(stream);
            // A head that was sound made a call, whatever became of its body.
            known = count(calls, known);
        });
    }
    list.row("H34 a sound request", || {
        *calls += 1;
        let mut stream = open(calltap);
        stream.write_all(&asked(&fields("/v1/x", &[("te", "trailers")]))).unwrap();
        assert_eq!(fate(&mut stream), Fate::Answered(0x88));
    });
    list.otherwise("H35 pseudo-headers behind the data", || {
        *calls += 1;
        let before = upstream.requests().len();
        let mut stream = open(calltap);
        let head = block(&fields("/v1/x", &[]));
        let trailers = block(&[(":path", "/v1/evil")]);
        let bytes = [
            frame(HEADERS, END_HEADERS, 1, &head),
            frame(DATA, 0, 1, b"{}"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers),
        ];
        stream.write_all(&bytes.concat()).unwrap();
        assert_eq!(fate(&mut stream), Fate::Answered(0x88));
        let requests = upstream.requests().split_off(before);
        assert_eq!(requests.len(), 1);
        assert_eq!(
            (&*requests[0].line, &requests[0].body[..]),
            ("POST /v1/x HTTP/1.1", &b"{}"[..])
        );
    });
    list.row("H35 data behind the end", || {
        known = settled(calltap);
        let before = upstream.requests().len();
        let mut stream = open(calltap);
        let mut bytes = asked(&fields("/v1/x", &[]));
        bytes.extend(frame(DATA, END_STREAM, 1, b"{\"evil\":1}"));
        stream.write_all(&bytes).unwrap();
        fate(&mut stream);
        std::thread::sleep(Duration::from_millis(150));
        // The connection may end before the request is looked at.
        count(calls, known);
        let requests = upstream.requests().split_off(before);
        assert!(requests.len() <= 1 && requests.iter().all(|r| r.body.is_empty()), "{requests:?}");
    });
}

/// One piece of a flood, by its number.
type Piece<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;

/// Floods on connections of their own: others are served meanwhile, and memory stays.
#[test]
fn floods_of_frames_hurt_nobody_else() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "", "[log]\nlevel = \"warn\"\n");
    let usual = || {
        let answer = post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
        assert_eq!(answer.status, 200, "others are served");
    };
    (0..20).for_each(|_| usual());
    let memory = calltap.memory_kib();
    let id = |at: u32| 2 * at + 1;
    let head = block(&fields("/v1/x", &[]));
    let floods: [(&str, Piece<'_>); 6] = [
        (
            "reset streams",
            Box::new(|at| {
                let begun = frame(HEADERS, END_HEADERS, id(at), &head);
                [begun, frame(RST_STREAM, 0, id(at), &8_u32.to_be_bytes())].concat()
            }),
        ),
        (
            "streams that make the server reset",
            Box::new(|at| {
                let begun = frame(HEADERS, END_HEADERS | END_STREAM, id(at), &head);
                [begun, frame(DATA, 0, id(at), b"x")].concat()
            }),
        ),
        (
            "headers without an end",
            Box::new(|at| match at {
                0 => frame(HEADERS, 0, 1, &head),
                _ => frame(CONTINUATION, 0, 1, &block(&[("x-a", &"b".repeat(1000))])),
            }),
        ),
        (
            "empty data",
            Box::new(|at| match at {
                0 => frame(HEADERS, END_HEADERS, 1, &head),
                _ => frame(DATA, 0, 1, &[]),
            }),
        ),
        ("settings", Box::new(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]))),
        ("pings", Box::new(|_| frame(PING, 0, 0, &[7; 8]))),
    ];
    for (name, piece) in floods {
        let mut stream = open(&calltap);
        let mut sent = 0;
        // Until the server has had enough, or takes no more.
        while sent < 20_000 && stream.write_all(&piece(sent)).is_ok() {
            sent += 1;
        }
        usual();
        let grown = calltap.memory_kib().saturating_sub(memory);
        println!("{name}: {sent} taken, {grown} KiB more");
        assert!(grown < 64 * 1024, "{name}: {grown} KiB");
    }
    usual();
    assert!(!calltap.log().contains("panicked"), "{}", calltap.log());
}
