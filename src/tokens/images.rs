//! What images cost (`openai-surface.md` §20.4): by their size, which stands in the first bytes of a
//! data URL. Images elsewhere are not fetched.

use super::{Notes, family::Images};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Base64 characters looked at for the size; a JPEG may have a preview before it.
const HEAD_CHARS_MAX: usize = 256 << 10;
/// Size taken where none can be read.
const USUAL: (u64, u64) = (1024, 1024);
/// Most patches billed.
const PATCHES_MAX: u64 = 1536;

/// Tokens of the image at `url`.
pub(super) fn count(url: &str, detail: &str, rule: Images, notes: &mut Notes) -> u64 {
    notes.add("images are counted by rule of thumb");
    let (width, height) = size(url).unwrap_or_else(|| {
        notes.add("the size of an image is unknown; 1024 × 1024 was taken");
        USUAL
    });
    match rule {
        Images::Tiles(base, _) if detail == "low" => base,
        Images::Tiles(base, tile) => {
            let (width, height) = fit(width, height);
            base + tile * width.div_ceil(512) * height.div_ceil(512)
        }
        Images::Patches(hundredths) => {
            let patches = width.div_ceil(32).saturating_mul(height.div_ceil(32));
            patches.clamp(1, PATCHES_MAX) * hundredths / 100
        }
    }
}

/// Within 2048 × 2048, then the shorter side within 768.
fn fit(width: u64, height: u64) -> (u64, u64) {
    let scale = |(width, height): (u64, u64), side: u64, max: u64| {
        if side <= max {
            return (width, height);
        }
        let part = |length: u64| (length.saturating_mul(max) / side).max(1);
        (part(width), part(height))
    };
    let size = scale((width, height), width.max(height), 2048);
    scale(size, size.0.min(size.1), 768)
}

/// Width and height of a PNG, GIF, JPEG or WebP in a data URL.
fn size(url: &str) -> Option<(u64, u64)> {
    let (_, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    let head = data.get(..data.len().min(HEAD_CHARS_MAX) / 4 * 4)?;
    let bytes = STANDARD.decode(head).ok()?;
    let size = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => (big(&bytes, 16, 4)?, big(&bytes, 20, 4)?),
        [b'G', b'I', b'F', ..] => (little(&bytes, 6, 2)?, little(&bytes, 8, 2)?),
        [0xFF, 0xD8, ..] => jpeg(&bytes)?,
        [b'R', b'I', b'F', b'F', ..] => webp(&bytes)?,
        _ => return None,
    };
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// The first frame header among the segments.
fn jpeg(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut at = 2;
    loop {
        let marker = *bytes.get(at + 1)?;
        if *bytes.get(at)? != 0xFF {
            return None;
        }
        match marker {
            0xFF => at += 1,
            0xC4 | 0xC8 | 0xCC => at += 2 + usize::try_from(big(bytes, at + 2, 2)?).ok()?,
            0xC0..=0xCF => return Some((big(bytes, at + 7, 2)?, big(bytes, at + 5, 2)?)),
            0x01 | 0xD0..=0xD9 => at += 2,
            _ => at += 2 + usize::try_from(big(bytes, at + 2, 2)?).ok()?,
        }
    }
}

fn webp(bytes: &[u8]) -> Option<(u64, u64)> {
    match bytes.get(12..16)? {
        b"VP8 " => Some((little(bytes, 26, 2)? & 0x3FFF, little(bytes, 28, 2)? & 0x3FFF)),
        b"VP8L" => {
            let bits = little(bytes, 21, 4)?;
            Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        }
        b"VP8X" => Some((little(bytes, 24, 3)? + 1, little(bytes, 27, 3)? + 1)),
        _ => None,
    }
}

fn big(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(len)?)?;
    Some(part.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn little(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(len)?)?;
    Some(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(bytes: &[u8]) -> String {
        format!("data:image/any;base64,{}", STANDARD.encode(bytes))
    }

    #[test]
    fn sizes_are_read_from_the_first_bytes() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\0\0\0\x01\0\x08\x06";
        assert_eq!(size(&url(png)), Some((512, 256)));
        assert_eq!(size(&url(b"GIF89a\x10\0\x20\0\0\0")), Some((16, 32)));
        let jpeg = b"\xFF\xD8\xFF\xE0\0\x04ab\xFF\xC2\0\x11\x08\x01\0\x02\0\x03";
        assert_eq!(size(&url(jpeg)), Some((512, 256)));
        let webp = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xFF\x01\0\xFF\0\0\0";
        assert_eq!(size(&url(webp)), Some((512, 256)));
        for bad in
            ["", "https://example.org/a.png", "data:image/png;base64,!!!!", "data:;base64,iVBORw0K"]
        {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!(size(&url(b"\xFF\xD8\xFF")), None);
    }

    #[test]
    fn tiles_and_patches() {
        let mut notes = Notes::default();
        let mut tokens =
            |detail, rule| count("https://example.org/a.png", detail, rule, &mut notes);
        assert_eq!(tokens("high", Images::Tiles(85, 170)), 765);
        assert_eq!(tokens("low", Images::Tiles(85, 170)), 85);
        assert_eq!(tokens("low", Images::Patches(162)), 1658);
        assert_eq!(fit(4096, 8192), (768, 1536));
    }
}
