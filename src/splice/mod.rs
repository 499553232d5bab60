//! The two edits that calltap may make to a body, as pure functions over bytes (SPEC §2, §13.9).
//!
//! Nothing is parsed into values or written anew: byte ranges are cut, a few bytes put in. A body that
//! does not look like the JSON object it should be is left alone.

mod cutter;
mod event;
mod json;
mod request;

pub use cutter::{UsageCutter, cut_all};
pub use request::{Edited, Member, edit_request};
