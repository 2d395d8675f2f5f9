-- The journal: the record of truth. Instants are UTC text with six decimals and a Z, so that text order is time order.
-- Exact quantities and prices are decimal text; the public columns of `trades` are numbers, for people's own tools.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;  -- account → which account this journal belongs to

-- Every signal that was leased from the relay and verified, in the order of arrival. Committed before the relay hears an ack.
CREATE TABLE inbox (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    signal_id   TEXT NOT NULL UNIQUE,
    payload     TEXT NOT NULL,               -- the exact signed text
    received_at TEXT NOT NULL,               -- by the relay
    arrived_at  TEXT NOT NULL,               -- here
    expires_at  TEXT,
    action      TEXT NOT NULL CHECK (action IN ('open', 'reduce', 'close', 'protect', 'reset')),
    symbol      TEXT NOT NULL,
    side        TEXT CHECK (side IN ('buy', 'sell')),
    quantity    TEXT,
    percent     TEXT,                        -- of a close: this part of the trade
    tp          TEXT,                        -- a price, a distance ("1.5%", "25 ticks", "2.5 points"), or "entry"
    sl          TEXT,
    trail       TEXT,                        -- a distance
    targets     TEXT,                        -- JSON: [{"tp", "percent"}]
    breakeven_after_target INTEGER NOT NULL DEFAULT 0,
    loosen      INTEGER NOT NULL DEFAULT 0,
    note        TEXT,
    market_position      TEXT,               -- of a strategy's alert: long, short or flat
    prev_market_position TEXT,               -- what the strategy held before it
    prev_size            TEXT,
    strategy_name TEXT,
    price       TEXT,                        -- what the sender saw
    time        TEXT,                        -- and when
    late        INTEGER NOT NULL DEFAULT 0,  -- 1: the strategy had moved on when it came
    state       TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'closing', 'done')),
    outcome     TEXT CHECK (outcome IN ('entered', 'added', 'reduced', 'protected', 'closed', 'reset', 'ignored', 'refused', 'expired',
                                        'superseded', 'nothing to do')),
    reason      TEXT,                        -- the verdict in words
    trade_id    INTEGER,                     -- the trade it opened, or is closing
    decided_at  TEXT
) STRICT;
CREATE INDEX inbox_undone ON inbox (seq) WHERE state <> 'done';

CREATE TABLE trades (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp      TEXT NOT NULL,            -- when the intent was written
    symbol         TEXT NOT NULL,
    signal         TEXT NOT NULL CHECK (signal IN ('buy', 'sell')),
    position_size  NUMERIC NOT NULL CHECK (position_size > 0),
    entry_order_id INTEGER,
    tp_order_id    INTEGER,
    sl_order_id    INTEGER,
    entry_price    NUMERIC,                  -- average over the executions
    adopted_price  TEXT,                     -- what the owner had paid for a position that he adopted
    exit_price     NUMERIC,
    tp_price       NUMERIC,                  -- what the broker holds
    sl_price       NUMERIC,
    tp_hit         INTEGER NOT NULL DEFAULT 0 CHECK (tp_hit IN (0, 1)),
    closed         INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
    state          TEXT NOT NULL,            -- see executor/core/trades.py
    signal_id      TEXT NOT NULL UNIQUE,
    account        TEXT NOT NULL,
    con_id         INTEGER NOT NULL,
    asked          TEXT NOT NULL,            -- quantity asked for
    received_at    TEXT NOT NULL,            -- the opening signal, by the relay
    valid_until    TEXT NOT NULL,            -- no entry byte is sent after this
    reduced        TEXT NOT NULL DEFAULT '0',-- what the owner took out of it by hand
    missed_at      TEXT,                     -- when a quantity was found missing that nothing explains
    stop_wanted    INTEGER NOT NULL DEFAULT 0,
    exit_reason    TEXT,                     -- take-profit, stop-loss, close signal, reversal, owner, by hand, liquidated, unknown
    close_cause    TEXT,                     -- why a close was asked
    hold_reason    TEXT,
    closes_forgiven INTEGER NOT NULL DEFAULT 0, -- refused close orders after which the owner chose to go on
    stops_forgiven INTEGER NOT NULL DEFAULT 0,  -- stops that could not be put back, after which the owner chose to go on
    evidence       TEXT,                     -- JSON: what was seen when it was put on hold
    unprotected_at TEXT,                     -- since when the wanted stop is missing
    loose_at       TEXT,                     -- since when orders are live though nothing is held
    strategy_size  TEXT,                     -- what its strategy holds on this side, where it said another size
    held           NUMERIC NOT NULL DEFAULT 0,  -- what is left of position_size
    shrink_to      TEXT,                     -- the size that it shall have, while a reduction is under way
    shrink_for     TEXT,                     -- the signal that asked for that
    shrink_at      TEXT,                     -- since when
    shrink_taken   TEXT,                     -- what the exits had filled by then; what they fill later comes out of that size
    breakeven      INTEGER NOT NULL DEFAULT 0,  -- 1: the first target that fills moves the stop to the entry price
    trail          TEXT,                     -- how far its stop is to follow the market
    stop_aim       TEXT,                     -- where its stop shall be, until it is moved there or added: a price, a distance, "entry"
    stop_aim_for   TEXT,                     -- the signal that asked for that; NULL: the one that opened it
    stop_aim_free  INTEGER NOT NULL DEFAULT 0,  -- 1: it may move away from the market
    target_aim     TEXT,                     -- and its take-profit
    target_aim_for TEXT,
    protected_at   TEXT,                     -- receipt of the newest signal that moved its exits
    sent_at        TEXT,
    filled_at      TEXT,                     -- first fill of the entry
    closed_at      TEXT
);  -- not STRICT, which knows no NUMERIC: a number here reads as the integer or decimal that it is
-- One trade in a contract; beside it there may be what is left of earlier ones, on hold or on its way out.
CREATE UNIQUE INDEX one_trade_per_contract ON trades (account, con_id)
    WHERE closed = 0 AND state NOT IN ('hold', 'cancelling', 'closing');
CREATE INDEX unfinished_trades ON trades (con_id) WHERE closed = 0;
-- One answer to "what is unfinished?": the file refuses a row in which state and column contradict each other.
CREATE TRIGGER new_trade_closed_as_its_state_says BEFORE INSERT ON trades
    WHEN NEW.closed <> (NEW.state IN ('closed', 'void'))
    BEGIN SELECT RAISE(ABORT, 'closed and state contradict each other'); END;
CREATE TRIGGER trade_closed_as_its_state_says BEFORE UPDATE ON trades
    WHEN NEW.closed <> (NEW.state IN ('closed', 'void'))
    BEGIN SELECT RAISE(ABORT, 'closed and state contradict each other'); END;
CREATE INDEX trades_by_end ON trades (closed_at) WHERE closed = 1;
CREATE INDEX trades_in_contract ON trades (con_id);

-- Every order that we mean to send, written before its first byte.
CREATE TABLE orders (
    order_ref       TEXT PRIMARY KEY,
    trade_id        INTEGER NOT NULL REFERENCES trades (id),
    leg             TEXT NOT NULL CHECK (leg IN ('E', 'T', 'S', 'C', 'R', 'X', 'A', 'K', 'L')),
    attempt         INTEGER NOT NULL,
    account         TEXT NOT NULL,
    con_id          INTEGER NOT NULL,
    client_id       INTEGER,
    order_id        INTEGER,
    perm_id         INTEGER NOT NULL DEFAULT 0,
    side            TEXT NOT NULL CHECK (side IN ('buy', 'sell')),
    kind            TEXT NOT NULL CHECK (kind IN ('MKT', 'LMT', 'STP', 'TRAIL')),
    quantity        TEXT NOT NULL,
    price           TEXT,                    -- as the broker holds it
    trail           TEXT,                    -- of a trailing stop: how far it follows
    wish            TEXT,                    -- the price that it shall have, where that is another
    state           TEXT NOT NULL CHECK (state IN ('sending', 'working', 'filled', 'cancelled', 'rejected')),
    filled          TEXT NOT NULL DEFAULT '0',
    parent_ref      TEXT,
    said            TEXT,                    -- the last status word of the broker, as executor/core/ports.py maps it
    said_filled     TEXT,
    reason          TEXT,                    -- why it was rejected or cancelled, in the broker's words
    refusal_code    INTEGER,
    tif             TEXT,                    -- how long the broker keeps it, in its words
    oca_group       TEXT,                    -- the group that cancels it, as the broker named it
    oca_type        INTEGER,
    held            TEXT,                    -- why the broker holds it back (399, locate), in words
    sent_at         TEXT,
    sent_day        TEXT,                    -- the broker's trading day
    resends         INTEGER NOT NULL DEFAULT 0,
    cancel_asked_at TEXT,                    -- last time
    cancelling_since TEXT,                   -- first time
    resize_asked_at TEXT,
    wish_for        TEXT,                    -- the signal that asked for that price
    wish_sent_at    TEXT,                    -- when it was first sent
    sent_prices     TEXT,                    -- what it was sent since the broker last reported its price
    done_at         TEXT,
    signal_id       TEXT,                    -- the signal that asked for a reduction, an addition, or an exit that was added
    pair            INTEGER NOT NULL DEFAULT 0,  -- which target and stop cancel each other; 0: those of what no target takes
    percent         TEXT,                    -- of the first entry's size that its pair takes
    distance        TEXT,                    -- from the fill to a target, until it is moved there
    UNIQUE (client_id, order_id)
) STRICT;
CREATE INDEX orders_of_trade ON orders (trade_id);

-- Every execution in a contract that we trade, ours and the owner's; a correction replaces its row.
CREATE TABLE fills (
    exec_root  TEXT PRIMARY KEY,
    exec_id    TEXT NOT NULL,
    order_ref  TEXT NOT NULL,                -- '' where it is not ours, 'own' where it took out what the owner holds beside
    trade_id   INTEGER,
    account    TEXT NOT NULL,
    con_id     INTEGER NOT NULL,
    side       TEXT NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity   TEXT NOT NULL,
    price      TEXT NOT NULL,
    at         TEXT NOT NULL,
    commission TEXT,
    liquidation INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX fills_of_trade ON fills (trade_id) WHERE trade_id IS NOT NULL;
CREATE INDEX fills_of_nobody ON fills (at) WHERE trade_id IS NULL;

-- Append only; also the page's trade log.
CREATE TABLE events (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        TEXT NOT NULL,
    kind      TEXT NOT NULL,                 -- signal received, entry sent, filled, take-profit filled, ignored, ...
    symbol    TEXT NOT NULL DEFAULT '',
    trade_id  INTEGER,
    signal_id TEXT,
    order_ref TEXT,
    details   TEXT NOT NULL                  -- one sentence in a trader's language
) STRICT;
CREATE INDEX events_of_trade ON events (trade_id);

-- A side that last took profit, or may have (sure = 0), per contract: no re-entry until released.
CREATE TABLE blocks (
    account TEXT NOT NULL, con_id INTEGER NOT NULL, symbol TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('buy', 'sell')), trade_id INTEGER, since TEXT NOT NULL, reason TEXT NOT NULL,
    sure INTEGER NOT NULL DEFAULT 1 CHECK (sure IN (0, 1)),
    PRIMARY KEY (account, con_id, side)
) STRICT;

-- What the owner holds besides our trades and chose to leave alone.
CREATE TABLE ignored_holdings (
    account TEXT NOT NULL, con_id INTEGER NOT NULL, symbol TEXT NOT NULL, quantity TEXT NOT NULL, chosen_at TEXT NOT NULL,
    PRIMARY KEY (account, con_id)
) STRICT;

-- canonical symbol → contract, as last qualified, and when a signal last meant it
CREATE TABLE contracts (symbol TEXT PRIMARY KEY, con_id INTEGER NOT NULL, used_at TEXT NOT NULL) STRICT;

-- What each strategy held after its last alert, when that was sent, and the last alert that was missing before it; see
-- common/chain.py. A strategy that tells no name is ''. `opened_by` is the newest alert that began or
-- enlarged its position, whose exits count; NULL where an alert was missed since.
CREATE TABLE chains (
    symbol TEXT NOT NULL, strategy_name TEXT NOT NULL, chain TEXT NOT NULL, received_at TEXT NOT NULL,
    opened_by TEXT,
    PRIMARY KEY (symbol, strategy_name)
) STRICT;

CREATE TABLE order_ids (client_id INTEGER PRIMARY KEY, next INTEGER NOT NULL) STRICT;  -- ids never go backwards

-- Alarms: raised here first, delivered after. One row per condition and object until it is cleared.
CREATE TABLE alarms (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    key          TEXT NOT NULL,              -- kind + object
    kind         TEXT NOT NULL,
    level        TEXT NOT NULL CHECK (level IN ('page', 'warn')),
    symbol       TEXT NOT NULL DEFAULT '',
    trade_id     INTEGER,
    text         TEXT NOT NULL,
    raised_at    TEXT NOT NULL,
    cleared_at   TEXT,
    cleared_text TEXT,
    told_at      TEXT,                       -- last delivery that succeeded
    tries        INTEGER NOT NULL DEFAULT 0,
    try_after    TEXT,
    clear_told   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX one_alarm_per_key ON alarms (key) WHERE cleared_at IS NULL;
CREATE INDEX alarms_to_tell ON alarms (id) WHERE cleared_at IS NULL OR (clear_told = 0 AND told_at IS NOT NULL);

-- What the page shows of the moment: key → JSON, replaced at most about once a second.
-- connection {"status","text","since","account","mode"}, account {"NetLiquidation": "…", …}, positions [{"symbol","position","avgCost",…}], clock {…}
CREATE TABLE live (key TEXT PRIMARY KEY, value TEXT NOT NULL, at TEXT NOT NULL) STRICT;

-- How many signals came to each outcome, or are in each state while not done. The triggers keep it in the same commit, so
-- that nobody has to count a long journal.
CREATE TABLE signal_tallies (outcome TEXT PRIMARY KEY, signals INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TRIGGER signal_added AFTER INSERT ON inbox BEGIN
    INSERT INTO signal_tallies VALUES (coalesce(NEW.outcome, NEW.state), 1) ON CONFLICT DO UPDATE SET signals = signals + 1;
END;
CREATE TRIGGER signal_moved AFTER UPDATE OF outcome, state ON inbox
WHEN coalesce(OLD.outcome, OLD.state) <> coalesce(NEW.outcome, NEW.state) BEGIN
    UPDATE signal_tallies SET signals = signals - 1 WHERE outcome = coalesce(OLD.outcome, OLD.state);
    INSERT INTO signal_tallies VALUES (coalesce(NEW.outcome, NEW.state), 1) ON CONFLICT DO UPDATE SET signals = signals + 1;
END;

-- How long trades took, kept likewise: each counts at the least bound, in seconds, that its delay is not above.
CREATE TABLE delay_tallies (
    delay   TEXT NOT NULL,                   -- to order: from the relay's receipt to the entry order; to fill: from there on
    at_most REAL NOT NULL,
    trades  INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,         -- the sum of their delays
    PRIMARY KEY (delay, at_most)
) STRICT, WITHOUT ROWID;
INSERT INTO delay_tallies (delay, at_most)
SELECT d.column1, b.column1 FROM (VALUES ('to order'), ('to fill')) AS d
CROSS JOIN (VALUES (0.005), (0.01), (0.025), (0.05), (0.1), (0.25), (0.5), (1), (2.5), (5), (10), (30), (9e999)) AS b;

CREATE VIEW counted AS SELECT NULL AS delay, NULL AS sign, NULL AS seconds;  -- what is inserted here is counted, or with -1 no more
CREATE TRIGGER delay_counted INSTEAD OF INSERT ON counted BEGIN
    UPDATE delay_tallies SET trades = trades + NEW.sign, seconds = seconds + NEW.sign * NEW.seconds
    WHERE delay = NEW.delay
      AND at_most = (SELECT min(at_most) FROM delay_tallies WHERE delay = NEW.delay AND at_most >= NEW.seconds);
END;
CREATE TRIGGER trade_added AFTER INSERT ON trades BEGIN
    INSERT INTO counted VALUES ('to order', 1, (julianday(NEW.sent_at) - julianday(NEW.received_at)) * 86400.0);
    INSERT INTO counted VALUES ('to fill', 1, (julianday(NEW.filled_at) - julianday(NEW.sent_at)) * 86400.0);
END;
CREATE TRIGGER trade_timed AFTER UPDATE OF received_at, sent_at, filled_at ON trades BEGIN
    INSERT INTO counted VALUES ('to order', -1, (julianday(OLD.sent_at) - julianday(OLD.received_at)) * 86400.0);
    INSERT INTO counted VALUES ('to order', 1, (julianday(NEW.sent_at) - julianday(NEW.received_at)) * 86400.0);
    INSERT INTO counted VALUES ('to fill', -1, (julianday(OLD.filled_at) - julianday(OLD.sent_at)) * 86400.0);
    INSERT INTO counted VALUES ('to fill', 1, (julianday(NEW.filled_at) - julianday(NEW.sent_at)) * 86400.0);
END;
