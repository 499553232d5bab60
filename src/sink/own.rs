//! Reading the keys that only one kind of sink has.

use super::{Kind, Problem, Settings};
use crate::model::Secret;
use toml::Value;

/// A kind's own keys while they are read. What is left unread at the end is a fault.
#[derive(Debug)]
pub(super) struct Own<'a> {
    settings: &'a Settings,
    read: Vec<&'static str>,
}

impl<'a> Own<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, read: Vec::new() }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.read.push(key);
        self.settings.own.get(key)
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Problem> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(problem(key, "must be a text that is not empty")),
        }
    }

    /// The text of `key`, else the first of `variables` that is set.
    pub(super) fn text_or(
        &mut self,
        key: &'static str,
        variables: &[&str],
    ) -> Result<Option<String>, Problem> {
        Ok(self.text(key)?.or_else(|| variable(self.settings, variables)))
    }

    /// One of `choices`; the first where nothing is said.
    pub(super) fn choice(
        &mut self,
        key: &'static str,
        choices: &[&'static str],
    ) -> Result<&'static str, Problem> {
        let Some(text) = self.text(key)? else { return Ok(choices.first().copied().unwrap_or("")) };
        choices
            .iter()
            .find(|choice| **choice == text)
            .copied()
            .ok_or_else(|| problem(key, &format!("is `{text}`; it may be {}", choices.join(", "))))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, otherwise: bool) -> Result<bool, Problem> {
        match self.value(key) {
            None => Ok(otherwise),
            Some(Value::Boolean(flag)) => Ok(*flag),
            Some(_) => Err(problem(key, "must be true or false")),
        }
    }

    /// A table of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Vec<(String, String)>, Problem> {
        let wrong = || problem(key, "must be a table of texts");
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let table = value.as_table().ok_or_else(wrong)?;
        let pair = |(name, value): (&String, &Value)| {
            Ok((name.clone(), value.as_str().ok_or_else(wrong)?.to_owned()))
        };
        table.iter().map(pair).collect()
    }

    /// The vendor's key: `api_key`, else a variable of the vendor's own clients.
    pub(super) fn api_key(&self, kind: &Kind) -> Result<Secret, Problem> {
        let from_environment = || Secret::new(&variable(self.settings, kind.key_variables)?);
        self.settings
            .api_key
            .clone()
            .or_else(from_environment)
            .ok_or_else(|| problem("api_key", "is missing"))
    }

    /// The vendor's key as a bearer token.
    pub(super) fn bearer(&self, kind: &Kind) -> Result<Secret, Problem> {
        let key = self.api_key(kind)?;
        Secret::new(&format!("Bearer {}", key.expose()))
            .ok_or_else(|| problem("api_key", Secret::EMPTY))
    }

    /// All keys have been read: any other is a fault.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.settings.own.keys().find(|key| !self.read.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) if self.read.is_empty() => Err(problem(key, "is not a key of this kind")),
            Some(key) => {
                let known = self.read.join(", ");
                Err(problem(key, &format!("is not a key of this kind; its own keys are {known}")))
            }
        }
    }
}

fn variable(settings: &Settings, names: &[&str]) -> Option<String> {
    let values = names.iter().filter_map(|name| settings.environment.get(*name));
    values.map(|value| value.trim()).find(|value| !value.is_empty()).map(str::to_owned)
}

/// A fault of the key `key`.
pub(super) fn problem(key: &str, message: &str) -> Problem {
    Problem { key: key.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::KINDS;

    #[test]
    fn every_kind_refuses_unknown_keys_and_names_are_unique() {
        let mut names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        names.extend(KINDS.iter().flat_map(|kind| kind.aliases));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "two kinds of one name");
        for kind in KINDS {
            let mut settings = super::super::tests::settings(kind);
            assert!((kind.build)(&settings).is_ok(), "{}", kind.name);
            settings.own.insert("nonsense".to_owned(), 1.into());
            let problem = (kind.build)(&settings).unwrap_err();
            assert_eq!(problem.key, "nonsense", "{}", kind.name);
        }
    }

    #[test]
    fn keys_come_from_the_configuration_or_the_vendors_variables() {
        for kind in KINDS.iter().filter(|kind| !kind.key_variables.is_empty()) {
            let mut settings = super::super::tests::settings(kind);
            settings.api_key = None;
            let problem = (kind.build)(&settings).unwrap_err();
            assert_eq!(problem.key, "api_key", "{}", kind.name);
            let name = kind.key_variables[0];
            settings.environment.insert(name.to_owned(), "from-environment".to_owned());
            let sink = (kind.build)(&settings).unwrap();
            let requests = sink.requests(&[super::super::fixtures::chat()]);
            let sent = requests[0]
                .headers
                .iter()
                .any(|(_, value)| value.expose().ends_with("from-environment"));
            assert!(sent, "{}", kind.name);
            assert!(!format!("{sink:?} {settings:?}").contains("from-environment"));
        }
    }
}
