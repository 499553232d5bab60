//! What others may see of a lane while it works.

use super::answer::Obstacle;
use crate::model::Timestamp;
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// Whether a lane delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All is well.
    #[default]
    Running,
    /// The sink does not take anything just now; it is tried again.
    Retrying,
    /// The key or the address is wrong, or a person stopped it.
    Paused,
    /// No server runs.
    Stopped,
    /// `enabled = false`.
    Disabled,
    /// The configuration does not name it any more.
    Removed,
}

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// When.
    pub at: Timestamp,
    /// Status and the beginning of the reply, or why there was none.
    pub message: String,
}

/// The lane as it is.
#[derive(Clone, Debug, Default)]
pub struct Posted {
    /// Whether it delivers.
    pub state: State,
    /// Why it stands still by itself.
    pub obstacle: Option<Obstacle>,
    /// What went wrong last.
    pub last_error: Option<Trouble>,
    /// When the sink last took something.
    pub last_delivery_at: Option<Timestamp>,
    /// When it is tried next, in times of trouble.
    pub next_try_at: Option<Timestamp>,
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests that may be in flight.
    pub concurrency: usize,
}

/// Where a lane posts it.
#[derive(Debug, Default)]
pub struct Board(Mutex<Posted>);

impl Board {
    /// The newest.
    pub fn read(&self) -> Posted {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut Posted)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
