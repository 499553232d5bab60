//! Content encodings of captured bodies: decoded for reading, never for forwarding.

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use std::{
    cell::Cell,
    io::{self, Read},
};

/// Most decoded bytes (`reliability.md` S14).
const DECODED_BYTES_MAX: usize = 16 << 20;
/// Beyond this many decoded bytes, …
const FREE_BYTES: usize = 1 << 20;
/// … a body may not be larger than so many times its encoded size.
const RATIO_MAX: usize = 200;
/// Beyond this many encoded bytes, …
const FREE_ENCODED_BYTES: usize = 64 << 10;
/// … a body may not be so many times larger than what it decodes to: no encoder's output is, and
/// endless empty blocks would cost time for nothing.
const SHRINK_MAX: usize = 64;
/// Largest window of a zstd frame, as a power of two (RFC 9659 §3).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Bytes decoded at once.
const STEP_BYTES: usize = 16 * 1024;
/// Encoded bytes read at once.
const READ_BYTES: usize = 4 * 1024;

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
    let named = encoding.unwrap_or_default();
    let mut layers = named
        .split(',')
        .map(str::trim)
        .filter(|layer| !layer.is_empty() && !layer.eq_ignore_ascii_case("identity"));
    let (Some(layer), false) = (layers.next(), raw.is_empty()) else {
        return Decoded { bytes: raw.clone(), ..Decoded::default() };
    };
    let layer = layer.to_ascii_lowercase();
    let chunks: Vec<u64> = chunk_lens.collect();
    let found = if layers.next().is_none() { run(&layer, raw, &chunks) } else { None };
    let Some((bytes, trace, problem)) = found else {
        let problem = Some(format!("undecoded: content-encoding `{}`", printable(named)));
        return Decoded { bytes: raw.clone(), ends: Vec::new(), problem };
    };
    let problem = problem.map(|why| format!("undecoded: {} ({why})", printable(named)));
    Decoded { ends: ends(&trace, &chunks, bytes.len()), bytes: bytes.into(), problem }
}

/// Undoes the encoding `name` (RFC 9110 §8.4.1, RFC 7932, RFC 8878); `None` where it is unknown.
fn run(name: &str, raw: &[u8], chunks: &[u64]) -> Option<Outcome> {
    let decoded = Cell::new(0);
    let mut source =
        Source { raw, chunks: chunks.iter(), read: 0, chunk_end: 0, decoded: &decoded };
    Some(match name {
        "gzip" | "x-gzip" => drive(MultiGzDecoder::new(&mut source), &decoded),
        "deflate" if is_zlib(raw) => {
            let found = drive(ZlibDecoder::new(&mut source), &decoded);
            // A raw deflate stream can look like a zlib header by chance.
            if found.0.is_empty() && found.2.is_some() { run(RAW, raw, chunks)? } else { found }
        }
        "deflate" | RAW => drive(DeflateDecoder::new(&mut source), &decoded),
        "br" => drive(Decompressor::new(&mut source, READ_BYTES), &decoded),
        "zstd" => {
            let decoder = zstd::stream::read::Decoder::new(&mut source).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(decoder)
            });
            match decoder {
                Ok(decoder) => drive(decoder, &decoded),
                Err(error) => (Vec::new(), Vec::new(), Some(error.to_string())),
            }
        }
        _ => return None,
    })
}

/// Deflate without the zlib wrapping, which some servers send under that name. No header value is
/// spelt like this.
const RAW: &str = "deflate, raw";

fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(40).collect()
}

/// A zlib header: compression method 8 and a checksum over two bytes (RFC 1950 §2.2).
fn is_zlib(raw: &[u8]) -> bool {
    matches!(raw, [first, second, ..]
        if first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0)
}

/// Hands out the encoded bytes, never past the end of a chunk: whatever is decoded then came with
/// the chunks handed out so far. Knows how far it was read.
#[derive(Debug)]
struct Source<'a> {
    raw: &'a [u8],
    chunks: std::slice::Iter<'a, u64>,
    read: usize,
    chunk_end: usize,
    /// Bytes decoded so far.
    decoded: &'a Cell<usize>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read > FREE_ENCODED_BYTES.max(self.decoded.get().saturating_mul(SHRINK_MAX)) {
            return Err(io::Error::other("almost nothing decoded"));
        }
        while self.chunk_end <= self.read {
            let Some(len) = self.chunks.next() else {
                self.chunk_end = usize::MAX;
                break;
            };
            let len = usize::try_from(*len).unwrap_or(usize::MAX);
            self.chunk_end = self.chunk_end.saturating_add(len);
        }
        let rest = self.raw.get(self.read..).unwrap_or_default();
        let room = buffer.len().min(self.chunk_end - self.read).min(READ_BYTES);
        let len = rest.len().min(room);
        if let (Some(to), Some(from)) = (buffer.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        self.read += len;
        Ok(len)
    }
}

/// A source that tells how much of it was read.
trait Position {
    fn position(&self) -> usize;
}

impl Position for MultiGzDecoder<&mut Source<'_>> {
    fn position(&self) -> usize {
        self.get_ref().read
    }
}

impl Position for ZlibDecoder<&mut Source<'_>> {
    fn position(&self) -> usize {
        self.get_ref().read
    }
}

impl Position for DeflateDecoder<&mut Source<'_>> {
    fn position(&self) -> usize {
        self.get_ref().read
    }
}

impl Position for Decompressor<&mut Source<'_>> {
    fn position(&self) -> usize {
        self.get_ref().read
    }
}

impl Position for zstd::stream::read::Decoder<'_, io::BufReader<&mut Source<'_>>> {
    fn position(&self) -> usize {
        self.get_ref().get_ref().read
    }
}

/// (raw bytes read, decoded bytes known) after each step.
type Trace = Vec<(usize, usize)>;
/// What was decoded, how it came, and why there is no more of it.
type Outcome = (Vec<u8>, Trace, Option<String>);

fn drive(mut decoder: impl Read + Position, decoded: &Cell<usize>) -> Outcome {
    let (mut out, mut trace) = (Vec::new(), Trace::new());
    let mut buffer = [0; STEP_BYTES];
    loop {
        let len = match decoder.read(&mut buffer) {
            Ok(0) => return (out, trace, None),
            Ok(len) => len,
            Err(error) => return (out, trace, Some(error.to_string())),
        };
        let by_ratio = decoder.position().saturating_mul(RATIO_MAX).max(FREE_BYTES);
        let room = DECODED_BYTES_MAX.min(by_ratio).saturating_sub(out.len());
        let come = buffer.get(..len.min(room)).unwrap_or_default();
        if out.len() + come.len() > FREE_BYTES.max(out.capacity()) {
            // All that may come, once: memory that is not written to is not taken, and a buffer that
            // doubles is there twice each time.
            out.reserve_exact(DECODED_BYTES_MAX - out.len());
        }
        out.extend_from_slice(come);
        decoded.set(out.len());
        match trace.last_mut() {
            Some((position, known)) if *position == decoder.position() => *known = out.len(),
            _ => trace.push((decoder.position(), out.len())),
        }
        if len > room {
            return (out, trace, Some("too large when decoded".to_owned()));
        }
    }
}

/// Decoded length after each chunk: what had come out once that much was read.
fn ends(trace: &Trace, chunks: &[u64], decoded: usize) -> Vec<u64> {
    let (mut raw, mut steps, mut known) = (0_u64, trace.iter().peekable(), 0);
    let mut ends = Vec::with_capacity(chunks.len());
    for len in chunks {
        raw = raw.saturating_add(*len);
        while let Some((_, out)) =
            steps.next_if(|(read, _)| u64::try_from(*read).is_ok_and(|read| read <= raw))
        {
            known = *out;
        }
        ends.push(u64::try_from(known).unwrap_or(u64::MAX));
    }
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
    use proptest::prelude::*;
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
    fn one_layer_is_undone_and_identity_is_none() {
        let raw = encoded("gzip", &text());
        for name in ["gzip, identity", " GZIP ,", "identity,gzip"] {
            let decoded = decode(Some(name), &raw, std::iter::empty());
            assert_eq!((decoded.bytes, decoded.problem), (text().into(), None), "{name}");
        }
        for name in [None, Some(""), Some("identity"), Some(" , ")] {
            let decoded = decode(name, &raw, [5, 6].into_iter());
            assert_eq!((decoded.bytes, decoded.problem), (raw.clone(), None));
            assert!(decoded.ends.is_empty());
        }
        let layers = "gzip, ".repeat(5_000);
        let decoded = decode(Some(&layers), &raw, std::iter::empty());
        assert_eq!(decoded.bytes, raw);
        assert!(decoded.problem.unwrap().len() < 100);
    }

    #[test]
    fn events_are_dated_by_the_chunk_they_came_in() {
        let (mut gzip, mut zstd) = (
            GzEncoder::new(Vec::new(), Compression::default()),
            zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap(),
        );
        let (mut of_gzip, mut of_zstd, mut expected, mut total) = (vec![], vec![], vec![], 0);
        for at in 0..50_u64 {
            let event = format!("data: {{\"at\":{}}}\n\n", at * at * 7919);
            total += u64::try_from(event.len()).unwrap();
            expected.push(total);
            gzip.write_all(event.as_bytes()).unwrap();
            gzip.flush().unwrap();
            of_gzip.push(gzip.get_ref().len());
            zstd.write_all(event.as_bytes()).unwrap();
            zstd.flush().unwrap();
            of_zstd.push(zstd.get_ref().len());
        }
        expected.push(total);
        for (name, raw, mut ends) in
            [("gzip", gzip.finish().unwrap(), of_gzip), ("zstd", zstd.finish().unwrap(), of_zstd)]
        {
            ends.push(raw.len());
            let starts = [&[0], &ends[..ends.len() - 1]].concat();
            let lens =
                ends.iter().zip(starts).map(|(end, start)| u64::try_from(end - start).unwrap());
            let decoded = decode(Some(name), &raw.into(), lens);
            assert_eq!(decoded.problem, None);
            assert_eq!(decoded.ends, expected, "{name}");
        }
    }

    #[test]
    fn several_members_are_one_body() {
        let raw = [&encoded("gzip", b"one ")[..], &encoded("gzip", b"two")[..]].concat();
        assert_eq!(decode(Some("gzip"), &raw.into(), std::iter::empty()).bytes, "one two");
    }

    #[test]
    fn a_raw_stream_that_looks_wrapped_is_undone() {
        // A stored block of RFC 1951 §3.2.4. The five padding bits, which mean nothing, and the
        // length make its first two bytes a valid zlib header.
        let mut raw = vec![0x78, 0x01, 0x00, 0xfe, 0xff, b'x'];
        raw.extend_from_slice(&[0x01, 0x00, 0x00, 0xff, 0xff]);
        assert!(is_zlib(&raw));
        assert_eq!(decode(Some("deflate"), &raw.into(), std::iter::empty()).bytes, "x");
    }

    #[test]
    fn bombs_are_defused() {
        let zeros = vec![0; 64 << 20];
        for (name, as_header) in [("zstd", "zstd"), ("gzip", "gzip"), ("zlib", "deflate")] {
            let bomb = encoded(name, &zeros);
            let decoded = decode(Some(as_header), &bomb, std::iter::empty());
            assert!(decoded.problem.unwrap().contains("too large"), "{name}");
            let allowed = FREE_BYTES.max(bomb.len() * RATIO_MAX).min(DECODED_BYTES_MAX);
            assert!(decoded.bytes.len() <= allowed, "{name}: {}", decoded.bytes.len());
        }
        let empty = encoded("gzip", b"").repeat(100_000);
        let decoded = decode(Some("gzip"), &empty.into(), std::iter::empty());
        assert!(decoded.problem.unwrap().contains("almost nothing"));
    }

    #[test]
    fn a_zstd_window_beyond_the_limit_is_refused() {
        // A frame header that asks for a window of 128 MiB (RFC 8878 §3.1.1.1), and an empty block.
        let raw = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
        let decoded = decode(Some("zstd"), &Bytes::copy_from_slice(&raw), std::iter::empty());
        assert!(decoded.problem.is_some());
    }

    proptest! {
        #[test]
        fn chunks_never_matter(
            name in prop::sample::select(vec!["gzip", "deflate", "br", "zstd"]),
            lens in prop::collection::vec(0..400_u64, 0..30),
            cut in 0..20_000_usize,
            noise: Option<(u16, u8)>,
        ) {
            let kind = if name == "deflate" { "zlib" } else { name };
            let mut raw = encoded(kind, &text()).to_vec();
            raw.truncate(cut);
            if let Some((at, byte)) = noise {
                let at = usize::from(at) % raw.len().max(1);
                raw.iter_mut().skip(at).take(1).for_each(|have| *have = byte);
            }
            let raw = Bytes::from(raw);
            let whole = decode(Some(name), &raw, std::iter::empty());
            let decoded = decode(Some(name), &raw, lens.iter().copied());
            if noise.is_none() {
                prop_assert!(decoded.bytes == whole.bytes && decoded.problem == whole.problem);
            } else {
                // How much came out before the broken place depends on the steps taken.
                let len = decoded.bytes.len().min(whole.bytes.len());
                prop_assert!(decoded.bytes[..len] == whole.bytes[..len]);
            }
            prop_assert!(decoded.ends.is_sorted());
            prop_assert_eq!(decoded.ends.len(), if raw.is_empty() { 0 } else { lens.len() });
            prop_assert!(name == "br" || noise.is_some() || text().starts_with(&decoded.bytes));
        }
    }
}
