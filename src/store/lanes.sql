-- What delivery remembers. A lane's place in the record log is its row in `cursors`; a backfill has a
-- row there of its own, which ends at `until`.
ALTER TABLE cursors ADD COLUMN until INTEGER;

CREATE TABLE lanes (
    sink      TEXT PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    paused    TEXT,
    delivered INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Records that left the straight path: waiting to be tried alone, or dead.
CREATE TABLE exceptions (
    sink     TEXT NOT NULL,
    seq      INTEGER NOT NULL REFERENCES calls (seq) ON DELETE CASCADE,
    state    TEXT NOT NULL CHECK (state IN ('waiting', 'dead')),
    attempts INTEGER NOT NULL,
    next_at  TEXT NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (sink, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX exceptions_seq ON exceptions (seq);
CREATE INDEX exceptions_due ON exceptions (sink, state, next_at);
