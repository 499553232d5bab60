//! Packing of bodies: zstd level 1 where it helps, and a checksum over what is stored.

use bytes::Bytes;
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

/// Smaller bodies are stored as they are: nothing to win, and `sqlite3` can show them.
const MIN_PACKED: usize = 512;
/// Bytes of a body larger than [`LARGE`] that are tried first: audio and what is encoded already do not
/// pack, and packing needs as much memory again.
const SAMPLE: usize = 64 << 10;
const LARGE: usize = 1 << 20;
/// Largest body that is unpacked; guards memory against a damaged frame.
const MAX_UNPACKED: usize = 1 << 30;

/// A body as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Raw or zstd bytes.
    pub data: Bytes,
    /// Whether `data` is a zstd frame.
    pub zstd: bool,
    /// CRC-32 of `data`.
    pub crc: u32,
}

/// Packs a body, which is shared where it does not get smaller. Costs about 25 µs for 8 KB; call it off
/// the request path.
pub fn pack(raw: Bytes) -> Packed {
    let smaller = (raw.len() >= MIN_PACKED && may_pack(&raw))
        .then(|| compress(&raw))
        .flatten()
        .filter(|packed| packed.len() < raw.len());
    let zstd = smaller.is_some();
    let data = smaller.map_or(raw, |mut packed| {
        // It has room for a body that does not pack.
        packed.shrink_to_fit();
        packed.into()
    });
    let crc = crc(&data);
    Packed { data, zstd, crc }
}

/// Whether the middle of a large body gets smaller, by a 32nd at least.
fn may_pack(raw: &[u8]) -> bool {
    let middle = raw.len() / 2;
    let sample = raw.get(middle..middle + SAMPLE).filter(|_| raw.len() > LARGE);
    sample.is_none_or(|sample| {
        compress(sample).is_none_or(|packed| packed.len() < SAMPLE - SAMPLE / 32)
    })
}

fn compress(raw: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        /// Making one costs more than packing a small body.
        static COMPRESSOR: RefCell<Option<Compressor<'static>>> =
            RefCell::new(Compressor::new(1).ok());
    }
    COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(raw).ok())
}

/// The body again.
///
/// # Errors
/// What is wrong with the stored bytes.
pub fn unpack(data: &[u8], zstd: bool, stored_crc: u32) -> Result<Vec<u8>, &'static str> {
    if crc(data) != stored_crc {
        return Err("the stored bytes do not match their checksum");
    }
    if !zstd {
        return Ok(data.to_vec());
    }
    decompress(data).ok_or("the stored bytes do not unpack")
}

fn decompress(data: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        /// Making one costs more than unpacking a small body.
        static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> =
            RefCell::new(Decompressor::new().ok());
    }
    // Every frame that is written here says how long it is.
    let len = zstd::zstd_safe::get_frame_content_size(data).ok().flatten()?;
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_UNPACKED)?;
    DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.as_mut()?.decompress(data, len).ok())
}

/// CRC-32 of `data`.
pub(super) fn crc(data: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_changed_byte_is_noticed() {
        let packed = pack(b"some words ".repeat(500).into());
        assert!(packed.zstd);
        let mut data = packed.data.to_vec();
        data[20] ^= 1;
        assert!(unpack(&data, packed.zstd, packed.crc).is_err());
    }

    #[test]
    fn a_large_body_that_does_not_pack_is_shared() {
        let mut state = 1_u64;
        let noise = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let raw: Bytes = (0..=LARGE).map(noise).collect();
        let packed = pack(raw.clone());
        assert!(!packed.zstd && packed.data.as_ptr() == raw.as_ptr());
        assert!(pack(raw.iter().map(|byte| byte % 16).collect()).zstd);
    }

    proptest! {
        #[test]
        fn packing_round_trips(raw in prop::collection::vec(any::<u8>(), 0..3000)) {
            let packed = pack(raw.clone().into());
            prop_assert_eq!(unpack(&packed.data, packed.zstd, packed.crc).unwrap(), raw);
        }
    }
}
