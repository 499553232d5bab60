//! Counters and histograms of the process (SPEC §10).

use crate::model::Record;

/// Every metric.
#[derive(Debug, Default)]
pub struct Metrics;

impl Metrics {
    /// A call was accepted.
    pub fn call_started(&self) {}
    /// A call ended (recorded or not).
    pub fn call_ended(&self) {}
    /// A record was made.
    pub fn recorded(&self, _record: &Record) {}
    /// A call was not recorded, or not in full.
    pub fn capture_dropped(&self, _reason: &'static str) {}
    /// Metadata of a call was refused.
    pub fn metadata_refused(&self) {}
    /// A group commit took so long.
    pub fn store_write(&self, _took: std::time::Duration) {}
    /// The configuration was reloaded, or was not.
    pub fn config_reloaded(&self, _ok: bool) {}
    /// The exposition format.
    pub fn render(&self) -> String {
        String::new()
    }
}
