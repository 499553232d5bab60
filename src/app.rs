//! Builds everything, starts it, stops it in order.

use crate::config::Config;
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

/// What `serve` starts with.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Reads the configuration again (SIGHUP); the error is a rendered message.
    pub reload: Arc<dyn Fn() -> Result<Config, String> + Send + Sync>,
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

/// Serves until SIGTERM or SIGINT; a second signal ends it at once.
///
/// # Errors
/// [`AppError`] when it cannot start.
pub async fn run(_setup: Setup, _on_ready: impl FnOnce(&Ready)) -> Result<(), AppError> {
    Err(AppError::Unavailable("not built".into()))
}
