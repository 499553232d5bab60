//! calltap: an OpenAI-compatible reverse proxy that captures every LLM call by itself.

pub mod api;
pub mod app;
pub mod cli;
pub mod codec;
pub mod config;
pub mod interpret;
pub mod metrics;
pub mod model;
pub mod pricing;
pub mod proxy;
pub mod query;
pub mod redact;
pub mod splice;
pub mod store;
