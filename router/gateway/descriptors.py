"""File descriptors: as many as the system lets us have, no more connections than they allow, and whose fault a lack is.

A request may use three: its client's, its variant's and its copy's. Running out is survived (libuv accepts and closes
what it cannot keep), but those turned away then hear nothing; so connections are bounded before that.
"""

import errno
import resource

KEPT = 64
"""For the store, the listener, the log, files on disk and connections that are closing. Chosen; about 25 are used."""

PER_CONNECTION = 3

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


def descriptor_limit() -> int:
    """Return how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


def raise_descriptor_limit(connections: int) -> None:
    """Let this process open as many files as so many connections may need, or as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * PER_CONNECTION + KEPT
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_within(connections: int, files: int) -> int:
    """Return how many of the allowed client connections a process that may open so many files can serve; at least 1."""
    if files == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, (files - KEPT) // PER_CONNECTION))


def is_ours(error: OSError | ValueError) -> bool:
    """Whether a connection could not be made for want of something on this machine; no failure of the variant."""
    return isinstance(error, OSError) and error.errno in _OURS
