-- name: known
SELECT id, dedupe_key, fingerprint, received_at FROM signals
WHERE id IN (SELECT value FROM json_each(:ids)) OR dedupe_key IN (SELECT value FROM json_each(:keys))

-- name: newest
SELECT symbol, newest_id, newest_fingerprint, newest_at, position FROM symbols
WHERE symbol IN (SELECT value FROM json_each(:symbols))

-- name: depth
SELECT waiting FROM depth

-- name: forget_keys
UPDATE signals SET dedupe_key = NULL WHERE dedupe_key IN (SELECT value FROM json_each(:keys))

-- name: insert
INSERT INTO signals (id, symbol, action, dedupe_key, fingerprint, received_at, expires_at, headers, payload)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
    json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'), json_extract(value, '$[7]'),
    json_extract(value, '$[8]')
FROM json_each(:rows) ORDER BY key

-- name: append
INSERT INTO symbols (symbol, head_seq, waiting, accepted, newest_id, newest_fingerprint, newest_at, position, position_at)
SELECT s.symbol, s.seq, 1, 1, s.id, s.fingerprint, s.received_at, json_extract(value, '$[9]'),
    CASE WHEN json_extract(value, '$[9]') IS NOT NULL THEN s.received_at END
FROM json_each(:rows) CROSS JOIN signals AS s ON s.id = json_extract(value, '$[0]') WHERE true ORDER BY key
ON CONFLICT (symbol) DO UPDATE SET
    head_seq = coalesce(head_seq, excluded.head_seq), waiting = waiting + 1, accepted = accepted + 1,
    newest_id = excluded.newest_id, newest_fingerprint = excluded.newest_fingerprint, newest_at = excluded.newest_at,
    position = coalesce(excluded.position, position), position_at = coalesce(excluded.position_at, position_at)

-- name: release
UPDATE symbols SET held_until = NULL WHERE held_until <= :now OR held_until > :horizon

-- name: ready
SELECT symbol, head_seq FROM symbols WHERE held_until IS NULL AND head_seq IS NOT NULL ORDER BY head_seq LIMIT :limit

-- name: line
SELECT seq, id, symbol, attempts, lease, held_until, reason, received_at, headers, payload FROM signals
WHERE symbol = :symbol AND done_at IS NULL AND seq >= :head_seq ORDER BY seq

-- name: closing
SELECT seq, id, symbol, attempts, lease, held_until, reason, received_at, headers, payload FROM signals AS s
WHERE done_at IS NULL AND action <> 'open' AND NOT EXISTS (
    SELECT 1 FROM signals AS h WHERE h.symbol = s.symbol AND h.seq <= s.seq
    AND h.held_until IS NOT NULL AND h.held_until > :now AND h.held_until <= :horizon)
ORDER BY seq

-- name: lent
SELECT seq, id, symbol, attempts, lease, held_until, reason, received_at, headers, payload FROM signals AS s
WHERE consumer = :consumer AND done_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM signals AS h WHERE h.symbol = s.symbol AND h.done_at IS NULL AND h.seq <= s.seq AND NOT (
        h.consumer IS :consumer AND h.state = 'leased' AND h.held_until > :now AND h.held_until <= :horizon
        AND (:mode = 'open' OR h.action <> 'open')))
ORDER BY seq LIMIT :limit

-- name: lease
UPDATE signals SET state = 'leased', attempts = attempts + 1, lease = :lease, consumer = :consumer, held_until = :until
WHERE seq = :seq

-- name: finish
UPDATE signals SET state = :state, done_at = :now, held_until = NULL, lease = :lease, reason = :reason WHERE seq = :seq

-- name: give_back
UPDATE signals SET state = 'pending', lease = NULL, consumer = NULL, held_until = :until, reason = :reason
WHERE seq = :seq

-- name: overtaken
SELECT seq FROM signals WHERE symbol = :symbol AND done_at IS NULL AND seq < :seq AND action = 'open' ORDER BY seq

-- name: head
UPDATE symbols SET waiting = waiting - :finished, (head_seq, held_until) = (
    SELECT seq, held_until FROM signals
    WHERE signals.symbol = symbols.symbol AND done_at IS NULL AND seq >= symbols.head_seq ORDER BY seq LIMIT 1)
WHERE symbol = :symbol

-- name: next_due
SELECT min(held_until) FROM symbols WHERE held_until IS NOT NULL

-- name: by_id
SELECT seq, symbol, state, lease, attempts FROM signals WHERE id = :id

-- name: revive
UPDATE signals SET state = 'pending', done_at = NULL, attempts = 0, lease = NULL, consumer = NULL, reason = NULL
WHERE seq = :seq

-- name: revive_symbol
UPDATE symbols SET waiting = waiting + 1, held_until = CASE WHEN head_seq < :seq THEN held_until END,
    head_seq = min(coalesce(head_seq, :seq), :seq)
WHERE symbol = :symbol

-- name: purgeable_pending
SELECT seq, symbol FROM signals WHERE done_at IS NULL AND received_at < :before
AND (state = 'pending' OR held_until <= :now OR held_until > :horizon) ORDER BY symbol, seq LIMIT :limit

-- name: purgeable_dead
SELECT seq, symbol FROM signals WHERE state = 'dead' AND done_at IS NOT NULL AND received_at < :before LIMIT :limit

-- name: forget
DELETE FROM signals WHERE seq IN (
    SELECT seq FROM signals WHERE state = :state AND done_at IS NOT NULL AND done_at < :before
    AND received_at < :before ORDER BY done_at LIMIT 2000)

-- name: dead
SELECT id, symbol, action, received_at, done_at, attempts, reason, payload FROM signals
WHERE state = 'dead' AND done_at >= :since ORDER BY done_at, seq LIMIT :limit

-- name: letters
SELECT id, symbol, action, received_at, done_at, attempts, reason, payload FROM signals
WHERE seq IN (SELECT value FROM json_each(:seqs)) ORDER BY seq

-- name: refuse
INSERT INTO refused (at, code, reason, body) VALUES (:at, :code, :reason, :body)

-- name: trim_refused
DELETE FROM refused WHERE seq <= (SELECT max(seq) FROM refused) - :kept

-- name: refused
SELECT at, code, reason, body FROM refused ORDER BY seq DESC LIMIT :limit

-- name: note
INSERT INTO notices (kind, symbol, text, at) VALUES (:kind, :symbol, :text, :at)
ON CONFLICT (kind, symbol, text) DO UPDATE SET at = excluded.at, told_at = NULL, tellings = 0

-- name: trim_notices
DELETE FROM notices WHERE kind = :kind AND seq <= (
    SELECT seq FROM notices WHERE kind = :kind ORDER BY seq DESC LIMIT 1 OFFSET :kept)

-- name: told_enough
DELETE FROM notices WHERE tellings > 1 AND told_at <= :before

-- name: notices
SELECT kind, symbol, text, at, seq FROM notices ORDER BY seq LIMIT :most

-- name: tell
UPDATE notices SET tellings = CASE WHEN told_at > :before THEN tellings ELSE 0 END + 1,
    told_at = CASE WHEN told_at > :before THEN told_at ELSE :now END
WHERE seq <= :last

-- name: heard
DELETE FROM notices WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: settings
SELECT name, value FROM settings

-- name: set
INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: numbers
SELECT (SELECT waiting FROM depth),
    (SELECT count(*) FROM signals WHERE held_until IS NOT NULL AND state = 'leased'
        AND held_until > :now AND held_until <= :horizon),
    (SELECT count(*) FROM signals WHERE state = 'dead' AND done_at IS NOT NULL),
    (SELECT received_at FROM signals WHERE seq = (SELECT min(head_seq) FROM symbols)),
    (SELECT coalesce(sum(accepted), 0) FROM symbols)

-- name: latencies
SELECT received_at, done_at FROM signals WHERE state = 'acked' AND done_at IS NOT NULL ORDER BY done_at DESC LIMIT 200
