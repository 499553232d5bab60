//! Every alias, by what it fills.

/// What an alias may fill: calltap's key for it, where it stands in a record, and the aliases, the
/// strongest first.
pub type Slot = (&'static str, &'static str, &'static [&'static str]);

/// Texts.
pub const TEXTS: &[Slot] = &[
    (
        "session",
        "/tags/session",
        &[
            "helicone-session-id",
            "x-litellm-session-id",
            "langfuse-session-id",
            "x-langfuse-session-id",
            "langfuse_session_id",
            "langfuse_trace_session_id",
            "x-bf-session-id",
            "x-session-id",
            "agent-session-id",
            "x-thread-id",
        ],
    ),
    ("session-name", "/tags/session_name", &["helicone-session-name", "x-thread-title"]),
    ("session-path", "/tags/session_path", &["helicone-session-path"]),
    ("prompt", "/tags/prompt", &["helicone-prompt-id", "helicone-prompt-name"]),
    ("prompt-version", "/tags/prompt_version", &["helicone-prompt-version"]),
    (
        "user",
        "/tags/user",
        &[
            "helicone-user-id",
            "x-litellm-end-user-id",
            "x-litellm-customer-id",
            "x-litellm-user-id",
            "langfuse-user-id",
            "x-langfuse-user-id",
            "langfuse_user_id",
            "langfuse_trace_user_id",
            "x-bf-customer-id",
            "x-respan-customer-identifier",
            "x-keywordsai-customer-identifier",
            "x-aisix-user",
            "x-gomodel-user-path",
        ],
    ),
    ("customer", "/tags/customer", &["helicone-org-id"]),
    ("environment", "/tags/environment", &["langfuse-environment", "langfuse_environment"]),
    (
        "reference",
        "/tags/reference",
        &[
            "helicone-request-id",
            "x-litellm-call-id",
            "cf-aig-event-id",
            "x-aisix-request-id",
            "x-client-request-id",
            "x-request-id",
        ],
    ),
];
/// What stands in for a `traceparent`.
pub const TRACES: &[Slot] = &[
    (
        "traceparent",
        "/trace/trace_id",
        &[
            "x-portkey-trace-id",
            "x-litellm-trace-id",
            "langfuse-trace-id",
            "langfuse_trace_id",
            "x-bf-maxim-trace-id",
        ],
    ),
    (
        "traceparent",
        "/trace/parent_id",
        &[
            "x-portkey-parent-span-id",
            "langfuse-parent-observation-id",
            "langfuse_parent_observation_id",
        ],
    ),
];
/// Lists of labels.
pub const LABELS: &[&str] = &[
    "x-litellm-tags",
    "langfuse-tags",
    "langfuse_tags",
    "langfuse_trace_tags",
    "x-tags",
    "x-label",
];
/// JSON objects of metadata.
pub const OBJECTS: &[&str] = &[
    "x-portkey-metadata",
    "x-litellm-spend-logs-metadata",
    "langfuse-metadata",
    "langfuse_metadata",
    "langfuse_trace_metadata",
    "cf-aig-metadata",
    "x-tfy-metadata",
];
/// The parameters of Keywords AI.
pub const PARAMETERS: &[&str] = &["x-data-keywordsai-params", "x-data-respan-params"];
/// Prefixes; the rest of the name is the name of a piece of metadata.
pub const NAMED: &[&str] = &["helicone-property-", "x-bf-dim-", "x-bf-prom-", "x-llmgateway-"];
/// The value that acts, the one that does not, and the `x-calltap-log` that it stands for.
pub const FLAGS: &[(&str, &str, &str, &str)] = &[
    ("helicone-omit-request", "true", "false", "metadata"),
    ("helicone-omit-response", "true", "false", "metadata"),
    ("x-litellm-enable-message-redaction", "true", "false", "metadata"),
    ("x-bf-disable-content-logging", "1", "0", "metadata"),
    ("cf-aig-collect-log-payload", "false", "true", "metadata"),
    ("cf-aig-collect-log", "false", "true", "off"),
    ("x-portkey-debug", "0", "1", "off"),
];
/// Read, and forwarded: they are of no product in particular.
pub const FORWARDED: &[&str] = &[
    "x-session-id",
    "agent-session-id",
    "x-thread-id",
    "x-thread-title",
    "x-tags",
    "x-label",
    "x-client-request-id",
    "x-request-id",
];

/// Each of them.
pub fn all() -> Vec<&'static str> {
    let texts = TEXTS.iter().chain(TRACES).flat_map(|(_, _, aliases)| aliases.iter().copied());
    let lists = [LABELS, OBJECTS, PARAMETERS, NAMED].into_iter().flatten().copied();
    texts.chain(lists).chain(FLAGS.iter().map(|(alias, ..)| *alias)).collect()
}
