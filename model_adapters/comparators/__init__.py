"""Comparators: how two answers to one request differ. Pure, total, and without numpy: gateways run them."""
