-- What the broker said of an order beside its status: how long it keeps it, and the group that cancels it.
ALTER TABLE orders ADD COLUMN tif TEXT;
ALTER TABLE orders ADD COLUMN oca_group TEXT;
ALTER TABLE orders ADD COLUMN oca_type INTEGER;
-- Stops that could not be put back, after which the owner chose to go on.
ALTER TABLE trades ADD COLUMN stops_forgiven INTEGER NOT NULL DEFAULT 0;
-- Each side of a contract may be blocked by itself: the end of a trade on one side says nothing of the other.
CREATE TABLE blocks_of_sides (
    account TEXT NOT NULL, con_id INTEGER NOT NULL, symbol TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('buy', 'sell')), trade_id INTEGER, since TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (account, con_id, side)
) STRICT;
INSERT INTO blocks_of_sides SELECT * FROM blocks;
DROP TABLE blocks;
ALTER TABLE blocks_of_sides RENAME TO blocks;
