-- What the broker said of an order beside its status: how long it keeps it, and the group that cancels it.
ALTER TABLE orders ADD COLUMN tif TEXT;
ALTER TABLE orders ADD COLUMN oca_group TEXT;
ALTER TABLE orders ADD COLUMN oca_type INTEGER;
-- Stops that could not be put back, after which the owner chose to go on.
ALTER TABLE trades ADD COLUMN stops_forgiven INTEGER NOT NULL DEFAULT 0;
