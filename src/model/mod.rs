//! Plain data that every floor shares: what crossed the wire, what it meant, what is kept.
//!
//! Nothing here reads a clock, does I/O or awaits.

pub mod endpoint;
pub mod exchange;
pub mod leb128;
pub mod record;
pub mod secret;
pub mod tags;
pub mod time;

pub use endpoint::Endpoint;
pub use exchange::{Body, ChunkLog, End, Exchange, Head, Hold};
pub use record::{
    CallError, Client, Cost, CostLine, CostStatus, Headers, Model, Outcome, PriceRef, Prompts,
    Record, Replaced, Sizes, Timing, Trace, Usage, UsageSource,
};
pub use secret::Secret;
pub use tags::Tags;
pub use time::Timestamp;
