//! Who may look: admin token, `Host` and `Origin` (SPEC §13.12, `reliability.md` S17).

use super::{ApiError, Context};
use crate::model::Secret;
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Response, StatusCode, header},
    middleware::Next,
    response::IntoResponse,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The doors in force.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// Opens dashboard and API; without one they are open.
    pub admin_token: Option<Secret>,
    /// Whether the listener can only be reached from this machine.
    pub loopback: bool,
    /// Origins that may call from a browser.
    pub allowed_origins: Vec<String>,
}

/// Names under which a loopback listener may be asked for.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Refuses names that point here from elsewhere (DNS rebinding), and other sites' pages.
pub(super) async fn origin(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let doors = (context.settings)();
    let authority = request.uri().authority().map(ToString::to_string);
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = authority.as_deref().or(host);
    if doors.loopback && !is_local(host) {
        let why = "this address is only answered under its own name; use http://127.0.0.1";
        return ApiError::new(StatusCode::MISDIRECTED_REQUEST, "calltap_wrong_host", why)
            .into_response();
    }
    if foreign_origin(request.headers(), &doors) {
        let why = "the request comes from a page of another origin";
        return ApiError::new(StatusCode::FORBIDDEN, "calltap_forbidden", why).into_response();
    }
    next.run(request).await
}

/// Asks for the admin token where one is set.
pub(super) async fn token(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let doors = (context.settings)();
    let Some(token) = &doors.admin_token else { return next.run(request).await };
    if presented(request.headers()).is_some_and(|given| equal(given, token.expose())) {
        return next.run(request).await;
    }
    let why = "send the admin token as `Authorization: Bearer …`";
    let mut response =
        ApiError::new(StatusCode::UNAUTHORIZED, "calltap_invalid_key", why).into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Over hashes, so that neither content nor length shows in the time it takes.
fn equal(given: &str, token: &str) -> bool {
    Sha256::digest(given).ct_eq(&Sha256::digest(token)).into()
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_local(host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    LOCAL_HOSTS.contains(&name.as_str())
}

/// Whether a browser says that another site's page is behind the request. On loopback a page of the
/// very host that was asked for is foreign too, where that is a name of elsewhere (DNS rebinding).
pub fn foreign_origin(headers: &HeaderMap, doors: &Doors) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let allowed = |origin: &str| doors.allowed_origins.iter().any(|allowed| allowed == origin);
    let host = text("host");
    let is_rebound = doors.loopback && !is_local(host);
    match (text("origin"), text("sec-fetch-site")) {
        (Some(origin), _) => !allowed(origin) && (is_rebound || !is_same(origin, host)),
        (None, Some(site)) => site == "cross-site" || is_rebound,
        (None, None) => false,
    }
}

/// An origin is its scheme, host and port; ours is the host that was asked for.
fn is_same(origin: &str, host: Option<&str>) -> bool {
    let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    match (name, host) {
        (Some(name), Some(host)) => name.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_names_are_local() {
        for host in
            ["localhost", "LOCALHOST:4777", "127.0.0.1:1", "[::1]:4777", "localhost.", "[::1]"]
        {
            assert!(is_local(Some(host)), "{host}");
        }
        for host in [
            "evil",
            "127.0.0.1.evil.example",
            "localhost:x@evil",
            "0.0.0.0",
            "",
            "127.0.0.1:",
            "localhost:99999",
            "::1",
        ] {
            assert!(!is_local(Some(host)), "{host}");
        }
        assert!(!is_local(None));
    }

    #[test]
    fn foreign_pages_are_told_apart() {
        let doors =
            Doors { allowed_origins: vec!["https://app.example".into()], ..Doors::default() };
        let map = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            let parse = |(n, v): &(&'static str, &str)| {
                (header::HeaderName::from_static(n), v.parse().unwrap())
            };
            pairs.iter().map(parse).collect()
        };
        let foreign = |pairs: &[(&'static str, &str)]| foreign_origin(&map(pairs), &doors);
        let host = ("host", "127.0.0.1:4777");
        assert!(!foreign(&[host]));
        assert!(!foreign(&[host, ("origin", "http://127.0.0.1:4777")]));
        assert!(!foreign(&[host, ("origin", "https://app.example")]));
        assert!(!foreign(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(foreign(&[host, ("origin", "https://evil.example")]));
        assert!(foreign(&[host, ("origin", "http://127.0.0.1:9999")]));
        assert!(foreign(&[host, ("origin", "null")]));
        assert!(foreign(&[host, ("sec-fetch-site", "cross-site")]));
        let elsewhere = [("host", "evil.example"), ("origin", "http://evil.example")];
        assert!(!foreign(&elsewhere));
        let doors = Doors { loopback: true, ..doors.clone() };
        let foreign = |pairs: &[(&'static str, &str)]| foreign_origin(&map(pairs), &doors);
        assert!(foreign(&elsewhere));
        assert!(foreign(&[("host", "evil.example"), ("sec-fetch-site", "same-origin")]));
        assert!(!foreign(&[("host", "evil.example")]) && !foreign(&[host]));
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(equal("abc", "abc"));
        assert!(!equal("abc", "abcd") && !equal("", "abc"));
    }

    /// Welch's t of the times that two wrong tokens take, asked in random order.
    fn welch(token: &str, wrong: [&str; 2], samples: usize) -> f64 {
        let (mut times, mut dice) = ([Vec::new(), Vec::new()], 1_u64);
        // Both lie at the same place in memory.
        let mut given = String::with_capacity(64);
        for _ in 0..samples {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let which = usize::from(dice >> 63 == 1);
            given.clear();
            given.push_str(wrong[which]);
            let begun = std::time::Instant::now();
            let is_equal = equal(std::hint::black_box(&given), std::hint::black_box(token));
            let took = begun.elapsed();
            assert!(!std::hint::black_box(is_equal));
            times[which].push(took.as_secs_f64());
        }
        // What the machine did meanwhile stands in the slowest times.
        let mut all = times.concat();
        all.sort_by(f64::total_cmp);
        let most = all[all.len() * 95 / 100];
        let of = |times: &[f64]| {
            let kept: Vec<f64> = times.iter().copied().filter(|time| *time <= most).collect();
            let count = f64::from(u32::try_from(kept.len()).unwrap());
            let mean = kept.iter().sum::<f64>() / count;
            let spread = kept.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
            (mean, spread / count)
        };
        let ((one, first), (other, second)) = (of(&times[0]), of(&times[1]));
        (one - other) / (first + second).sqrt()
    }

    /// `CALLTAP_TEST_TIMINGS`: samples.
    #[test]
    fn a_wrong_first_byte_takes_as_long_as_a_wrong_last() {
        let samples =
            std::env::var("CALLTAP_TEST_TIMINGS").map_or(20_000, |count| count.parse().unwrap());
        let token = "0123456789abcdef0123456789abcdef0123456789abcdef";
        let wrong = [format!("x{}", &token[1..]), format!("{}x", &token[..47])];
        // A true difference shows each time, a disturbance does not.
        let found: Vec<f64> =
            std::iter::repeat_with(|| welch(token, [&wrong[0], &wrong[1]], samples))
                .take(3)
                .take_while(|t| t.abs() >= 4.5)
                .collect();
        println!(
            "{samples} samples: t beyond 4.5 in {} of at most 3 rounds {found:?}",
            found.len()
        );
        assert!(found.len() < 3, "{found:?}");
    }
}
