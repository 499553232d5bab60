//! Metadata that a caller attaches to a call.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the caller said about a call; every field is optional (SPEC §3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tags {
    /// Prompt slug.
    pub prompt: Option<String>,
    /// Version of that prompt.
    pub prompt_version: Option<String>,
    /// Session, conversation or thread.
    pub session: Option<String>,
    /// Display name of the session.
    pub session_name: Option<String>,
    /// Position of the call in the session's tree, such as `/plan/search`.
    pub session_path: Option<String>,
    /// Environment.
    pub environment: Option<String>,
    /// Tenant.
    pub customer: Option<String>,
    /// End user.
    pub user: Option<String>,
    /// The caller's own id.
    pub reference: Option<String>,
    /// Free labels.
    pub labels: Vec<String>,
    /// Free metadata; names are lower-case.
    pub metadata: Map<String, Value>,
    /// Variables of the prompt template.
    pub inputs: Map<String, Value>,
    /// The question asked; defaults to the last user message.
    pub user_query: Option<String>,
    /// Context for evaluation: text or JSON.
    pub context: Option<Value>,
    /// Expected answer for evaluation.
    pub expected: Option<Value>,
}

impl Tags {
    /// Fills every empty slot from `other`; what is already set wins.
    pub fn fill_from(&mut self, other: Self) {
        fn fill<T>(slot: &mut Option<T>, value: Option<T>) {
            if slot.is_none() {
                *slot = value;
            }
        }
        fill(&mut self.prompt, other.prompt);
        fill(&mut self.prompt_version, other.prompt_version);
        fill(&mut self.session, other.session);
        fill(&mut self.session_name, other.session_name);
        fill(&mut self.session_path, other.session_path);
        fill(&mut self.environment, other.environment);
        fill(&mut self.customer, other.customer);
        fill(&mut self.user, other.user);
        fill(&mut self.reference, other.reference);
        fill(&mut self.user_query, other.user_query);
        fill(&mut self.context, other.context);
        fill(&mut self.expected, other.expected);
        if self.labels.is_empty() {
            self.labels = other.labels;
        }
        for (name, value) in other.metadata {
            self.metadata.entry(name).or_insert(value);
        }
        for (name, value) in other.inputs {
            self.inputs.entry(name).or_insert(value);
        }
    }
}
