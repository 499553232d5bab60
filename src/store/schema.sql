CREATE TABLE calls (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    response_id     TEXT,
    repeats         TEXT,
    started_at      TEXT NOT NULL,
    ended_at        TEXT NOT NULL,
    endpoint        TEXT NOT NULL,
    method          TEXT NOT NULL,
    path            TEXT NOT NULL,
    upstream        TEXT NOT NULL,
    provider        TEXT NOT NULL,
    model           TEXT,
    model_requested TEXT,
    stream          INTEGER NOT NULL,
    outcome         TEXT NOT NULL,
    status          INTEGER,
    error_source    TEXT,
    error_type      TEXT,
    error_code      TEXT,
    finish_reason   TEXT,
    latency_ms      REAL NOT NULL,
    first_byte_ms   REAL,
    ttft_ms         REAL,
    overhead_ms     REAL NOT NULL,
    chunks          INTEGER NOT NULL,
    tokens_per_second REAL,
    usage_source    TEXT NOT NULL,
    input_tokens    INTEGER,
    output_tokens   INTEGER,
    total_tokens    INTEGER,
    cached_tokens   INTEGER,
    reasoning_tokens INTEGER,
    cost_status     TEXT NOT NULL,
    cost_pico       INTEGER,
    prompt          TEXT,
    prompt_version  TEXT,
    session         TEXT,
    session_name    TEXT,
    environment     TEXT,
    customer        TEXT,
    user            TEXT,
    reference       TEXT,
    labels          TEXT,
    metadata        TEXT,
    client_key      TEXT,
    sdk             TEXT,
    retry           INTEGER,
    trace_id        TEXT,
    request_bytes   INTEGER NOT NULL,
    response_bytes  INTEGER NOT NULL,
    preview         TEXT,
    answer          TEXT,
    has_bodies      INTEGER NOT NULL,
    cost            REAL GENERATED ALWAYS AS (cost_pico / 1e12) VIRTUAL
) STRICT;
CREATE INDEX calls_started ON calls (started_at);
CREATE INDEX calls_bodies ON calls (started_at) WHERE has_bodies = 1;
CREATE INDEX calls_session ON calls (session) WHERE session IS NOT NULL;
CREATE INDEX calls_response ON calls (response_id) WHERE response_id IS NOT NULL;
CREATE INDEX calls_customer ON calls (customer) WHERE customer IS NOT NULL;
CREATE INDEX calls_prompt ON calls (prompt) WHERE prompt IS NOT NULL;
CREATE INDEX calls_unpriced ON calls (provider, model) WHERE cost_status IN ('unpriced', 'partial');
CREATE INDEX calls_failed ON calls (seq) WHERE outcome <> 'completed';

CREATE TABLE docs (
    seq INTEGER PRIMARY KEY REFERENCES calls (seq) ON DELETE CASCADE,
    doc ANY NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

CREATE TABLE bodies (
    seq             INTEGER PRIMARY KEY REFERENCES calls (seq) ON DELETE CASCADE,
    request         BLOB NOT NULL,
    request_zstd    INTEGER NOT NULL,
    request_crc     INTEGER NOT NULL,
    request_total   INTEGER NOT NULL,
    request_sha256  BLOB,
    member_start    INTEGER,
    member_end      INTEGER,
    response        BLOB NOT NULL,
    response_zstd   INTEGER NOT NULL,
    response_crc    INTEGER NOT NULL,
    response_total  INTEGER NOT NULL,
    response_sha256 BLOB,
    chunks          BLOB NOT NULL,
    chunks_zstd     INTEGER NOT NULL,
    chunks_crc      INTEGER NOT NULL
) STRICT;

CREATE TABLE journal (
    id           TEXT PRIMARY KEY,
    doc          ANY NOT NULL,
    crc          INTEGER NOT NULL,
    request      BLOB,
    request_zstd INTEGER NOT NULL,
    request_crc  INTEGER NOT NULL
) STRICT;

CREATE TABLE threads (key TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT;

CREATE TABLE cursors (
    name  TEXT PRIMARY KEY,
    seq   INTEGER NOT NULL,
    holds INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE rollups (
    dimension        TEXT NOT NULL,
    hour             INTEGER NOT NULL,
    key              TEXT NOT NULL,
    calls            INTEGER NOT NULL,
    errors           INTEGER NOT NULL,
    streamed         INTEGER NOT NULL,
    truncated        INTEGER NOT NULL,
    tool_calls       INTEGER NOT NULL,
    unpriced         INTEGER NOT NULL,
    input_tokens     INTEGER NOT NULL,
    output_tokens    INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost_pico        INTEGER NOT NULL,
    latency_sum      REAL NOT NULL,
    latency_max      REAL NOT NULL,
    first_at         TEXT NOT NULL,
    last_at          TEXT NOT NULL,
    latency          BLOB NOT NULL,
    ttft             BLOB NOT NULL,
    speed            BLOB NOT NULL,
    PRIMARY KEY (dimension, hour, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    session          TEXT PRIMARY KEY,
    last_seq         INTEGER NOT NULL,
    name             TEXT,
    customer         TEXT,
    user             TEXT,
    preview          TEXT,
    models           TEXT NOT NULL,
    prompts          TEXT NOT NULL,
    calls            INTEGER NOT NULL,
    errors           INTEGER NOT NULL,
    streamed         INTEGER NOT NULL,
    truncated        INTEGER NOT NULL,
    tool_calls       INTEGER NOT NULL,
    unpriced         INTEGER NOT NULL,
    input_tokens     INTEGER NOT NULL,
    output_tokens    INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost_pico        INTEGER NOT NULL,
    latency_sum      REAL NOT NULL,
    latency_max      REAL NOT NULL,
    first_at         TEXT NOT NULL,
    last_at          TEXT NOT NULL,
    latency          BLOB NOT NULL,
    ttft             BLOB NOT NULL,
    speed            BLOB NOT NULL
) STRICT;
CREATE INDEX sessions_last ON sessions (last_seq);

CREATE TABLE dropped (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE VIRTUAL TABLE fts USING fts5(text, content='', contentless_delete=1, tokenize='unicode61');
