"""What relay and executor share: signals, signing, errors, clock, settings, logs."""
