"""The right to decide, held by one control process at a time.

The lease only saves work: two holders at once do no harm. What keeps an old holder from writing is the epoch in every
stored state, which the store compares on each write (`StateStore.compare_and_set`).
"""

from router.core.ports import FleetStore
from router.telemetry import logs

LEASE_S = 5.0
"""How long a silent holder keeps the lease. Chosen: five missed renewals, so that a slow store does not make it flap,
and a dead holder is replaced within 6 s. Gateways do not wait for that: their own breaker needs no holder."""


class Lease:
    """Asks for the lease once per tick and remembers what came of it.

    `epoch` is the fencing number while this process holds the lease, None otherwise. `highest_epoch` is the
    highest one ever seen here; a new lease is always above it, even from a store that came back empty.
    """

    def __init__(self, store: FleetStore, holder: str, ttl_s: float = LEASE_S) -> None:
        self._store = store
        self._holder = holder
        self._ttl_s = ttl_s
        self._log = logs.get("lease")
        self.epoch: int | None = None
        self.highest_epoch = 0

    def __repr__(self) -> str:
        return f"Lease({self._holder}, epoch {self.epoch}, highest seen {self.highest_epoch})"

    async def renew(self, seen_epoch: int) -> int | None:
        """Take or keep the lease; return the epoch, None while another process holds it.

        `seen_epoch` is the highest epoch in any stored state. Raises StoreUnavailableError; then this process counts
        as without lease until a later call says otherwise.
        """
        self.highest_epoch = max(self.highest_epoch, seen_epoch)
        before, self.epoch = self.epoch, None
        epoch = await self._store.acquire_lease(self._holder, self._ttl_s, self.highest_epoch)
        if epoch is not None and epoch != before:
            self._log.info("this process decides from now on", epoch=epoch)
        if epoch is None and before is not None:
            self._log.warning("another control process decides now", epoch=before)
        self.epoch = epoch
        self.highest_epoch = max(self.highest_epoch, epoch or 0)
        return epoch

    def lose(self, why: str) -> None:
        """Stop counting as holder: the store has seen a newer epoch."""
        if self.epoch is not None:
            self._log.warning("another control process decides now", epoch=self.epoch, why=why)
        self.epoch = None

    async def release(self) -> None:
        """Give the lease back so that the next holder need not wait. Raises StoreUnavailableError."""
        if self.epoch is not None:
            self.epoch = None
            await self._store.release_lease(self._holder)
