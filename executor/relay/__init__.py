"""The executor's side of the relay: lease, verify, acknowledge."""
