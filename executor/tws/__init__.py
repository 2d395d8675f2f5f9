"""The connection to TWS; the only room that knows the broker's library."""
