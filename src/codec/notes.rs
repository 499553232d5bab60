//! What was odd, each kind once, however often it happened.

use std::borrow::Cow;

/// Kinds of oddities with how often each was met, in order of first appearance.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<(Cow<'static, str>, u64)>);

impl Notes {
    /// Counts one more of `kind`. Kinds are few: they never hold what a peer sent.
    pub(crate) fn add(&mut self, kind: impl Into<Cow<'static, str>>) {
        self.add_many(kind, 1);
    }

    /// Counts `times` more of `kind`; zero leaves no trace.
    pub(crate) fn add_many(&mut self, kind: impl Into<Cow<'static, str>>, times: u64) {
        let kind = kind.into();
        if times == 0 {
        } else if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == kind) {
            *count = count.saturating_add(times);
        } else {
            self.0.push((kind, times));
        }
    }

    /// One line a kind; how often stands behind it where it was more than once.
    pub(crate) fn into_lines(self) -> Vec<String> {
        let line = |(kind, count): (Cow<'static, str>, u64)| match count {
            1 => kind.into_owned(),
            _ => format!("{kind} ({count} times)"),
        };
        self.0.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_once() {
        let mut notes = Notes::default();
        notes.add("a");
        notes.add("b");
        notes.add("a");
        notes.add_many("c", 0);
        assert_eq!(notes.into_lines(), ["a (2 times)", "b"]);
    }
}
