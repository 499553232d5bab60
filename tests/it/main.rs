//! The built binary over real sockets, against a scripted raw-socket upstream.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed step fails the test, and figures are printed"
)]

mod harness;

mod abort;
mod aliases;
mod api;
mod assistants;
mod cli;
mod clock;
mod counted;
mod delivery;
mod disk;
mod docs;
mod docs_run;
mod drops;
mod durability;
mod errors;
mod failpoints;
mod faults;
mod fidelity;
mod forward;
mod framing;
mod http2;
mod keys;
mod limits;
mod lineage;
mod lists;
mod matrix;
mod memory;
mod mixed;
mod overload;
mod owner;
mod pool;
mod power;
mod prices;
mod records;
mod rederive;
mod retention;
mod secrets;
mod security;
mod soak;
mod start;
mod stream;
mod tidy;
mod tokens;
mod truth;
mod tunnel;
mod upgrade;
mod wal;
