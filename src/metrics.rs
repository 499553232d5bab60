//! Counters and histograms of the process (SPEC §10, names of `ux.md` §10.2).
//!
//! No label comes from a caller: endpoints and upstreams are configured or built in, models are
//! limited in number.

use crate::model::{CostStatus, Outcome, Record, Timestamp};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use std::{
    collections::HashSet,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most (provider, model) pairs that get a label of their own; later ones are `other`.
const MODELS_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Calls {
    endpoint: String,
    upstream: String,
    status_class: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lost {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Priced {
    provider: String,
    model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkName {
    sink: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivered {
    sink: String,
    outcome: &'static str,
}

/// Every metric.
pub struct Metrics {
    registry: Registry,
    requests: Family<Calls, Counter>,
    refused: Family<Refused, Counter>,
    duration: Histogram,
    time_to_first_token: Histogram,
    time_per_output_token: Histogram,
    overhead: Histogram,
    tokens: Family<Kind, Counter>,
    cost: Counter<f64, AtomicU64>,
    inflight: Gauge,
    tasks: Gauge,
    capture_dropped: Family<Reason, Counter>,
    records_lost: Family<Lost, Counter>,
    metadata_refused: Counter,
    unpriced: Family<Priced, Counter>,
    models: Mutex<HashSet<(String, String)>>,
    sink_queue: Family<SinkName, Gauge>,
    sink_age: Family<SinkName, Gauge<f64, AtomicU64>>,
    sink_deliveries: Family<Delivered, Counter>,
    sink_dead: Family<SinkName, Gauge>,
    sink_paused: Family<SinkName, Gauge>,
    reload_ok: Gauge,
    reload_at: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.01, 2.0, 14));
        let fine = || Histogram::new(exponential_buckets(0.000_05, 2.0, 14));
        let mut metrics = Self {
            registry: Registry::with_prefix("calltap"),
            requests: Family::default(),
            refused: Family::default(),
            duration: seconds(),
            time_to_first_token: seconds(),
            time_per_output_token: fine(),
            overhead: fine(),
            tokens: Family::default(),
            cost: Counter::default(),
            inflight: Gauge::default(),
            tasks: Gauge::default(),
            capture_dropped: Family::default(),
            records_lost: Family::default(),
            metadata_refused: Counter::default(),
            unpriced: Family::default(),
            models: Mutex::default(),
            sink_queue: Family::default(),
            sink_age: Family::default(),
            sink_deliveries: Family::default(),
            sink_dead: Family::default(),
            sink_paused: Family::default(),
            reload_ok: Gauge::default(),
            reload_at: Gauge::default(),
        };
        metrics.register();
        metrics.config_reloaded(true);
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Calls that ended", self.requests.clone());
        let help = "Calls that calltap refused, by its code";
        registry.register("refused_requests", help, self.refused.clone());
        for (name, help, histogram) in [
            ("request_duration", "Request head to the end of the call", &self.duration),
            (
                "time_to_first_token",
                "Request head to the first output event",
                &self.time_to_first_token,
            ),
            ("time_per_output_token", "Mean over a stream", &self.time_per_output_token),
            ("overhead", "calltap's own time in a call", &self.overhead),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        registry.register("tokens", "Tokens as providers count them", self.tokens.clone());
        registry.register("cost_usd", "Known cost of calls", self.cost.clone());
        registry.register("inflight_requests", "Calls that are running", self.inflight.clone());
        registry.register("runtime_tasks", "Tasks of the async runtime", self.tasks.clone());
        let help = "Calls that were not recorded, or not in full";
        registry.register("capture_dropped", help, self.capture_dropped.clone());
        let help = "Records lost for good, also in earlier runs";
        registry.register("records_lost", help, self.records_lost.clone());
        let help = "Calls with metadata that was refused";
        registry.register("metadata_refused", help, self.metadata_refused.clone());
        registry.register("unpriced_calls", "Calls without a known price", self.unpriced.clone());
        self.register_sinks();
        let registry = &mut self.registry;
        let help = "Whether the configuration in force is the newest";
        registry.register("config_last_reload_successful", help, self.reload_ok.clone());
        let name = "config_last_reload_success_timestamp";
        let help = "When the configuration was last read";
        registry.register_with_unit(name, help, Unit::Seconds, self.reload_at.clone());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
    }

    fn register_sinks(&mut self) {
        let registry = &mut self.registry;
        let help = "Records that wait for a sink";
        registry.register("sink_queue_records", help, self.sink_queue.clone());
        let (name, help) = ("sink_oldest_record_age", "Age of the oldest of them");
        registry.register_with_unit(name, help, Unit::Seconds, self.sink_age.clone());
        let help = "Records by what became of them, and requests tried again";
        registry.register("sink_deliveries", help, self.sink_deliveries.clone());
        let help = "Records that a sink refuses";
        registry.register("sink_dead_letters", help, self.sink_dead.clone());
        let help = "Whether delivery stands still until someone looks";
        registry.register("sink_paused", help, self.sink_paused.clone());
    }

    /// What became of records, or of a request.
    pub fn sink_delivery(&self, sink: &str, outcome: &'static str, count: u64) {
        let label = Delivered { sink: sink.to_owned(), outcome };
        self.sink_deliveries.get_or_create(&label).inc_by(count);
    }

    /// How a sink is doing.
    pub fn sink_state(&self, sink: &str, queue: u64, oldest_s: f64, dead: u64, paused: bool) {
        let label = SinkName { sink: sink.to_owned() };
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.sink_queue.get_or_create(&label).set(number(queue));
        self.sink_age.get_or_create(&label).set(oldest_s);
        self.sink_dead.get_or_create(&label).set(number(dead));
        self.sink_paused.get_or_create(&label).set(i64::from(paused));
    }

    /// A call was accepted.
    pub fn call_started(&self) {
        self.inflight.inc();
    }

    /// A call ended (recorded or not).
    pub fn call_ended(&self) {
        self.inflight.dec();
    }

    /// A record was made. Runs off the request path.
    pub fn recorded(&self, record: &Record) {
        self.requests
            .get_or_create(&Calls {
                endpoint: record.endpoint.as_str().to_owned(),
                upstream: record.upstream.clone(),
                status_class: class(record.status),
                outcome: record.outcome.as_str(),
            })
            .inc();
        let code = record.error.as_ref().and_then(|error| error.code.clone());
        if let Some(code) = code.filter(|_| record.outcome == Outcome::Refused) {
            // One of calltap's own, of which there are few.
            self.refused.get_or_create(&Refused { code }).inc();
        }
        let timing = &record.timing;
        self.duration.observe(timing.latency_ms / 1000.0);
        self.overhead.observe(timing.overhead_ms / 1000.0);
        if let Some(ttft) = timing.ttft_ms {
            self.time_to_first_token.observe(ttft / 1000.0);
        }
        if let Some(speed) = timing.output_tokens_per_second.filter(|speed| *speed > 0.0) {
            self.time_per_output_token.observe(1.0 / speed);
        }
        self.spent(record);
    }

    /// Counts what a record says was used: that of a call, or of a message that has no call of its own.
    pub fn spent(&self, record: &Record) {
        let usage = &record.usage;
        for (kind, count) in [
            ("input", usage.input),
            ("output", usage.output),
            ("cache_read", usage.input_cached),
            ("reasoning", usage.output_reasoning),
        ] {
            if let Some(count) = count.filter(|count| *count > 0) {
                self.tokens.get_or_create(&Kind { kind }).inc_by(count);
            }
        }
        if let Some(total) =
            record.cost.total.as_deref().and_then(|total| total.parse::<f64>().ok())
        {
            self.cost.inc_by(total);
        }
        if record.cost.status == CostStatus::Unpriced && record.outcome == Outcome::Completed {
            self.unpriced.get_or_create(&self.priced_label(record)).inc();
        }
    }

    /// Models are named by providers and callers: only so many get a label of their own.
    fn priced_label(&self, record: &Record) -> Priced {
        let model = record.model.served.as_ref().or(record.model.requested.as_ref());
        let model: String = model.map(|model| model.chars().take(80).collect()).unwrap_or_default();
        let pair = (record.provider.clone(), model);
        let known = self.models.lock().is_ok_and(|mut models| {
            models.contains(&pair) || (models.len() < MODELS_MAX && models.insert(pair.clone()))
        });
        let (provider, model) = if known { pair } else { (pair.0, "other".to_owned()) };
        Priced { provider, model }
    }

    /// A call was not recorded, or not in full.
    pub fn capture_dropped(&self, reason: &'static str) {
        self.capture_dropped.get_or_create(&Reason { reason }).inc();
    }

    /// Records lost for good, by reason, as the store counts them: over all runs.
    pub fn records_lost(&self, lost: &[(String, u64)]) {
        for (reason, count) in lost {
            let label = Lost { reason: reason.clone() };
            self.records_lost.get_or_create(&label).inner().store(*count, Ordering::Relaxed);
        }
    }

    /// Metadata of a call was refused.
    pub fn metadata_refused(&self) {
        self.metadata_refused.inc();
    }

    /// The configuration was reloaded, or was not.
    pub fn config_reloaded(&self, ok: bool) {
        self.reload_ok.set(i64::from(ok));
        if ok {
            self.reload_at.set(Timestamp::now().0 / 1_000_000);
        }
    }

    /// The `OpenMetrics` text format.
    pub fn render(&self) -> String {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let tasks = runtime.metrics().num_alive_tasks();
            self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        encode(&mut text, &self.registry).ok();
        text
    }
}

fn class(status: Option<u16>) -> &'static str {
    match status.map(|status| status / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Head;

    fn record(model: &str) -> Record {
        let mut record = crate::interpret::begun(&Head::default());
        record.outcome = Outcome::Completed;
        record.status = Some(200);
        record.provider = "openai".into();
        record.model.served = Some(model.into());
        record.usage.input = Some(10);
        record.timing.ttft_ms = Some(400.0);
        record.cost.total = Some("0.25".into());
        record
    }

    #[test]
    fn names_and_values() {
        let metrics = Metrics::default();
        metrics.call_started();
        metrics.recorded(&record("m"));
        metrics.capture_dropped("recorder_full");
        metrics.records_lost(&[("recorder".into(), 7)]);
        let text = metrics.render();
        for line in [
            "calltap_requests_total{endpoint=\"\",upstream=\"\",status_class=\"2xx\",outcome=\"completed\"} 1",
            "calltap_tokens_total{kind=\"input\"} 10",
            "calltap_cost_usd_total 0.25",
            "calltap_inflight_requests 1",
            "calltap_time_to_first_token_seconds_count 1",
            "calltap_capture_dropped_total{reason=\"recorder_full\"} 1",
            "calltap_records_lost_total{reason=\"recorder\"} 7",
            "calltap_config_last_reload_successful 1",
            "calltap_build_info{version=\"0.1.0\"} 1",
        ] {
            assert!(text.contains(line), "{line} in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_do_not_grow_without_end() {
        let metrics = Metrics::default();
        for at in 0..1000 {
            let mut record = record(&format!("model-{at}"));
            record.cost.status = CostStatus::Unpriced;
            metrics.recorded(&record);
        }
        let lines = metrics.render().matches("calltap_unpriced_calls_total{").count();
        assert_eq!(lines, MODELS_MAX + 1);
    }
}
