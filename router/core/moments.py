"""The moments at which others are asked or told, in Flagger's words. Pure."""

from enum import StrEnum

from router.core.decisions import ActorKind, Advance, Decision, Promote, Start
from router.core.rollout import RolloutState


class Moment(StrEnum):
    """What a webhook is for."""

    ROLLOUT = "confirm-rollout"
    """Asked before a rollout starts, whoever starts it."""
    INCREASE = "confirm-traffic-increase"
    """Asked before the ramp gives the candidate more traffic or copies."""
    PROMOTION = "confirm-promotion"
    """Asked before the ramp promotes."""
    ROLLBACK = "rollback"
    """Asked again and again while a rollout is under way: a yes rolls back."""
    EVENT = "event"
    """Told of every decision."""


def confirmation_of(state: RolloutState, decision: Decision) -> Moment | None:
    """Return at which moment others have to agree to this decision, None where nobody is asked.

    Gates are for the ramp: an operator's promote, resume or change of shares is a person's word already. A start is
    asked about whoever makes it, as in Flagger, where it is always a person's change of the specification.
    """
    if isinstance(decision, Start):
        return Moment.ROLLOUT
    if decision.actor.kind is ActorKind.OPERATOR:
        return None
    match decision:
        case Promote():
            return Moment.PROMOTION
        case Advance() if state.step + 1 < len(state.steps):
            following, now = state.steps[state.step + 1], state.exposure
            more = following.weight_bp > now.weight_bp or following.mirror_bp > now.mirror_bp
            return Moment.INCREASE if more else None
        case _:
            return None
