//! HTTP in, HTTP out, bytes untouched; what crosses is shown to a capture.
//!
//! Nothing here reads what it forwards, but for the two edits that `splice` makes. Invariant: a call
//! that was admitted is sealed exactly once, however it ends.

mod aliases;
mod answer;
mod body;
mod call;
mod capture;
mod connection;
mod error;
mod headers;
mod keys;
mod limits;
mod metadata;
mod pace;
mod pool;
mod request;
mod route;
mod running;
mod spill;
mod tape;
mod tunnel;
mod upstream;

pub use capture::{Capture, Captured, Durable, Waiter};
pub use error::{ProxyError, Retry};
pub use keys::{Fingerprints, Keys};
pub use limits::{KeyLimits, REQUESTS_PER_MINUTE_MAX};
pub use metadata::Labels;
pub use route::{OWN_ROOTS, is_taken, split_metadata};
pub use running::{Live, Running};
pub use spill::Spiller;
pub use tape::Budget;
pub use upstream::{Upstream, Upstreams, tls_config};

use crate::{
    config::{Config, Content, Durability, OnDisconnect},
    metrics::Metrics,
    model::{End, Endpoint, Head, Timestamp},
    server::Wire,
};
use arc_swap::ArcSwap;
use axum::body::Body;
use body::{UpstreamBody, drain};
use call::{Call, Failure, send_failure};
use http::{HeaderValue, Request, Response, header, request::Parts};
use hyper::body::Incoming;
use metadata::Log;
use route::{NoRoute, Route};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{
    mpsc::{self, OwnedPermit},
    oneshot,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// What calls in flight share with the recorder and with each other.
#[derive(Debug)]
pub struct Shared {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Bytes held by captures.
    pub budget: Arc<Budget>,
    /// Bytes kept of one body.
    pub body_cap: AtomicU64,
    /// Takes bytes that memory has no room for.
    pub spiller: Spiller,
    /// Finished calls, to the recorder.
    pub ended: mpsc::Sender<Box<Captured>>,
    /// Running calls.
    pub running: Arc<Running>,
    /// Calls that found no place in the recorder's queue since it last looked.
    pub unrecorded: Arc<AtomicU64>,
    /// Calls that end from now on were cut off by calltap.
    pub stopping: Arc<AtomicBool>,
    /// Work that goes on without a client.
    pub tasks: TaskTracker,
    /// Ends that work.
    pub cut: CancellationToken,
}

impl Shared {
    /// Runs work that goes on without a client, until it is done or calltap stops.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            // Dropping the work drops its capture, which seals the call.
            tokio::select! {
                () = work => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

/// What a reload replaces.
#[derive(Debug)]
pub struct Settings {
    /// Where calls go.
    pub upstreams: Upstreams,
    /// Who may call.
    pub keys: Keys,
    /// Largest request body, in bytes.
    pub max_body: u64,
    /// Whether bodies are kept.
    pub content: Content,
    /// When the last byte may reach the client.
    pub durability: Durability,
}

impl Settings {
    /// Reads them from the configuration; what keys use is counted in `limits`.
    ///
    /// # Errors
    /// A message that names the key at fault.
    pub fn new(config: &Config, limits: &KeyLimits) -> Result<Self, String> {
        Ok(Self {
            upstreams: Upstreams::new(config)?,
            keys: Keys::new(config, limits)?,
            max_body: config.server.max_body.0,
            content: config.capture.content,
            durability: config.store.durability,
        })
    }
}

/// The proxy.
pub struct Proxy {
    settings: ArcSwap<Settings>,
    shared: Arc<Shared>,
    fingerprints: Fingerprints,
    /// Why the store cannot be written, if it cannot.
    store_trouble: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// This process in `Via`, to notice calls that come back.
    pseudonym: String,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy whose captures go to `shared.ended`.
    pub fn new(
        settings: Settings,
        shared: Arc<Shared>,
        fingerprints: Fingerprints,
        store_trouble: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let random = Uuid::new_v4().simple().to_string();
        let pseudonym = format!("calltap-{}", random.get(..8).unwrap_or_default());
        Self {
            settings: ArcSwap::from_pointee(settings),
            shared,
            fingerprints,
            store_trouble: Box::new(store_trouble),
            pseudonym,
        }
    }

    /// Calls that arrive from now on see `settings`.
    pub fn reload(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// What running calls share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// One call, from its head to its answer. The answer's body goes on by itself.
    ///
    /// `refusal` is a reason, found before, not to forward the call. The call is under watch when
    /// this returns, before the future is ever polled: a client may vanish in between.
    pub fn forward(
        self: &Arc<Self>,
        request: Request<Incoming>,
        wire: Wire,
        refusal: Option<ProxyError>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let started = Instant::now();
        let settings = self.settings.load_full();
        let (mut parts, body) = request.into_parts();

        // 1. What the caller says about the call.
        let own = headers::take_own(&mut parts.headers);
        let aliases = aliases::take(&mut parts.headers);
        let (path, pairs) = split_metadata(parts.uri.path());
        let path = path.to_owned();
        let labels = Labels::read(&own, &pairs);
        let head = Head {
            id: labels.id.unwrap_or_else(Uuid::now_v7),
            started_at: Timestamp::now(),
            method: parts.method.as_str().to_owned(),
            endpoint: Endpoint::of_call(parts.method.as_str(), &path),
            path,
            query: parts.uri.query().map(headers::masked_query),
            ..Head::default()
        };

        // 2. A place in the recorder's queue.
        let strict = settings.durability == Durability::Strict;
        let (capture, full) = self.admit(started, &labels);
        let mut call = Call {
            head,
            labels,
            aliases,
            capture,
            request: None,
            member: None,
            waited_us: 0,
            strict,
            wire,
        };
        let refusal = refusal.or_else(|| self.cannot_promise(strict, full));

        // 3. Doors, route, request, upstream, answer.
        let proxy = Arc::clone(self);
        async move {
            let answered = match refusal {
                Some(error) => Err(error.into()),
                None => proxy.exchange(&settings, &mut call, parts, body).await,
            };
            match answered {
                Ok(response) => response,
                Err(failure) => Box::pin(call.fail(failure)).await,
            }
        }
    }

    /// Takes a place in the recorder's queue; whether there was none, and one was wanted.
    fn admit(&self, started: Instant, labels: &Labels) -> (Capture, bool) {
        if labels.log == Some(Log::Off) {
            self.shared.metrics.capture_dropped("asked_off");
            return (Capture::begin(&self.shared, started, None), false);
        }
        let permit = self.place();
        let full = permit.is_none();
        if full {
            self.shared.metrics.capture_dropped("recorder_full");
            self.shared.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
        (Capture::begin(&self.shared, started, permit), full)
    }

    fn place(&self) -> Option<OwnedPermit<Box<Captured>>> {
        // Memory is a place too: what waits already may have taken it all.
        let room = !self.shared.budget.is_exhausted();
        room.then(|| self.shared.ended.clone().try_reserve_owned().ok()).flatten()
    }

    /// Strict durability: better no call than one without a record.
    fn cannot_promise(&self, strict: bool, full: bool) -> Option<ProxyError> {
        if !strict {
            return None;
        }
        if full {
            return Some(ProxyError::overloaded("calltap has no room to record this call; retry"));
        }
        (self.store_trouble)().map(|why| {
            ProxyError::store_unavailable(format!(
                "calltap cannot store the record of this call ({why}); free the store and retry"
            ))
        })
    }

    /// Forwards an admitted call.
    async fn exchange(
        &self,
        settings: &Settings,
        call: &mut Call,
        mut parts: Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Failure> {
        request::check_head(&parts)?;
        // The client and its key.
        call.head.request_headers = headers::kept_of_request(&parts.headers);
        call.head.client = request::client(&parts.headers);
        call.head.trace = metadata::trace(&parts.headers);
        let route = Self::route(settings, call, &parts)?;
        self.admit_caller(settings, call, &mut parts, &route)?;
        let upgrade = tunnel::take_upgrade(&mut parts);
        headers::strip_hop_by_hop(&mut parts.headers);
        self.guard_against_loops(&mut parts.headers)?;
        parts.headers.remove(header::HOST);
        call.head.keep_content = settings.content == Content::Full;

        // The request body, whole where it may have to be edited.
        let body = self.request_body(settings, call, &mut parts, &route, body).await?;
        let request = request::build(parts, &route.url, body)?;
        if let Some(upgrade) = upgrade {
            return Box::pin(tunnel::open(&self.shared, call, &route, request, upgrade)).await;
        }

        // The upstream, and its answer.
        let elapsed_us = capture::micros(call.capture.started.elapsed());
        call.capture.overhead(elapsed_us.saturating_sub(call.waited_us));
        let answer = self.send(call, &route, request).await?;
        answer::pass_on(&self.shared, call, &route, answer).await
    }

    fn route(settings: &Settings, call: &mut Call, parts: &Parts) -> Result<Route, Failure> {
        let named = call.labels.upstream.as_deref();
        let upstreams = &settings.upstreams;
        let default = aliases::upstream(&call.aliases, upstreams).unwrap_or(upstreams.default());
        let found = route::find(upstreams, default, &call.head.path, parts.uri.query(), named);
        let names = || settings.upstreams.names().collect::<Vec<_>>().join(", ");
        let route = found.map_err(|why| match why {
            NoRoute::UnknownUpstream(name) => ProxyError::unknown_upstream(format!(
                "no upstream is called `{}`; known are: {}",
                printable(&name),
                names()
            )),
            NoRoute::UnknownPath => ProxyError::unknown_route(format!(
                "`{}` is neither an API path nor an upstream; use /v1/… or /<upstream>/v1/…",
                printable(&call.head.path)
            )),
            NoRoute::Dots => {
                ProxyError::bad_request("the path holds `.` or `..` segments; send a plain path")
            }
        })?;
        call.head.upstream = Arc::clone(&route.upstream.name);
        call.head.provider = Arc::clone(&route.upstream.provider);
        call.head.host = Some(Arc::clone(&route.upstream.host));
        call.head.path.clone_from(&route.path);
        call.head.endpoint = Endpoint::of_call(&call.head.method, &route.path);
        Ok(route)
    }

    fn admit_caller(
        &self,
        settings: &Settings,
        call: &mut Call,
        parts: &mut Parts,
        route: &Route,
    ) -> Result<(), Failure> {
        let own = call.labels.key.as_ref().map(crate::model::Secret::expose);
        let caller =
            settings.keys.admit(&mut parts.headers, own, &route.upstream, &self.fingerprints)?;
        call.head.client.key = caller.key;
        call.head.defaults = caller.defaults;
        if let Some(limiter) = caller.limiter {
            let admitted = limiter.admit(call.head.started_at)?;
            call.capture.occupy(admitted.slot);
            call.head.hold = admitted.hold;
            if call.head.hold.is_some() && call.labels.log == Some(Log::Off) {
                // What is charged to a budget is recorded, if without content.
                call.labels.log = Some(Log::Metadata);
                call.capture.keep(self.place());
            }
        }
        Ok(())
    }

    /// A call that has been through this very process is not sent round again.
    fn guard_against_loops(&self, headers: &mut http::HeaderMap) -> Result<(), Failure> {
        let came_back = headers
            .get_all(header::VIA)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains(&self.pseudonym));
        if came_back {
            return Err(ProxyError::loop_detected(
                "the upstream leads back to calltap itself; check `base_url`",
            )
            .into());
        }
        if let Ok(via) = HeaderValue::try_from(format!("1.1 {}", self.pseudonym)) {
            headers.append(header::VIA, via);
        }
        Ok(())
    }

    /// Sends the request. What the caller said is read while the upstream works.
    async fn send(
        &self,
        call: &mut Call,
        route: &Route,
        request: Request<UpstreamBody>,
    ) -> Result<Response<Incoming>, Failure> {
        let upstream = Arc::clone(&route.upstream);
        let sending = async move {
            let answer = upstream.pool.client().0.request(request);
            tokio::time::timeout(upstream.first_byte_timeout, answer).await
        };
        let sent = match route.upstream.on_disconnect {
            OnDisconnect::Cancel => {
                let (sent, ()) = tokio::join!(sending, async { call.dispatch() });
                sent
            }
            OnDisconnect::Drain => {
                call.dispatch();
                Box::pin(self.send_detached(sending, call, route.upstream.idle_timeout)).await?
            }
        };
        match sent {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(send_failure(call, route, &error)),
            Err(_) => {
                let why = format!("no answer within {:?}", route.upstream.first_byte_timeout);
                let told = format!("upstream `{}`: {why}", route.upstream.name);
                Err(Failure::Upstream(
                    ProxyError::upstream_timeout(told),
                    End::UpstreamTimeout(why),
                ))
            }
        }
    }

    /// Sends in a task of its own, so that the answer is read to its end when the client goes away.
    async fn send_detached(
        &self,
        sending: impl Future<Output = Sent> + Send + 'static,
        call: &mut Call,
        idle: Duration,
    ) -> Result<Sent, Failure> {
        let (capture, shared) = (call.capture.detach(), Arc::clone(&self.shared));
        let (hand_over, answer) = oneshot::channel();
        self.shared.spawn(async move {
            let sent = sending.await;
            // Whether it arrives or not: an answer that nobody takes is drained.
            hand_over.send(Untaken { sent: Some((sent, capture)), shared, idle }).ok();
        });
        let taken = answer.await.ok().and_then(|mut untaken| untaken.sent.take());
        let (sent, capture) = taken.ok_or(Failure::ClientGone)?;
        call.capture = capture;
        Ok(sent)
    }
}

/// An answer between the task that asked for it and the client that may be gone.
struct Untaken {
    sent: Option<(Sent, Capture)>,
    shared: Arc<Shared>,
    idle: Duration,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        let Some((Ok(Ok(answer)), mut capture)) = self.sent.take() else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let idle = self.idle;
        self.shared.spawn(async move {
            let (head, mut body) = answer.into_parts();
            let kept = headers::kept_of_response(&head.headers);
            capture.answered(head.status.as_u16(), kept);
            drain(&mut body, &mut capture, idle).await;
            capture.seal(End::ClientGone);
        });
    }
}

type Sent = Result<
    Result<Response<Incoming>, hyper_util::client::legacy::Error>,
    tokio::time::error::Elapsed,
>;

/// Text from a stranger, safe in a message.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
