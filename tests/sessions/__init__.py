"""Black-box sessions: real processes over real sockets, random trouble, and an oracle that knows the contract alone."""
