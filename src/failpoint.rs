//! Places where a test makes the reading of a call fail. A release build has none.

/// Panics where a test asks for it.
///
/// # Panics
/// Where the variable `CALLTAP_FAILPOINT` names this stage.
#[cfg(debug_assertions)]
pub fn reach(stage: &str) {
    static NAMED: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("CALLTAP_FAILPOINT").ok());
    assert!(NAMED.as_deref() != Some(stage), "the failpoint {stage} was reached");
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub fn reach(_stage: &str) {}
