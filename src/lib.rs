//! calltap: an OpenAI-compatible reverse proxy that captures every LLM call by itself.

pub mod api;
pub mod app;
pub mod assistants;
pub mod check;
pub mod cli;
pub mod codec;
pub mod config;
pub mod content;
pub mod counted;
pub mod delivery;
pub mod interpret;
pub mod lineage;
pub mod metrics;
pub mod model;
pub mod pricing;
pub mod proxy;
pub mod query;
pub mod recorder;
pub mod redact;
pub mod rederive;
pub mod server;
pub mod sink;
pub mod splice;
pub mod store;
pub mod telemetry;
pub mod tokens;
