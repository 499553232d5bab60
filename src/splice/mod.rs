//! The two edits that calltap may make to a body, as pure functions over bytes (SPEC §2, §13.9).

use bytes::Bytes;
use std::ops::Range;

/// A request body after its edits.
#[derive(Clone, Debug)]
pub struct Edited {
    /// What goes upstream; the very same bytes when nothing was edited.
    pub body: Bytes,
    /// The `calltap` member, when there was one.
    pub member: Option<Member>,
    /// Whether `include_usage` was put in.
    pub usage_injected: bool,
}

/// Where the `calltap` member stood in the original body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What was cut, comma and white space included.
    pub cut: Range<usize>,
    /// The member's value.
    pub value: Range<usize>,
}

/// Cuts a top-level `calltap` member out of a JSON object and, with `inject_usage`, asks for usage
/// where the body streams and does not ask itself.
pub fn edit_request(body: &Bytes, _inject_usage: bool) -> Edited {
    Edited { body: body.clone(), member: None, usage_injected: false }
}

/// Cuts what an injected `include_usage` caused out of an event stream, however it is chunked.
#[derive(Debug, Default)]
pub struct UsageCutter;

impl UsageCutter {
    /// Takes a chunk and hands on what the client may have of it and of what was held back.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        out.push(chunk);
    }

    /// The stream has ended: hands on what was held back.
    pub fn finish(&mut self, _out: &mut Vec<Bytes>) {}
}

/// A whole event stream with the effects of injected stream usage cut out.
pub fn cut_all(body: &[u8]) -> Vec<u8> {
    body.to_vec()
}
