//! Multipart forms: the fields of a request, and of its files what they are called and how large they
//! are (`openai-surface.md` §10). The boundary is taken from the body: its first line is one.

use super::{notes::Notes, text::clip};
use memchr::memmem;
use serde_json::{Map, Value, json};

/// Most parts read.
const PARTS_MAX: usize = 1000;
/// Longest value of a field, in bytes.
const VALUE_BYTES_MAX: usize = 256 * 1024;
/// Longest name of a field or a file, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest head of a part, and longest line between parts (RFC 2046 §5.1.1: 70 characters and dashes).
const HEAD_BYTES_MAX: usize = 8 * 1024;
const DELIMITER_BYTES_MAX: usize = 80;

/// The fields of a form; `None` when the body is none.
pub(crate) fn read(body: &[u8], notes: &mut Notes) -> Option<Value> {
    let line = memmem::find(body.get(..DELIMITER_BYTES_MAX.min(body.len()))?, b"\r\n")?;
    let (delimiter, after) = body.split_at_checked(line)?;
    if delimiter.len() < 3 || !delimiter.starts_with(b"--") {
        return None;
    }
    let between = [b"\r\n".as_slice(), delimiter].concat();
    let finder = memmem::Finder::new(&between);
    let (mut fields, mut rest, mut count) = (Map::new(), after, 0);
    // Each part stands behind a delimiter's line end.
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        count += 1;
        if count > PARTS_MAX {
            notes.add("form_parts_beyond_limit");
            break;
        }
        let end = finder.find(part);
        let (part, next) = part.split_at(end.unwrap_or(part.len()));
        add(&mut fields, part, end.is_none(), notes);
        rest = next.get(between.len()..).unwrap_or_default();
        if end.is_none() {
            notes.add("form_cut_short");
        }
    }
    Some(Value::Object(fields))
}

fn add(fields: &mut Map<String, Value>, part: &[u8], is_cut: bool, notes: &mut Notes) {
    let window = part.get(..HEAD_BYTES_MAX.min(part.len())).unwrap_or_default();
    let Some(end) = memmem::find(window, b"\r\n\r\n") else {
        if !is_cut {
            notes.add("form_part_unreadable");
        }
        return;
    };
    let head = String::from_utf8_lossy(part.get(..end).unwrap_or_default());
    let value = part.get(end + 4..).unwrap_or_default();
    let header = |name: &str| {
        head.split("\r\n").find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let disposition = header("content-disposition").unwrap_or_default();
    let Some(name) = parameter(&disposition, "name") else {
        return notes.add("form_part_unreadable");
    };
    let file = parameter(&disposition, "filename");
    let kind = header("content-type");
    let text = std::str::from_utf8(value).ok();
    let value = match text {
        Some(text) if file.is_none() => Value::String(clip(text, VALUE_BYTES_MAX)),
        _ => json!({"filename": file, "content_type": kind, "bytes": value.len()}),
    };
    let (name, is_list) = match name.strip_suffix("[]") {
        Some(name) => (name.to_owned(), true),
        None => (name, false),
    };
    match fields.get_mut(&name) {
        Some(Value::Array(list)) => list.push(value),
        Some(old) => *old = Value::Array(vec![old.take(), value]),
        None => {
            let value = if is_list { Value::Array(vec![value]) } else { value };
            fields.insert(name, value);
        }
    }
}

/// A parameter of a `Content-Disposition`, quoted or not.
fn parameter(disposition: &str, wanted: &str) -> Option<String> {
    let mut rest = disposition.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, next) = if let Some(quoted) = after.trim_start().strip_prefix('"') {
            quoted_text(quoted)
        } else {
            let (value, next) = after.split_once(';').unwrap_or((after, ""));
            (value.trim().to_owned(), next)
        };
        if name.trim().trim_start_matches(';').trim().eq_ignore_ascii_case(wanted) {
            return Some(clip(&value, NAME_BYTES_MAX));
        }
        rest = next;
    }
}

/// The text up to the closing quote, and what follows the next semicolon.
fn quoted_text(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let rest = text.get(at + 1..).unwrap_or_default();
                return (value, rest.split_once(';').map_or("", |(_, next)| next));
            }
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(body: &[u8]) -> (Option<Value>, Vec<String>) {
        let mut notes = Notes::default();
        (read(body, &mut notes), notes.into_lines())
    }

    #[test]
    fn fields_and_files() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"..\\\\a;\\\"b.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\xFF\r\n--\0\r\n--x\r\n\
            Content-Disposition: form-data; name=\"timestamp_granularities[]\"\r\n\r\nword\r\n--x\r\n\
            Content-Disposition: form-data; name=prompt\r\n\r\nline\r\nline\r\n--x--\r\n";
        let (fields, notes) = form(body);
        assert_eq!(
            fields.unwrap(),
            json!({"model": "whisper-1", "file": {"filename": "..\\a;\"b.mp3", "content_type": "audio/mpeg", "bytes": 6},
                "timestamp_granularities": ["word"], "prompt": "line\r\nline"})
        );
        assert!(notes.is_empty());
    }

    #[test]
    fn what_is_broken() {
        let cut =
            b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n123";
        assert_eq!(form(cut).0.unwrap()["file"]["bytes"], 3);
        assert_eq!(form(cut).1, ["form_cut_short"]);
        let nameless = b"--x\r\nX: y\r\n\r\n1\r\n--x\r\nno head\r\n--x--";
        assert_eq!(
            form(nameless),
            (Some(json!({})), vec!["form_part_unreadable (2 times)".to_owned()])
        );
        for none in [&b""[..], b"--", b"--\r\n", b"x\r\n", b"{\"a\":1}\r\n"] {
            assert_eq!(form(none).0, None);
        }
        let many =
            b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n".repeat(100_000);
        let (fields, notes) = form(&[&many[..], b"--x--\r\n"].concat());
        assert_eq!(fields.unwrap()["a"].as_array().map(Vec::len), Some(PARTS_MAX));
        assert_eq!(notes, ["form_parts_beyond_limit"]);
    }

    proptest! {
        #[test]
        fn never_panics(body in r#"--x\r\n((Content-Disposition: form-data; |name=|"|;|\\|a|\r\n|\r\n\r\n|--x|--|=|é)){0,30}"#, cut in any::<prop::sample::Index>()) {
            let bytes = body.as_bytes();
            form(&bytes[..cut.index(bytes.len() + 1)]);
        }
    }
}
