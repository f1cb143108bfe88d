"""Readers of prediction protocols: bytes in, values out, no I/O. One file for each protocol."""
