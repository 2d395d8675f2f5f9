"""The shell around the core: the only writer of the journal, the only sender of orders."""
