//! Builds everything, starts it, stops it in order.

use crate::{
    api,
    assistants::Assistants,
    config::{Config, Setting, without_userinfo},
    delivery::{self, Delivery},
    door::{AdminDoor, Door, doors},
    interpret::search_text,
    metrics::Metrics,
    model::Timestamp,
    pricing::{self, PriceBook},
    proxy::{Budget, Fingerprints, KeyLimits, Proxy, Running, Settings, Shared, Spiller},
    query::{Expr, Moment, Query, Term},
    recorder::Recorder,
    redact::Redactor,
    server::{self, Limits, Stop},
    store::{GroupBy, StatRow, Store},
};
use arc_swap::ArcSwap;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Calls that may be running or waiting for the recorder at once.
const CALLS_MAX: usize = 65_536;
/// Longest wait for lanes to stop, and after a second signal.
const LANES_STOP: Duration = Duration::from_secs(6);
const LANES_HURRIED: Duration = Duration::from_millis(200);
/// A UTC day, in microseconds.
const DAY_US: i64 = 86_400_000_000;

/// What `serve` starts with.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Reads the configuration again (SIGHUP); the error is a rendered message.
    pub reload: Arc<dyn Fn() -> Result<Config, String> + Send + Sync>,
    /// Stops it as SIGTERM does.
    pub stop: CancellationToken,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// What is known once both ports are open.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where calls are accepted.
    pub listen: SocketAddr,
    /// Where dashboard and API are.
    pub admin: SocketAddr,
    /// Facts about the store.
    pub store: crate::store::Info,
    /// Name and base URL of the default upstream.
    pub upstream: (String, String),
}

/// Why `serve` could not start or go on. Exit codes of `ux.md` §6.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Exit 78.
    #[error("{0}")]
    Config(String),
    /// A port in use and the like; exit 69.
    #[error("{0}")]
    Unavailable(String),
    /// Exit 74.
    #[error("{0}")]
    Store(#[from] crate::store::StoreError),
}

/// Everything that runs.
struct App {
    proxy: Arc<Proxy>,
    shared: Arc<Shared>,
    store: Store,
    book: Arc<ArcSwap<PriceBook>>,
    redactor: Arc<ArcSwap<Redactor>>,
    config: Arc<ArcSwap<Config>>,
    running: Arc<Running>,
    limits: Arc<KeyLimits>,
    draining: Arc<AtomicBool>,
    delivery: Delivery,
    recorder: JoinHandle<()>,
}

/// Serves until SIGTERM, SIGINT or `setup.stop`; a second signal ends it at once.
///
/// # Errors
/// [`AppError`] when it cannot start.
pub async fn run(setup: Setup, on_ready: impl FnOnce(&Ready)) -> Result<(), AppError> {
    let app = App::build(&setup)?;
    let config = app.config.load_full();
    let listener = server::bind(config.server.listen).await.map_err(AppError::Unavailable)?;
    let admin = match config.server.admin_listen {
        Some(address) => Some(server::bind(address).await.map_err(AppError::Unavailable)?),
        None => None,
    };
    app.delivery.reload(plans(&config).map_err(AppError::Config)?).await;
    tokio::spawn(app.delivery.clone().survey());
    on_ready(&app.ready(&listener, admin.as_ref())?);
    let hurried = app.serve(&setup, listener, admin).await;
    app.delivery.stop(if hurried { LANES_HURRIED } else { LANES_STOP }).await;
    tokio::task::spawn_blocking(move || app.stop()).await.ok();
    Ok(())
}

fn plans(config: &Config) -> Result<Vec<delivery::Plan>, String> {
    delivery::plans(config).map_err(|faults| {
        faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("\n")
    })
}

impl App {
    fn build(setup: &Setup) -> Result<Self, AppError> {
        let config = setup.config.clone();
        let book = PriceBook::load(config.pricing.dir.as_deref(), Some(&setup.data_dir))
            .map_err(AppError::Config)?;
        let redactor = Redactor::new(&config.capture.redact).map_err(AppError::Config)?;
        let store = Store::open(&setup.data_dir, &config.store)?;
        store.set_text_extractor(search_text);
        let limits = Arc::new(spent_today(&store, &config));
        let settings = Settings::new(&config, &limits).map_err(AppError::Config)?;
        let fingerprints =
            Fingerprints::open(&setup.data_dir).map_err(crate::store::StoreError::Io)?;
        // The spill thread ends with the last capture; nothing waits for it.
        let (spiller, _) = Spiller::start(&setup.data_dir).map_err(crate::store::StoreError::Io)?;
        let (book, redactor) =
            (Arc::new(ArcSwap::from_pointee(book)), Arc::new(ArcSwap::from_pointee(redactor)));
        let (metrics, running) = (Arc::new(Metrics::default()), Arc::new(Running::default()));
        let (ended, inbox) = mpsc::channel(CALLS_MAX);
        let unrecorded = Arc::new(AtomicU64::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let recorder = Recorder {
            store: store.clone(),
            book: Arc::clone(&book),
            redactor: Arc::clone(&redactor),
            spiller: spiller.clone(),
            metrics: Arc::clone(&metrics),
            journal: config.store.journal_start,
            running: Arc::clone(&running),
            limits: Arc::clone(&limits),
            lineage: Mutex::default(),
            counted: Mutex::default(),
            assistants: Mutex::new(remembered(&store)),
            unrecorded: Arc::clone(&unrecorded),
            stopping: Arc::clone(&stopping),
            uncounted: 0.into(),
            since: (Timestamp::now(), Instant::now()),
        };
        let runtime = tokio::runtime::Handle::current();
        let recorder_thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || recorder.run(inbox, &runtime))
            .map_err(crate::store::StoreError::Io)?;
        let shared = Arc::new(Shared {
            metrics,
            budget: Arc::new(Budget::new(config.capture.max_memory.0)),
            body_cap: AtomicU64::new(config.capture.max_body.0),
            spiller,
            ended,
            running: Arc::clone(&running),
            unrecorded,
            stopping,
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
        });
        let delivery = Delivery::new(store.clone(), Arc::clone(&shared.metrics), &setup.data_dir)?;
        let health = store.clone();
        let proxy = Proxy::new(settings, Arc::clone(&shared), fingerprints, move || {
            health.health().trouble
        });
        Ok(Self {
            proxy: Arc::new(proxy),
            shared,
            store,
            book,
            redactor,
            config: Arc::new(ArcSwap::from_pointee(config)),
            running,
            limits,
            draining: Arc::default(),
            delivery,
            recorder: recorder_thread,
        })
    }

    fn ready(
        &self,
        listener: &TcpListener,
        admin: Option<&TcpListener>,
    ) -> Result<Ready, AppError> {
        let io = |error| AppError::Store(crate::store::StoreError::Io(error));
        let listen = listener.local_addr().map_err(io)?;
        let admin = admin.map_or(Ok(listen), TcpListener::local_addr).map_err(io)?;
        let settings = self.proxy.settings();
        let upstream = settings.upstreams.default();
        Ok(Ready {
            listen,
            admin,
            store: self.store.reader()?.glance()?,
            upstream: (upstream.name.to_string(), upstream.base_url.clone()),
        })
    }
}

impl App {
    /// True when a second signal asked for an end at once.
    async fn serve(
        &self,
        setup: &Setup,
        listener: TcpListener,
        admin: Option<TcpListener>,
    ) -> bool {
        let config = self.config.load_full();
        let limits = Limits {
            header_timeout: config.server.header_timeout.0,
            connections: config.server.max_connections,
            grace: config.server.shutdown_grace.0,
        };
        let (stop, stopped) = watch::channel(Stop::No);
        let router = match self.router(&listener, admin.as_ref()) {
            Ok(router) => router,
            Err(error) => {
                tracing::error!(%error, "the store cannot be read");
                return false;
            }
        };
        let on_cut = || self.shared.stopping.store(true, Ordering::Relaxed);
        let main = server::serve(
            listener,
            limits,
            stopped.clone(),
            on_cut,
            Door {
                proxy: Arc::clone(&self.proxy),
                config: Arc::clone(&self.config),
                router: admin.is_none().then(|| router.clone()),
            },
        );
        let admin = async {
            if let Some(admin) = admin {
                server::serve(admin, limits, stopped.clone(), || {}, AdminDoor(router)).await;
            }
        };
        let mut hurry = stopped.clone();
        let serving = async {
            tokio::join!(main, admin);
            self.shared.tasks.close();
            tokio::select! {
                _ = tokio::time::timeout(limits.grace, self.shared.tasks.wait()) => {}
                _ = hurry.wait_for(|stop| *stop == Stop::Now) => {}
            }
            self.shared.stopping.store(true, Ordering::Relaxed);
            self.shared.cut.cancel();
            self.shared.tasks.wait().await;
        };
        tokio::select! {
            () = serving => {}
            () = self.follow_signals(setup, &stop) => {}
        }
        *stop.borrow() == Stop::Now
    }

    fn router(
        &self,
        listener: &TcpListener,
        admin: Option<&TcpListener>,
    ) -> Result<axum::Router, AppError> {
        let ready = self.ready(listener, admin)?;
        tracing::debug!(listen = %ready.listen, admin = %ready.admin, "listening");
        let (config, running) = (Arc::clone(&self.config), Arc::clone(&self.running));
        let (store, draining) = (self.store.clone(), Arc::clone(&self.draining));
        let (proxy, in_force) = (Arc::clone(&self.proxy), Arc::clone(&self.config));
        let (book, started_at) = (Arc::clone(&self.book), Timestamp::now());
        Ok(api::router(api::Context {
            reader: self.store.reader()?,
            committed: self.store.committed(),
            inflight: Arc::new(move || running.calls()),
            ready: Arc::new(move || readiness(&store, &draining)),
            delivery: self.delivery.clone(),
            metrics: Arc::clone(&self.shared.metrics),
            settings: Arc::new(move || doors(&config.load())),
            version: env!("CARGO_PKG_VERSION"),
            book: Arc::new(move || book.load_full()),
            effective: Arc::new(move || effective(&in_force.load(), &proxy, &ready, started_at)),
        }))
    }

    /// Returns once a second signal asked for an end at once and the calls were cut.
    async fn follow_signals(&self, setup: &Setup, stop: &watch::Sender<Stop>) {
        let mut asked = 0;
        loop {
            let signal = tokio::select! {
                signal = next_signal() => signal,
                () = setup.stop.cancelled(), if asked == 0 => Signal::Stop,
            };
            match signal {
                Signal::Reload => self.reload(setup),
                Signal::Stop if asked == 0 => {
                    asked = 1;
                    self.draining.store(true, Ordering::Relaxed);
                    tracing::info!(
                        "stopping: running calls may finish; a second signal cuts them off"
                    );
                    stop.send_replace(Stop::Drain);
                }
                Signal::Stop => {
                    tracing::warn!("stopping at once");
                    stop.send_replace(Stop::Now);
                }
            }
        }
    }

    /// Swaps the configuration in whole, or keeps the old one.
    fn reload(&self, setup: &Setup) {
        let loaded = (setup.reload)().and_then(|config| {
            let settings = Settings::new(&config, &self.limits)?;
            let book = PriceBook::load(config.pricing.dir.as_deref(), Some(&setup.data_dir))?;
            let redactor = Redactor::new(&config.capture.redact)?;
            let plans = plans(&config)?;
            Ok((config, settings, book, redactor, plans))
        });
        self.shared.metrics.config_reloaded(loaded.is_ok());
        match loaded {
            Ok((config, settings, book, redactor, plans)) => {
                let delivery = self.delivery.clone();
                // Lanes that change finish what they have in flight first.
                tokio::spawn(async move { delivery.reload(plans).await });
                self.proxy.reload(settings);
                self.book.store(Arc::new(book));
                self.redactor.store(Arc::new(redactor));
                self.shared.budget.set_max(config.capture.max_memory.0);
                self.shared.body_cap.store(config.capture.max_body.0, Ordering::Relaxed);
                self.config.store(Arc::new(config));
                tracing::info!(
                    "configuration reloaded; listeners and store keep what they started with"
                );
            }
            Err(error) => {
                tracing::error!(%error, "configuration not reloaded; the old one stays");
            }
        }
    }

    /// No call runs any more: the recorder writes what it has and ends, then the store closes. Blocks.
    fn stop(self) {
        let Self { proxy, shared, store, recorder, delivery, .. } = self;
        drop(delivery);
        drop(proxy);
        drop(shared);
        if recorder.join().is_err() {
            tracing::error!("the recorder panicked");
        }
        store.close();
    }
}

/// Conversations of earlier lives. Without them calls still pass; only what waited is forgotten.
fn remembered(store: &Store) -> Assistants {
    let threads = store.threads().unwrap_or_else(|error| {
        tracing::warn!(%error, "what was remembered of threads cannot be read");
        Vec::new()
    });
    Assistants::load(threads)
}

/// What keys have spent today in earlier lives: a restart gives nobody a new budget.
fn spent_today(store: &Store, config: &Config) -> KeyLimits {
    let now = Timestamp::now();
    if config.auth.keys.is_empty() {
        return KeyLimits::default();
    }
    let midnight = now.plus_us(-now.0.rem_euclid(DAY_US));
    let query = Query { root: Some(Expr::Term(Term::Since(Moment::At(midnight)))) };
    let totals = store.reader().and_then(|reader| reader.totals(&query, GroupBy::Key));
    let rows = totals.map_or_else(
        |error| {
            tracing::error!(%error, "what keys have spent today cannot be read: their budgets begin anew");
            Vec::new()
        },
        |totals| totals.rows,
    );
    let spent = |row: StatRow| Some((row.key?, pricing::pico(&row.cost)?, row.calls));
    KeyLimits::new(now, rows.into_iter().filter_map(spent))
}

/// The configuration in force; secrets are masked.
fn effective(config: &Config, proxy: &Proxy, ready: &Ready, started_at: Timestamp) -> Value {
    let values: Vec<Value> = config
        .effective()
        .into_iter()
        // Hashes of keys are nobody's business either.
        .filter(|setting| setting.key() != "auth.keys")
        .map(|setting| {
            let key = setting.key();
            let Setting { value, origin, restart, .. } = setting;
            json!({ "key": key, "value": value, "origin": origin, "restart": restart })
        })
        .collect();
    let settings = proxy.settings();
    let default = &settings.upstreams.default().name;
    let upstreams: Vec<Value> = settings
        .upstreams
        .names()
        .filter_map(|name| settings.upstreams.named(name))
        .map(|upstream| {
            json!({ "name": upstream.name, "base_url": without_userinfo(&upstream.base_url), "provider": upstream.provider,
                "default": upstream.name == *default,
                "builtin": !config.upstreams.contains_key(&*upstream.name) })
        })
        .collect();
    json!({ "version": env!("CARGO_PKG_VERSION"), "started_at": started_at,
        "listen": ready.listen.to_string(), "admin": ready.admin.to_string(),
        "values": values, "upstreams": upstreams })
}

fn readiness(store: &Store, draining: &AtomicBool) -> api::Readiness {
    let crate::store::Health { trouble, dropped, .. } = store.health();
    let draining = draining.load(Ordering::Relaxed);
    api::Readiness {
        checks: vec![
            api::Check {
                name: "store",
                ok: trouble.is_none(),
                detail: trouble.unwrap_or_else(|| "writable".to_owned()),
            },
            api::Check {
                name: "serving",
                ok: !draining,
                detail: if draining { "draining" } else { "accepting calls" }.to_owned(),
            },
        ],
        lost: dropped,
    }
}

enum Signal {
    Stop,
    Reload,
}

#[cfg(unix)]
async fn next_signal() -> Signal {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind);
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
        listen(SignalKind::terminate()),
        listen(SignalKind::interrupt()),
        listen(SignalKind::hangup()),
    ) else {
        // Without signals the process can still be killed, and nothing durable is lost.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => Signal::Stop,
        _ = interrupt.recv() => Signal::Stop,
        _ = hangup.recv() => Signal::Reload,
    }
}

#[cfg(not(unix))]
async fn next_signal() -> Signal {
    if tokio::signal::ctrl_c().await.is_err() {
        return std::future::pending().await;
    }
    Signal::Stop
}
