"""Every key of the store, here and nowhere else.

All keys of one Route carry the hash tag `{route}`: they share one cluster slot, so that one script may touch several.
"""

LEASE = "turnout:lease"
"""Hash: holder, epoch, expires (server's clock, ms)."""

REPLICAS = "turnout:replicas"
"""Hash: boot -> heartbeat."""

REPLICAS_SEEN = "{turnout:replicas}:seen"
"""Sorted set: boot by the second of its last heartbeat. The tag is REPLICAS itself, so both keys share its slot."""

NOTICES = "turnout:notices"
"""Pub/sub channel on which each new revision is told."""

_ESCAPES = str.maketrans({"%": "%25", ":": "%3A", "{": "%7B", "}": "%7D"})


def state(route: str) -> str:
    """Return the hash: revision, epoch, body (codec.encode_state)."""
    return f"{_tag(route)}:state"


def decisions(route: str) -> str:
    """Return the stream of decision records, one in the field `r` of each entry."""
    return f"{_tag(route)}:decisions"


def bases(route: str) -> str:
    """Return the stream of what decisions followed from: `p` packed, `r` their revision, `b` bytes ever written."""
    return f"{_tag(route)}:bases"


def samples(route: str, rollout: str) -> str:
    """Return the stream of what the evidence was between decisions; entries as in `bases`."""
    return f"{_tag(route)}:samples:{_part(rollout)}"


def audit(route: str) -> str:
    """Return the stream of who looked at or changed what."""
    return f"{_tag(route)}:audit"


def pairs(route: str) -> str:
    """Return the stream of pair batches: `p` payload, `n` pairs in it, `b` bytes ever written up to its end."""
    return f"{_tag(route)}:pairs"


def pairs_account(route: str) -> str:
    """Return the hash that counts the pair stream: `bytes` ever written, `trimmed` pairs ever trimmed."""
    return f"{_tag(route)}:pairs:account"


def boots(route: str, rollout: str) -> str:
    """Return the set of boots that wrote evidence of this rollout, so that nobody has to scan for them."""
    return f"{_tag(route)}:boots:{_part(rollout)}"


def evidence(route: str, rollout: str, boot: str) -> str:
    """Return the hash of one boot's counters: CounterKey.to_field() -> whole value, and SEQUENCE."""
    return f"{_tag(route)}:evidence:{_part(rollout)}:{_part(boot)}"


def labels(route: str, rollout: str) -> str:
    """Return the hash of labels that came back for answers of this rollout: digest of the request id -> label."""
    return f"{_tag(route)}:labels:{_part(rollout)}"


def classes(route: str, rollout: str) -> str:
    """Return the set of classes that labels of this rollout are counted by."""
    return f"{_tag(route)}:classes:{_part(rollout)}"


def seen(route: str, rollout: str, exposure: int, metric: str) -> str:
    """Return the bitmap of affinity key cells seen in one exposure."""
    return f"{_tag(route)}:seen:{_part(rollout)}:{exposure}:{_part(metric)}"


LABELS_BOOT = "labels"
"""The boot under which labels are counted, by whatever control process: those of gateways are hex digits."""

SEQUENCE = "sequence"
"""Field of an evidence hash: the last batch written. No counter has this name, theirs hold four bars."""


def _tag(route: str) -> str:
    return f"turnout:{{{_part(route)}}}"


def _part(text: str) -> str:
    """Return `text` with what separates and tags keys escaped, so that no name can reach into another's key."""
    return text.translate(_ESCAPES)
