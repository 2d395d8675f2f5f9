-- name: begin
SELECT set_config('statement_timeout', '1000', true), set_config('lock_timeout', '700', true),
    set_config('idle_in_transaction_session_timeout', '5000', true),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)

-- name: lock_symbols
SELECT symbol, newest_id, newest_fingerprint, newest_at, position FROM pending_symbols
WHERE symbol = ANY(%(symbols)s) ORDER BY symbol FOR UPDATE

-- name: add_symbols
INSERT INTO pending_symbols (symbol) SELECT unnest(%(symbols)s::text[]) ON CONFLICT DO NOTHING

-- name: known
SELECT id, dedupe_key, fingerprint, received_at FROM pending_signals WHERE id = ANY(%(ids)s)
UNION ALL
SELECT id, dedupe_key, fingerprint, received_at FROM pending_signals WHERE dedupe_key = ANY(%(keys)s)

-- name: depth
SELECT coalesce(sum(waiting), 0)::bigint FROM pending_symbols WHERE head_seq IS NOT NULL

-- name: forget_keys
UPDATE pending_signals SET dedupe_key = NULL WHERE dedupe_key = ANY(%(keys)s)

-- name: insert
INSERT INTO pending_signals
    (id, symbol, action, dedupe_key, fingerprint, received_at, expires_at, headers, payload)
SELECT * FROM unnest(
    %(id)s::text[], %(symbol)s::text[], %(action)s::text[], %(dedupe_key)s::text[], %(fingerprint)s::text[],
    %(received_at)s::timestamptz[], %(expires_at)s::timestamptz[], %(headers)s::text[], %(payload)s::text[])
ON CONFLICT DO NOTHING RETURNING id, seq

-- name: append
UPDATE pending_symbols AS s SET
    head_seq = coalesce(s.head_seq, n.first), waiting = s.waiting + n.count, accepted = s.accepted + n.count,
    newest_id = n.id, newest_fingerprint = n.fingerprint, newest_at = n.at,
    position = coalesce(n.position, s.position), position_at = coalesce(n.position_at, s.position_at)
FROM unnest(%(symbol)s::text[], %(first)s::bigint[], %(count)s::bigint[], %(id)s::text[], %(fingerprint)s::text[],
    %(at)s::timestamptz[], %(position)s::text[], %(position_at)s::timestamptz[])
    AS n (symbol, first, count, id, fingerprint, at, position, position_at)
WHERE s.symbol = n.symbol

-- name: release
UPDATE pending_symbols SET held_until = NULL WHERE symbol IN (
    SELECT symbol FROM pending_symbols WHERE held_until IS NOT NULL
    AND (held_until <= %(now)s OR held_until > %(horizon)s) ORDER BY symbol FOR UPDATE SKIP LOCKED)

-- name: lock_ready
SELECT symbol, head_seq FROM pending_symbols WHERE held_until IS NULL AND head_seq IS NOT NULL
ORDER BY head_seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: lines
SELECT w.seq, w.id, w.symbol, w.attempts, w.lease, w.held_until, w.reason, w.received_at, w.headers, w.payload
FROM unnest(%(symbols)s::text[], %(heads)s::bigint[]) AS r (symbol, head_seq) CROSS JOIN LATERAL (
    SELECT * FROM pending_signals AS g
    WHERE g.symbol = r.symbol AND g.done_at IS NULL AND g.seq >= r.head_seq ORDER BY g.seq LIMIT %(limit)s) AS w
ORDER BY w.seq

-- name: lock_closing
SELECT symbol FROM pending_symbols WHERE symbol IN (
    SELECT s.symbol FROM pending_signals AS s
    WHERE s.done_at IS NULL AND s.action <> 'open' AND NOT EXISTS (
        SELECT 1 FROM pending_signals AS h WHERE h.symbol = s.symbol AND h.seq <= s.seq
        AND h.held_until IS NOT NULL AND h.held_until > %(now)s AND h.held_until <= %(horizon)s)
    ORDER BY s.seq LIMIT %(limit)s)
ORDER BY symbol FOR UPDATE SKIP LOCKED

-- name: closing
SELECT seq, id, symbol, attempts, lease, held_until, reason, received_at, headers, payload
FROM pending_signals AS s
WHERE done_at IS NULL AND action <> 'open' AND symbol = ANY(%(symbols)s) AND NOT EXISTS (
    SELECT 1 FROM pending_signals AS h WHERE h.symbol = s.symbol AND h.seq <= s.seq
    AND h.held_until IS NOT NULL AND h.held_until > %(now)s AND h.held_until <= %(horizon)s)
ORDER BY seq LIMIT %(limit)s

-- name: claim
INSERT INTO pending_settings AS s (name, value) VALUES ('consumer', %(claim)s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE s.value = %(before)s::text RETURNING value

-- name: lent
SELECT seq, id, symbol, attempts, lease, held_until, reason, received_at, headers, payload FROM pending_signals AS s
WHERE consumer = %(consumer)s AND done_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM pending_signals AS h WHERE h.symbol = s.symbol AND h.done_at IS NULL AND h.seq <= s.seq AND NOT (
        h.consumer IS NOT DISTINCT FROM %(consumer)s AND h.state = 'leased'
        AND h.held_until > %(now)s AND h.held_until <= %(horizon)s AND (%(mode)s = 'open' OR h.action <> 'open')))
ORDER BY seq LIMIT %(limit)s

-- name: lease
UPDATE pending_signals SET
    state = 'leased', attempts = attempts + 1, lease = %(lease)s, consumer = %(consumer)s, held_until = %(until)s
WHERE seq = ANY(%(seqs)s)

-- name: finish
UPDATE pending_signals SET state = %(state)s, done_at = %(now)s, held_until = NULL, lease = f.lease, reason = f.reason
FROM unnest(%(seqs)s::bigint[], %(leases)s::text[], %(reasons)s::text[]) AS f (seq, lease, reason)
WHERE pending_signals.seq = f.seq

-- name: give_back
UPDATE pending_signals SET state = 'pending', lease = NULL, consumer = NULL, held_until = %(until)s, reason = %(reason)s
WHERE seq = %(seq)s

-- name: overtaken
SELECT g.seq, g.symbol FROM unnest(%(symbols)s::text[], %(seqs)s::bigint[]) AS o (symbol, seq)
JOIN pending_signals AS g ON g.symbol = o.symbol AND g.done_at IS NULL AND g.seq < o.seq AND g.action = 'open'
ORDER BY g.seq

-- name: head
UPDATE pending_symbols AS s SET waiting = s.waiting - n.finished, head_seq = n.seq, held_until = n.held_until
FROM (
    SELECT f.symbol, f.finished, h.seq, h.held_until
    FROM unnest(%(symbols)s::text[], %(finished)s::bigint[]) AS f (symbol, finished)
    JOIN pending_symbols AS p ON p.symbol = f.symbol
    LEFT JOIN LATERAL (
        SELECT g.seq, g.held_until FROM pending_signals AS g
        WHERE g.symbol = f.symbol AND g.done_at IS NULL AND g.seq >= p.head_seq ORDER BY g.seq LIMIT 1) AS h ON true
) AS n
WHERE s.symbol = n.symbol

-- name: next_due
SELECT min(held_until) FROM pending_symbols WHERE held_until IS NOT NULL

-- name: lock_symbols_of
SELECT symbol FROM pending_symbols WHERE symbol IN (SELECT symbol FROM pending_signals WHERE id = ANY(%(ids)s))
ORDER BY symbol FOR UPDATE

-- name: by_ids
SELECT id, seq, symbol, state, lease, attempts FROM pending_signals WHERE id = ANY(%(ids)s)

-- name: revive
UPDATE pending_signals SET state = 'pending', done_at = NULL, attempts = 0, lease = NULL, consumer = NULL, reason = NULL
WHERE seq = %(seq)s

-- name: revive_symbol
UPDATE pending_symbols SET waiting = waiting + 1,
    held_until = CASE WHEN head_seq < %(seq)s THEN held_until END,
    head_seq = least(coalesce(head_seq, %(seq)s), %(seq)s)
WHERE symbol = %(symbol)s

-- name: purgeable_pending
SELECT id FROM pending_signals WHERE done_at IS NULL AND received_at < %(before)s
AND (state = 'pending' OR held_until <= %(now)s OR held_until > %(horizon)s) ORDER BY symbol, seq LIMIT %(limit)s

-- name: purgeable_dead
SELECT id FROM pending_signals WHERE state = 'dead' AND done_at IS NOT NULL AND received_at < %(before)s
LIMIT %(limit)s

-- name: forget
DELETE FROM pending_signals WHERE seq IN (
    SELECT seq FROM pending_signals WHERE state = ANY('{acked,purged}') AND done_at IS NOT NULL
    AND done_at < %(before)s AND received_at < %(before)s LIMIT 2000 FOR UPDATE SKIP LOCKED)
RETURNING seq

-- name: dead
SELECT id, symbol, action, received_at, done_at, attempts, reason, payload FROM pending_signals
WHERE state = 'dead' AND done_at >= %(since)s ORDER BY done_at, seq LIMIT %(limit)s

-- name: letters
SELECT id, symbol, action, received_at, done_at, attempts, reason, payload FROM pending_signals
WHERE seq = ANY(%(seqs)s) ORDER BY seq

-- name: refuse
INSERT INTO pending_refused (at, code, reason, body) VALUES (%(at)s, %(code)s, %(reason)s, %(body)s)

-- name: trim_refused
DELETE FROM pending_refused WHERE seq <= (
    SELECT seq FROM pending_refused ORDER BY seq DESC OFFSET %(kept)s LIMIT 1)

-- name: refused
SELECT at, code, reason, body FROM pending_refused ORDER BY seq DESC LIMIT %(limit)s

-- name: note
INSERT INTO pending_notices (kind, symbol, text, at) VALUES (%(kind)s, %(symbol)s, %(text)s, %(at)s)
ON CONFLICT (kind, symbol, text) DO UPDATE SET at = excluded.at, told_at = NULL, tellings = 0

-- name: trim_notices
DELETE FROM pending_notices WHERE kind = %(kind)s AND seq <= (
    SELECT seq FROM pending_notices WHERE kind = %(kind)s ORDER BY seq DESC LIMIT 1 OFFSET %(kept)s)

-- name: told_enough
DELETE FROM pending_notices WHERE tellings > 1 AND told_at <= %(before)s

-- name: notices
SELECT kind, symbol, text, at, seq FROM pending_notices ORDER BY seq LIMIT %(most)s

-- name: tell
UPDATE pending_notices SET tellings = CASE WHEN told_at > %(before)s THEN tellings ELSE 0 END + 1,
    told_at = CASE WHEN told_at > %(before)s THEN told_at ELSE %(now)s END
WHERE seq <= %(last)s

-- name: heard
DELETE FROM pending_notices WHERE seq = ANY(%(seqs)s)

-- name: get
SELECT value FROM pending_settings WHERE name = %(name)s

-- name: set
INSERT INTO pending_settings (name, value) VALUES (%(name)s, %(value)s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: numbers
SELECT (SELECT coalesce(sum(waiting), 0)::bigint FROM pending_symbols),
    (SELECT count(*) FROM pending_signals WHERE held_until IS NOT NULL AND state = 'leased'
        AND held_until > %(now)s AND held_until <= %(horizon)s),
    (SELECT count(*) FROM pending_signals WHERE state = 'dead' AND done_at IS NOT NULL),
    (SELECT received_at FROM pending_signals WHERE seq = (SELECT min(head_seq) FROM pending_symbols)),
    (SELECT coalesce(sum(accepted), 0)::bigint FROM pending_symbols)

-- name: latencies
SELECT extract(epoch FROM done_at - received_at)::float FROM pending_signals
WHERE state = 'acked' AND done_at IS NOT NULL ORDER BY done_at DESC LIMIT 200
