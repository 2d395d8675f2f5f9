-- The pending queue in PostgreSQL, version 1.

CREATE TABLE pending_signals (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- order of acceptance
    id          text NOT NULL UNIQUE,
    symbol      text NOT NULL,
    action      text NOT NULL,
    state       text NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'leased', 'acked', 'dead', 'purged')),
    dedupe_key  text UNIQUE,                        -- the sender's own id
    fingerprint text NOT NULL,
    received_at timestamptz NOT NULL,
    expires_at  timestamptz,
    headers     text NOT NULL,                      -- JSON: name -> value
    payload     text NOT NULL,                      -- the exact signed text
    attempts    integer NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND 5),
    lease       text,                               -- of the last holder
    consumer    text,                               -- who holds it, if it told its name
    held_until  timestamptz,                        -- end of the lease, or of the wait for a retry
    reason      text,                               -- why given back, or dead
    done_at     timestamptz,                        -- since when it needs no delivery
    CHECK ((done_at IS NULL) = (state IN ('pending', 'leased')))
);

-- The unfinished signals of one symbol, in order.
CREATE INDEX pending_signals_line ON pending_signals (symbol, seq) WHERE done_at IS NULL;
-- What one consumer holds.
CREATE INDEX pending_signals_lent ON pending_signals (consumer, seq) WHERE done_at IS NULL AND consumer IS NOT NULL;
-- What close-only mode delivers.
CREATE INDEX pending_signals_closing ON pending_signals (seq) WHERE done_at IS NULL AND action <> 'open';
CREATE INDEX pending_signals_held ON pending_signals (symbol, seq) WHERE held_until IS NOT NULL;
CREATE INDEX pending_signals_done ON pending_signals (state, done_at) WHERE done_at IS NOT NULL;

-- One row a symbol: its first unfinished signal, and what duplicates are compared with. A transaction that changes a
-- symbol's signals locks its row first, in the order of the names.
CREATE TABLE pending_symbols (
    symbol             text PRIMARY KEY,
    head_seq           bigint,            -- first unfinished signal
    held_until         timestamptz,       -- of that signal
    waiting            bigint NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    accepted           bigint NOT NULL DEFAULT 0,
    newest_id          text,
    newest_fingerprint text,
    newest_at          timestamptz,
    position           text,              -- what its strategies said they hold, as JSON; see common/chain.py
    position_at        timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE INDEX pending_symbols_ready ON pending_symbols (head_seq) WHERE held_until IS NULL AND head_seq IS NOT NULL;
CREATE INDEX pending_symbols_held ON pending_symbols (held_until) WHERE held_until IS NOT NULL;

-- Authenticated alerts that were refused, the newest ones, without their secret.
CREATE TABLE pending_refused (
    seq    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL,
    code   text NOT NULL,
    reason text NOT NULL,
    body   text NOT NULL
);

-- What the owner is to hear from an executor; see relay/pending/notices.py. One row for the same words.
CREATE TABLE pending_notices (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text NOT NULL,
    symbol   text NOT NULL,
    text     text NOT NULL,
    at       timestamptz NOT NULL,
    told_at  timestamptz,                 -- the first time of late
    tellings integer NOT NULL DEFAULT 0,  -- since then
    UNIQUE (kind, symbol, text)
);

CREATE TABLE pending_settings (name text PRIMARY KEY, value text NOT NULL);
