"""Fixtures of the HTTP tests: those of the gateway's."""

from tests.gateway.conftest import bench, pytest_asyncio_loop_factories, small_heap

__all__ = ["bench", "pytest_asyncio_loop_factories", "small_heap"]
