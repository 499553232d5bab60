//! Content encodings of captured bodies: decoded for reading, never for forwarding.

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use std::io::{self, Read};

/// Most decoded bytes (`reliability.md` S14).
const DECODED_BYTES_MAX: usize = 64 << 20;
/// Beyond this many decoded bytes, …
const FREE_BYTES: usize = 1 << 20;
/// … a body may not be larger than so many times its encoded size.
const RATIO_MAX: usize = 200;
/// Bytes decoded at once.
const STEP_BYTES: usize = 16 * 1024;

/// A decoded body.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// The decoded bytes, as far as they could be decoded.
    pub bytes: Bytes,
    /// Decoded length after each raw chunk, so that arrival times can be looked up; empty where
    /// nothing was encoded.
    pub ends: Vec<u64>,
    /// Why not everything was decoded.
    pub problem: Option<String>,
}

/// Decodes `raw`, which arrived in chunks of `chunk_lens` bytes. One layer at most.
pub fn decode(
    encoding: Option<&str>,
    raw: &Bytes,
    chunk_lens: impl Iterator<Item = u64>,
) -> Decoded {
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    if encoding.is_empty() || encoding == "identity" || raw.is_empty() {
        return Decoded { bytes: raw.clone(), ..Decoded::default() };
    }
    let mut source = Chunked { raw, read: 0 };
    let (bytes, trace, problem) = match encoding.as_str() {
        "gzip" | "x-gzip" => drive(MultiGzDecoder::new(&mut source)),
        "deflate" if is_zlib(raw) => drive(ZlibDecoder::new(&mut source)),
        "deflate" => drive(DeflateDecoder::new(&mut source)),
        "br" => drive(Decompressor::new(&mut source, 4096)),
        "zstd" => match zstd::stream::read::Decoder::new(&mut source) {
            Ok(decoder) => drive(decoder),
            Err(error) => (Vec::new(), Vec::new(), Some(error.to_string())),
        },
        _ => {
            let problem = Some(format!("undecoded: content-encoding `{}`", printable(&encoding)));
            return Decoded { bytes: raw.clone(), ends: Vec::new(), problem };
        }
    };
    let problem = problem.map(|why| format!("undecoded: {} ({why})", printable(&encoding)));
    Decoded { ends: ends(&trace, chunk_lens, bytes.len()), bytes: bytes.into(), problem }
}

fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(40).collect()
}

/// A zlib header: compression method 8 and a checksum over two bytes (RFC 1950 §2.2).
fn is_zlib(raw: &[u8]) -> bool {
    matches!(raw, [first, second, ..]
        if first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0)
}

/// Hands out small pieces and knows how far it was read.
struct Chunked<'a> {
    raw: &'a [u8],
    read: usize,
}

/// A source that tells how much of it was read.
trait Position {
    fn position(&self) -> usize;
}

impl Read for Chunked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.raw.get(self.read..).unwrap_or_default();
        // Small steps keep the map from raw to decoded bytes fine enough for arrival times.
        let len = rest.len().min(buffer.len()).min(256);
        if let (Some(to), Some(from)) = (buffer.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        self.read += len;
        Ok(len)
    }
}

impl Position for MultiGzDecoder<&mut Chunked<'_>> {
    fn position(&self) -> usize {
        self.get_ref().read
    }
}

impl Position for ZlibDecoder<&mut Chunked<'_>> {
    fn position(&self) -> usize {
        self.get_ref().read
    }
}

impl Position for DeflateDecoder<&mut Chunked<'_>> {
    fn position(&self) -> usize {
        self.get_ref().read
    }
}

impl Position for Decompressor<&mut Chunked<'_>> {
    fn position(&self) -> usize {
        self.get_ref().read
    }
}

impl Position for zstd::stream::read::Decoder<'_, io::BufReader<&mut Chunked<'_>>> {
    fn position(&self) -> usize {
        self.get_ref().get_ref().read
    }
}

/// (raw bytes read, decoded bytes known) after each step.
type Trace = Vec<(usize, usize)>;

fn drive(mut decoder: impl Read + Position) -> (Vec<u8>, Trace, Option<String>) {
    let (mut out, mut trace) = (Vec::new(), Vec::new());
    let mut buffer = [0; STEP_BYTES];
    loop {
        let len = match decoder.read(&mut buffer) {
            Ok(0) => return (out, trace, None),
            Ok(len) => len,
            Err(error) => return (out, trace, Some(error.to_string())),
        };
        out.extend_from_slice(buffer.get(..len).unwrap_or_default());
        trace.push((decoder.position(), out.len()));
        let allowed = FREE_BYTES.max(decoder.position().saturating_mul(RATIO_MAX));
        if out.len() > DECODED_BYTES_MAX.min(allowed) {
            return (out, trace, Some("too large when decoded".to_owned()));
        }
    }
}

/// Decoded length after each chunk: what had come out once that much was read.
fn ends(trace: &Trace, chunk_lens: impl Iterator<Item = u64>, decoded: usize) -> Vec<u64> {
    let (mut raw, mut step, mut known) = (0_u64, trace.iter().peekable(), 0);
    let mut ends: Vec<u64> = chunk_lens
        .map(|len| {
            raw = raw.saturating_add(len);
            while let Some((read, out)) = step.peek() {
                if u64::try_from(*read).is_ok_and(|read| read > raw) {
                    break;
                }
                known = *out;
                step.next();
            }
            u64::try_from(known).unwrap_or(u64::MAX)
        })
        .collect();
    if let Some(last) = ends.last_mut() {
        *last = u64::try_from(decoded).unwrap_or(u64::MAX);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use std::io::Write;

    fn text() -> Vec<u8> {
        (0..2000).flat_map(|at| format!("event {at}: some words\n").into_bytes()).collect()
    }

    fn encoded(encoding: &str, bytes: &[u8]) -> Bytes {
        let level = Compression::default();
        match encoding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            "zlib" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            "deflate" => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            _ => zstd::stream::encode_all(bytes, 3).unwrap(),
        }
        .into()
    }

    #[test]
    fn each_encoding_is_undone() {
        for (name, as_header) in [
            ("gzip", "gzip"),
            ("gzip", "X-GZIP"),
            ("zlib", "deflate"),
            ("deflate", "deflate"),
            ("zstd", "zstd"),
        ] {
            let raw = encoded(name, &text());
            let half = u64::try_from(raw.len() / 2).unwrap();
            let rest = u64::try_from(raw.len()).unwrap() - half;
            let decoded = decode(Some(as_header), &raw, [half, rest].into_iter());
            assert_eq!(decoded.bytes, text(), "{name}");
            assert_eq!(decoded.problem, None);
            assert_eq!(decoded.ends.len(), 2);
            assert_eq!(decoded.ends[1], u64::try_from(text().len()).unwrap());
            assert!(decoded.ends[0] < decoded.ends[1], "{name}: {:?}", decoded.ends);
        }
    }

    #[test]
    fn brotli_is_undone() {
        // "hello brotli" as one uncompressed meta-block, written by hand from RFC 7932 §9.2.
        let mut raw = vec![0x8b, 0x05, 0x80];
        raw.extend_from_slice(b"hello brotli");
        raw.push(0x03);
        let decoded = decode(Some("br"), &raw.into(), std::iter::empty());
        assert_eq!((decoded.bytes, decoded.problem), (Bytes::from_static(b"hello brotli"), None));
    }

    #[test]
    fn what_cannot_be_decoded_is_said() {
        let raw = encoded("gzip", &text());
        let cut = decode(Some("gzip"), &raw.slice(..raw.len() / 2), std::iter::empty());
        assert!(cut.problem.is_some());
        assert!(text().starts_with(&cut.bytes) && !cut.bytes.is_empty());
        let twice = decode(Some("gzip, gzip"), &raw, std::iter::empty());
        assert_eq!(twice.bytes, raw);
        assert!(twice.problem.unwrap().contains("gzip,gzip"));
        assert!(
            decode(Some("zstd"), &Bytes::from_static(b"no"), std::iter::empty()).problem.is_some()
        );
    }

    #[test]
    fn bombs_are_defused() {
        let bomb = encoded("zstd", &vec![0; 200 << 20]);
        let decoded = decode(Some("zstd"), &bomb, std::iter::empty());
        assert!(decoded.problem.unwrap().contains("too large"));
        assert!(decoded.bytes.len() <= DECODED_BYTES_MAX + STEP_BYTES);
    }
}
