"""What trading decides, pure: no input or output, no clock, no library."""
