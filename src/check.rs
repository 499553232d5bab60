//! What a configuration must hold beyond its types.

use crate::{
    config::{Config, Fault, Key, Upstream},
    delivery,
    proxy::{REQUESTS_PER_MINUTE_MAX, Upstreams, is_taken},
    redact::Redactor,
    telemetry,
};
use std::collections::BTreeSet;

/// Everything that is wrong with `config`.
pub fn check(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    doors(config, &mut faults);
    keys(config, &mut faults);
    upstreams(config, &mut faults);
    limits(config, &mut faults);
    if let Err(why) = Redactor::new(&config.capture.redact) {
        faults.push(Fault::at("capture.redact", why));
    }
    if let Err(why) = telemetry::filter(&config.log.level) {
        faults.push(Fault::at("log.level", format!("`log.level`: {why}")));
    }
    faults.extend(delivery::faults(config));
    faults
}

/// An address that others can reach is not opened without a door.
fn doors(config: &Config, faults: &mut Vec<Fault>) {
    let server = &config.server;
    if !server.listen.ip().is_loopback() && config.auth.keys.is_empty() {
        faults.push(Fault {
            hint: Some("add auth.keys, or listen on 127.0.0.1".to_owned()),
            ..Fault::at(
                "server.listen",
                format!("{} can be reached by others, and no auth.keys are set", server.listen),
            )
        });
    }
    let admin = server.admin_listen.unwrap_or(server.listen);
    if !admin.ip().is_loopback() && config.auth.admin_token.is_none() {
        let key =
            if server.admin_listen.is_some() { "server.admin_listen" } else { "server.listen" };
        faults.push(Fault {
            hint: Some("set auth.admin_token, or move it with admin_listen".to_owned()),
            ..Fault::at(
                key,
                format!("dashboard and API on {admin} can be reached by others, and no auth.admin_token is set"),
            )
        });
    }
}

fn keys(config: &Config, faults: &mut Vec<Fault>) {
    let mut names = BTreeSet::new();
    for (at, key) in config.auth.keys.iter().enumerate() {
        let path = format!("auth.keys[{at}]");
        if key.name.trim().is_empty() || !names.insert(&key.name) {
            let message = format!("the key name `{}` is empty or used twice", key.name);
            faults.push(Fault::at(path.clone(), message));
        }
        if key.sha256.len() != 64 || !key.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            let hint = "printf %s \"$KEY\" | sha256sum".to_owned();
            let message = format!("the key `{}` needs a sha256 of 64 hex digits", key.name);
            faults.push(Fault { hint: Some(hint), ..Fault::at(path.clone(), message) });
        }
        key_limits(config, key, &path, faults);
    }
}

/// What a key is limited to must be there, and leave room for a call.
fn key_limits(config: &Config, key: &Key, path: &str, faults: &mut Vec<Fault>) {
    for (name, limit) in [
        ("max_parallel_requests", key.max_parallel_requests.map(u64::from)),
        ("requests_per_minute", key.requests_per_minute.map(u64::from)),
        ("budget_per_day", key.budget_per_day.map(|budget| budget.0)),
    ] {
        if limit == Some(0) {
            let message = format!("`{name}` of the key `{}` must be more than zero", key.name);
            let hint = Some("leave it out for no limit".to_owned());
            faults.push(Fault { hint, ..Fault::at(format!("{path}.{name}"), message) });
        }
    }
    if key.requests_per_minute.is_some_and(|limit| limit > REQUESTS_PER_MINUTE_MAX) {
        let message = format!("`requests_per_minute` is at most {REQUESTS_PER_MINUTE_MAX}");
        faults.push(Fault::at(format!("{path}.requests_per_minute"), message));
    }
    let Some(named) = &key.upstreams else { return };
    let path = format!("{path}.upstreams");
    if named.is_empty() {
        let message = format!("the key `{}` may call no upstream", key.name);
        let hint = Some("leave `upstreams` out to allow all".to_owned());
        faults.push(Fault { hint, ..Fault::at(path.clone(), message) });
    }
    // Where upstreams are at fault themselves, that is told elsewhere.
    let Ok(known) = Upstreams::new(config) else { return };
    for name in named.iter().filter(|name| known.named(name).is_none()) {
        let message = format!("the key `{}` names `{name}`, which is no upstream", key.name);
        let names = known.names().collect::<Vec<_>>().join(", ");
        let hint = Some(format!("known are: {names}"));
        faults.push(Fault { hint, ..Fault::at(path.clone(), message) });
    }
}

fn upstreams(config: &Config, faults: &mut Vec<Fault>) {
    let defaults: Vec<&String> = config
        .upstreams
        .iter()
        .filter(|(_, upstream)| upstream.default == Some(true))
        .map(|(name, _)| name)
        .collect();
    if let [first, second, ..] = defaults.as_slice() {
        let message = format!("both `{first}` and `{second}` are the default upstream");
        faults.push(Fault::at(format!("upstreams.{second}.default"), message));
    }
    // One at a time, so that each fault is told.
    for (name, upstream) in &config.upstreams {
        let mut one = Config::default();
        one.upstreams.insert(name.clone(), Upstream { default: None, ..upstream.clone() });
        if is_taken(name) {
            let message = format!(
                "the name `{name}` is no use for an upstream: /{name}/… is a path of calltap's own or of the default upstream's API"
            );
            faults.push(Fault::at(format!("upstreams.{name}"), message));
        }
        if let Err(why) = Upstreams::new(&one) {
            let has_url = upstream.base_url.is_some();
            let key = if has_url { ".base_url" } else { "" };
            faults.push(Fault::at(format!("upstreams.{name}{key}"), why));
        }
    }
}

fn limits(config: &Config, faults: &mut Vec<Fault>) {
    let mut limits = vec![
        ("server.max_body".to_owned(), config.server.max_body.0 == 0),
        ("server.header_timeout".to_owned(), config.server.header_timeout.0.is_zero()),
        ("server.max_connections".to_owned(), config.server.max_connections == 0),
        ("capture.max_memory".to_owned(), config.capture.max_memory.0 == 0),
        ("capture.max_body".to_owned(), config.capture.max_body.0 == 0),
        ("store.max_size".to_owned(), config.store.max_size.0 == 0),
        ("store.keep_bodies".to_owned(), config.store.keep_bodies.0.is_zero()),
        ("store.keep_calls".to_owned(), config.store.keep_calls.0.is_zero()),
    ];
    for (name, upstream) in &config.upstreams {
        for (key, period) in [
            ("connect_timeout", upstream.connect_timeout),
            ("first_byte_timeout", upstream.first_byte_timeout),
            ("idle_timeout", upstream.idle_timeout),
        ] {
            let is_zero = period.is_some_and(|period| period.0.is_zero());
            limits.push((format!("upstreams.{name}.{key}"), is_zero));
        }
    }
    for (path, _) in limits.into_iter().filter(|(_, is_zero)| *is_zero) {
        let message = format!("`{path}` must be more than zero");
        let keeps_bodies = matches!(path.as_str(), "capture.max_body" | "store.keep_bodies");
        let hint = "no bodies are kept with capture.content = \"metadata\"".to_owned();
        faults.push(Fault { hint: keeps_bodies.then_some(hint), ..Fault::at(path, message) });
    }
}
