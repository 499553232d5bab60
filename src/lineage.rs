//! Which session a response belongs to when nobody said so: that of the response it goes on from, and
//! where it goes on from none, one that begins with it and bears its id.

use std::collections::{HashMap, VecDeque};

/// Responses remembered here; older ones are looked up in the store. Enough for those whose records
/// are still on their way there.
const KNOWN_MAX: usize = 4096;
/// Longest id and session together; of a longer one the store is asked.
const LINK_BYTES_MAX: usize = 1024;

/// What a call says of itself and of the one before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link<'a> {
    /// The provider's id of the response.
    pub id: Option<&'a str>,
    /// The response that it goes on from.
    pub previous: Option<&'a str>,
    /// The session that the caller named.
    pub said: Option<&'a str>,
    /// Whether the response was only read again (polled or resumed).
    pub is_read_again: bool,
    /// Whether the provider keeps the response, so that another can go on from it.
    pub is_kept: bool,
}

/// The sessions of responses that were lately recorded.
#[derive(Debug, Default)]
pub struct Lineage {
    known: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Lineage {
    /// The session of a response, which is remembered. `stored` finds the session of a response whose
    /// record is in the store.
    pub fn session(
        &mut self,
        link: Link<'_>,
        stored: impl Fn(&str) -> Option<String>,
    ) -> Option<String> {
        let said = link.said.map(str::to_owned);
        let session = said.or_else(|| self.inherited(link, stored));
        if let (Some(id), Some(session)) = (link.id, &session) {
            self.remember(id, session);
        }
        session
    }

    fn inherited(&self, link: Link<'_>, stored: impl Fn(&str) -> Option<String>) -> Option<String> {
        let of = |id: &str| self.known.get(id).cloned().or_else(|| stored(id));
        let again = link.id.filter(|_| link.is_read_again).and_then(of);
        let before = || link.previous.map(|id| of(id).unwrap_or_else(|| id.to_owned()));
        let own = || link.id.filter(|_| link.is_kept).map(str::to_owned);
        again.or_else(before).or_else(own)
    }

    fn remember(&mut self, id: &str, session: &str) {
        if id.len() + session.len() > LINK_BYTES_MAX {
            return;
        }
        if self.known.insert(id.to_owned(), session.to_owned()).is_some() {
            return;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(lineage: &mut Lineage, link: Link<'_>) -> Option<String> {
        lineage.session(link, |id| (id == "old").then(|| "s-old".to_owned()))
    }

    fn made<'a>(id: &'a str, previous: Option<&'a str>) -> Link<'a> {
        Link { id: Some(id), previous, is_kept: true, ..Link::default() }
    }

    #[test]
    fn a_chain_is_one_session() {
        let mut lineage = Lineage::default();
        for (id, previous, session) in [
            ("a", None, "a"),
            ("b", Some("a"), "a"),
            ("c", Some("b"), "a"),
            ("d", Some("old"), "s-old"),
            ("e", Some("unseen"), "unseen"),
            ("f", Some("e"), "unseen"),
        ] {
            assert_eq!(placed(&mut lineage, made(id, previous)).as_deref(), Some(session), "{id}");
        }
    }

    #[test]
    fn what_was_said_holds() {
        let mut lineage = Lineage::default();
        let said = Link { said: Some("mine"), ..made("a", None) };
        assert_eq!(placed(&mut lineage, said).as_deref(), Some("mine"));
        assert_eq!(placed(&mut lineage, made("b", Some("a"))).as_deref(), Some("mine"));
        let polled = Link { is_read_again: true, ..made("b", None) };
        assert_eq!(placed(&mut lineage, polled).as_deref(), Some("mine"));
        let fleeting = Link { is_kept: false, ..made("c", None) };
        assert_eq!(placed(&mut lineage, fleeting), None);
        let failed = Link { previous: Some("b"), ..Link::default() };
        assert_eq!(placed(&mut lineage, failed).as_deref(), Some("mine"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut lineage = Lineage::default();
        for id in 0..2 * KNOWN_MAX {
            placed(&mut lineage, made(&id.to_string(), None));
        }
        assert_eq!((lineage.known.len(), lineage.order.len()), (KNOWN_MAX, KNOWN_MAX));
    }
}
