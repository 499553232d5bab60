//! Websocket frames (RFC 6455 §5) and what `permessage-deflate` does to them (RFC 7692 §7.2), read
//! after the fact: the texts that crossed in one direction.

use crate::codec::notes::Notes;
use flate2::{Decompress, FlushDecompress, Status};

/// Most bytes of text read from one direction; what lies beyond is left out, with a note.
const TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest message, in bytes; a longer one is passed over.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a sender leaves off the end of a compressed message.
const DEFLATE_TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// Step in which a message is decompressed, in bytes.
const INFLATE_STEP: usize = 64 * 1024;

struct Frame<'a> {
    is_last: bool,
    is_compressed: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    payload: &'a [u8],
}

/// Hands every text message to `each`, joined and unmasked, in order.
///
/// A body that begins like JSON is a list of messages, one a line: the form in which messages are kept
/// where something in them was masked.
pub(crate) fn texts(bytes: &[u8], notes: &mut Notes, mut each: impl FnMut(&[u8], &mut Notes)) {
    if bytes.first() == Some(&b'{') {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        return lines.for_each(|line| each(line, notes));
    }
    let mut reader = Reader::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((frame, next)) = Frame::read(rest) else {
            notes.add("frame_cut_short");
            return;
        };
        rest = next;
        if !reader.take(&frame, notes, &mut each) {
            return;
        }
    }
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with, and what follows. `None` when it is not all there.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
        let (len, rest) = match second & 0x7F {
            126 => {
                let (len, rest) = rest.split_first_chunk::<2>()?;
                (u64::from(u16::from_be_bytes(*len)), rest)
            }
            127 => {
                let (len, rest) = rest.split_first_chunk::<8>()?;
                (u64::from_be_bytes(*len), rest)
            }
            len => (u64::from(len), rest),
        };
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            let (mask, rest) = rest.split_first_chunk::<4>()?;
            (Some(*mask), rest)
        };
        let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        let frame = Self {
            is_last: first & 0x80 != 0,
            is_compressed: first & 0x40 != 0,
            opcode: first & 0x0F,
            mask,
            payload,
        };
        Some((frame, rest))
    }
}

struct Reader {
    message: Vec<u8>,
    is_text: bool,
    is_compressed: bool,
    /// One for all messages: each may refer to those before it.
    inflate: Decompress,
    total: usize,
    is_too_long: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            message: Vec::new(),
            is_text: false,
            is_compressed: false,
            inflate: Decompress::new(false),
            total: 0,
            is_too_long: false,
        }
    }
}

impl Reader {
    /// Takes a frame; false when nothing more can be read.
    fn take(
        &mut self,
        frame: &Frame<'_>,
        notes: &mut Notes,
        each: &mut impl FnMut(&[u8], &mut Notes),
    ) -> bool {
        match frame.opcode {
            // Goes on with the message.
            0 => {}
            1 | 2 => {
                self.message.clear();
                self.is_text = frame.opcode == 1;
                self.is_compressed = frame.is_compressed;
                self.is_too_long = false;
            }
            // Close, ping and pong may stand between the frames of a message.
            8..=10 => return true,
            _ => {
                notes.add("frame_unreadable");
                return false;
            }
        }
        self.is_too_long |= self.message.len() + frame.payload.len() > MESSAGE_BYTES_MAX;
        if !self.is_too_long {
            let start = self.message.len();
            self.message.extend_from_slice(frame.payload);
            if let Some(mask) = frame.mask {
                let masked = self.message.iter_mut().skip(start);
                masked.zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
            }
        }
        if !frame.is_last {
            return true;
        }
        if self.is_too_long {
            notes.add("message_too_long");
            self.message.clear();
            // Later messages may refer to the one that is not there.
            return !self.is_compressed;
        }
        if self.is_compressed && !self.inflate() {
            notes.add("message_not_decompressed");
            return false;
        }
        self.total += self.message.len();
        if self.total > TEXT_BYTES_MAX {
            notes.add("messages_beyond_limit");
            return false;
        }
        if self.is_text {
            each(&self.message, notes);
        }
        true
    }

    fn inflate(&mut self) -> bool {
        let mut packed = std::mem::take(&mut self.message);
        packed.extend_from_slice(&DEFLATE_TAIL);
        let mut rest = packed.as_slice();
        loop {
            if self.message.len() > MESSAGE_BYTES_MAX {
                return false;
            }
            self.message.reserve(INFLATE_STEP);
            let (read, out) = (self.inflate.total_in(), self.message.len());
            let status =
                self.inflate.decompress_vec(rest, &mut self.message, FlushDecompress::Sync);
            let read = usize::try_from(self.inflate.total_in() - read).unwrap_or(rest.len());
            rest = rest.get(read..).unwrap_or_default();
            let moved = read > 0 || self.message.len() > out;
            match status {
                // A sender may end its stream with every message.
                Ok(Status::StreamEnd) => {
                    self.inflate.reset(false);
                    return true;
                }
                Ok(_) if rest.is_empty() && self.message.len() < self.message.capacity() => {
                    return true;
                }
                Ok(_) if moved => {}
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    /// A frame as a client (masked) or a server sends it.
    pub(crate) fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        let bit = if masked { 0x80 } else { 0 };
        match payload.len() {
            len @ 0..126 => out.push(bit | u8::try_from(len).unwrap()),
            len @ 126..65_536 => {
                out.push(bit + 126);
                out.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                out.push(bit + 127);
                out.extend_from_slice(&u64::try_from(len).unwrap().to_be_bytes());
            }
        }
        let mask = [7, 77, 177, 233];
        if masked {
            out.extend_from_slice(&mask);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            out.extend_from_slice(payload);
        }
        out
    }

    fn read(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
        let (mut found, mut notes) = (Vec::new(), Notes::default());
        texts(bytes, &mut notes, |text, _| found.push(String::from_utf8_lossy(text).into_owned()));
        (found, notes.into_lines())
    }

    #[test]
    fn messages_in_one_and_in_several_frames() {
        for masked in [true, false] {
            let long = "x".repeat(70_000);
            let bytes = [
                frame(0x81, masked, b"{\"a\":1}"),
                frame(0x01, masked, b"he"),
                frame(0x89, masked, b"ping"),
                frame(0x00, masked, b"ll"),
                frame(0x80, masked, b"o"),
                frame(0x82, masked, b"\xFF\x00"),
                frame(0x81, masked, "é".repeat(100).as_bytes()),
                frame(0x81, masked, long.as_bytes()),
                frame(0x88, masked, b"\x03\xE8"),
            ]
            .concat();
            let (found, notes) = read(&bytes);
            assert_eq!(found, ["{\"a\":1}", "hello", &"é".repeat(100), &long]);
            assert!(notes.is_empty());
            let (cut, notes) = read(&bytes[..bytes.len() - 20]);
            assert_eq!((cut.len(), notes), (3, vec!["frame_cut_short".to_owned()]));
        }
        assert_eq!(read(b"{\"a\":1}\n{\"b\":2}\n").0, ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(read(b"\x83\x00").1, ["frame_unreadable"]);
        let huge = [&[0x81, 127][..], &u64::MAX.to_be_bytes(), b"x"].concat();
        assert_eq!(read(&huge).1, ["frame_cut_short"]);
    }

    #[test]
    fn compressed_messages_with_and_without_a_window_of_their_own() {
        let texts = ["{\"type\":\"session.update\"}", "{\"type\":\"session.update\"}", ""];
        for takes_over in [true, false] {
            let mut compress = Compress::new(Compression::default(), false);
            let mut bytes = Vec::new();
            for text in texts {
                if !takes_over {
                    compress = Compress::new(Compression::default(), false);
                }
                let mut packed = Vec::with_capacity(1000);
                compress.compress_vec(text.as_bytes(), &mut packed, FlushCompress::Sync).unwrap();
                packed.truncate(packed.len() - DEFLATE_TAIL.len());
                let (head, tail) = packed.split_at(packed.len() / 2);
                bytes.extend(frame(0x41, true, head));
                bytes.extend(frame(0x80, true, tail));
            }
            let (found, notes) = read(&bytes);
            assert_eq!((found.as_slice(), notes), (&texts.map(str::to_owned)[..], vec![]));
        }
        assert_eq!(read(&frame(0xC1, false, b"\xFF\xFF\xFF")).1, ["message_not_decompressed"]);
        let mut packed = Vec::with_capacity(1 << 20);
        let zeros = vec![b' '; 64 << 20];
        Compress::new(Compression::best(), false)
            .compress_vec(&zeros, &mut packed, FlushCompress::Sync)
            .unwrap();
        assert_eq!(read(&frame(0xC1, false, &packed)).1, ["message_not_decompressed"]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }
    }
}
