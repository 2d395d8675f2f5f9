-- The pending queue in SQLite, version 1. Instants are UTC text with six decimals: text order is time order.

CREATE TABLE signals (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of acceptance
    id          TEXT NOT NULL UNIQUE,
    symbol      TEXT NOT NULL,
    action      TEXT NOT NULL,
    state       TEXT NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'leased', 'acked', 'dead', 'purged')),
    dedupe_key  TEXT UNIQUE,                        -- the sender's own id
    fingerprint TEXT NOT NULL,
    received_at TEXT NOT NULL,
    expires_at  TEXT,
    headers     TEXT NOT NULL,                      -- JSON: name -> value
    payload     TEXT NOT NULL,                      -- the exact signed text
    attempts    INTEGER NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND 5),
    lease       TEXT,                               -- of the last holder
    consumer    TEXT,                               -- who holds it, if it told its name
    held_until  TEXT,                               -- end of the lease, or of the wait for a retry
    reason      TEXT,                               -- why given back, or dead
    done_at     TEXT,                               -- since when it needs no delivery
    CHECK ((done_at IS NULL) = (state IN ('pending', 'leased')))
);

-- The unfinished signals of one symbol, in order.
CREATE INDEX signals_line ON signals (symbol, seq) WHERE done_at IS NULL;
-- What one consumer holds.
CREATE INDEX signals_lent ON signals (consumer, seq) WHERE done_at IS NULL AND consumer IS NOT NULL;
-- What close-only mode delivers.
CREATE INDEX signals_closing ON signals (seq) WHERE done_at IS NULL AND action <> 'open';
CREATE INDEX signals_held ON signals (symbol, seq) WHERE held_until IS NOT NULL;
CREATE INDEX signals_done ON signals (state, done_at) WHERE done_at IS NOT NULL;

-- One row a symbol: its first unfinished signal, and what duplicates are compared with.
CREATE TABLE symbols (
    symbol             TEXT PRIMARY KEY,
    head_seq           INTEGER,           -- first unfinished signal
    held_until         TEXT,              -- of that signal
    waiting            INTEGER NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    accepted           INTEGER NOT NULL DEFAULT 0,
    newest_id          TEXT NOT NULL,
    newest_fingerprint TEXT NOT NULL,
    newest_at          TEXT NOT NULL,
    position           TEXT,              -- what its strategies said they hold, as JSON; see common/chain.py
    position_at        TEXT
) WITHOUT ROWID;

CREATE INDEX symbols_ready ON symbols (head_seq) WHERE held_until IS NULL AND head_seq IS NOT NULL;
CREATE INDEX symbols_held ON symbols (held_until) WHERE held_until IS NOT NULL;

-- How many signals are unfinished, kept by the triggers.
CREATE TABLE depth (waiting INTEGER NOT NULL);
INSERT INTO depth VALUES (0);

CREATE TRIGGER symbols_added AFTER INSERT ON symbols BEGIN
    UPDATE depth SET waiting = waiting + NEW.waiting;
END;
CREATE TRIGGER symbols_changed AFTER UPDATE OF waiting ON symbols WHEN NEW.waiting <> OLD.waiting BEGIN
    UPDATE depth SET waiting = waiting + NEW.waiting - OLD.waiting;
END;

-- Authenticated alerts that were refused, the newest ones, without their secret.
CREATE TABLE refused (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    at     TEXT NOT NULL,
    code   TEXT NOT NULL,
    reason TEXT NOT NULL,
    body   TEXT NOT NULL
);

-- What the owner is to hear from an executor; see relay/pending/notices.py. One row for the same words.
CREATE TABLE notices (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,
    symbol   TEXT NOT NULL,
    text     TEXT NOT NULL,
    at       TEXT NOT NULL,
    told_at  TEXT,                        -- the first time of late
    tellings INTEGER NOT NULL DEFAULT 0,  -- since then
    UNIQUE (kind, symbol, text)
);

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
