"""One-line sabotages of the real code, one for each rule of the order protocol; the named tests must catch every one."""
