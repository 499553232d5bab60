//! What the tests stand on: a scripted upstream that knows the truth, the binary, a raw client.

mod client;
mod server;
mod upstream;

pub use client::{Answer, Connection, connect_and_send, fetch, post};
pub use server::{Calltap, command, free_port};
pub use upstream::{Request, Step, Upstream, chat, json_answer, sse_answer};

/// A chat request.
pub fn chat_body(stream: bool) -> String {
    format!(
        r#"{{"model":"gpt-4o-mini","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
    )
}

/// A number from the environment, for the long runs.
pub fn count(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// So many places of `0..end`, spread over it, and each of the last few: there outcomes change.
pub fn places(count: usize, end: usize) -> Vec<usize> {
    let spread = (0..count.min(end)).map(|at| at * end / count.min(end));
    let mut places: Vec<usize> = spread.chain(end.saturating_sub(30)..end).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// A small generator of numbers, the same for the same seed.
pub struct Random(pub u64);

impl Random {
    /// The next number below `below`.
    pub fn below(&mut self, below: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    /// The next index of a list of `len`.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}
