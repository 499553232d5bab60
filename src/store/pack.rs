//! Packing of bodies: zstd level 1 where it helps, and a checksum over what is stored.

use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

/// Smaller bodies are stored as they are: nothing to win, and `sqlite3` can show them.
const MIN_PACKED: usize = 512;
/// Largest body that is unpacked; guards memory against a damaged frame.
const MAX_UNPACKED: usize = 1 << 30;

/// A body as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Raw or zstd bytes.
    pub data: Vec<u8>,
    /// Whether `data` is a zstd frame.
    pub zstd: bool,
    /// CRC-32 of `data`.
    pub crc: u32,
}

/// Packs a body. Costs about 25 µs for 8 KB; call it off the request path.
pub fn pack(raw: &[u8]) -> Packed {
    let smaller = (raw.len() >= MIN_PACKED)
        .then(|| compress(raw))
        .flatten()
        .filter(|packed| packed.len() < raw.len());
    let zstd = smaller.is_some();
    let data = smaller.unwrap_or_else(|| raw.to_vec());
    let crc = crc(&data);
    Packed { data, zstd, crc }
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
        let mut packed = pack(&b"some words ".repeat(500));
        assert!(packed.zstd);
        packed.data[20] ^= 1;
        assert!(unpack(&packed.data, packed.zstd, packed.crc).is_err());
    }

    proptest! {
        #[test]
        fn packing_round_trips(raw in prop::collection::vec(any::<u8>(), 0..3000)) {
            let packed = pack(&raw);
            prop_assert_eq!(unpack(&packed.data, packed.zstd, packed.crc).unwrap(), raw);
        }
    }
}
