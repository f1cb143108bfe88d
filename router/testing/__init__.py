"""Fakes and contract suites for authors of plug-ins, and for Turnout's own tests.

The fakes pass the same suites as the real things.
"""

from router.testing.adapter_contract import AdapterExample, check_adapter
from router.testing.clock import ManualClock
from router.testing.memory_store import MemoryServer, MemoryStore
from router.testing.policy_contract import check_policy
from router.testing.store_contract import STORE_CHECKS, check_store

__all__ = [
    "STORE_CHECKS",
    "AdapterExample",
    "ManualClock",
    "MemoryServer",
    "MemoryStore",
    "check_adapter",
    "check_policy",
    "check_store",
]
