"""A store's client for tests that are not about time: a busy machine once took more than 0.25 s for a GET."""

from router.store.redis import RedisStore

PATIENT_S = 5.0


def patient_store(url: str) -> RedisStore:
    """Return a client that waits PATIENT_S for a connection, and as long for an answer."""
    return RedisStore(url, timeout_s=PATIENT_S, connect_s=PATIENT_S)
