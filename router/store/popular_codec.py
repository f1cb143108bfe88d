"""What workers have counted of the values of slices, as it stands in heartbeats and in what a decision rests on."""

from router.core.slices import Popular
from router.store import fields as f
from router.store.fields import Fields


def popular_to_json(popular: Popular) -> dict[str, object]:
    """Return it as it stands in records."""
    return {"rollout": popular.rollout, "requests": dict(popular.requests), "slices": dict(popular.slices)}


def read_popular(record: Fields) -> Popular:
    """Return what a record says; raises UnreadableRecordError."""
    return Popular(record.text("rollout"), _wholes(record, "requests"), _wholes(record, "slices"))


def _wholes(record: Fields, name: str) -> dict[str, int]:
    return {key: f.whole(value, record.at(name)) for key, value in record.record(name).values.items()}
