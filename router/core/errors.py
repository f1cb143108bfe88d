"""What can go wrong, named by whose fault it is.

Every error carries a sentence for a person: what happened, what was expected, what to do.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.core.rollout import RolloutState


class TurnoutError(Exception):
    """Base of all errors that Turnout raises on purpose."""


class ConfigError(TurnoutError):
    """The operator's configuration cannot be used.

    `field` is the dotted path (`routes.digits.stable`), `value` what stood there, `expected` what would do.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field}: got {value!r}, expected {expected}")
        self.field = field
        self.value = value
        self.expected = expected


class PluginError(TurnoutError):
    """A policy, adapter or comparator name is unknown, double, or does not keep its contract."""


class IllegalTransitionError(TurnoutError):
    """A decision is not possible in this phase; the state is unchanged.

    `legal` names the moves that would be possible.
    """

    def __init__(self, phase: str, move: str, legal: tuple[str, ...], why: str = "") -> None:
        because = f" ({why})" if why else ""
        moves = ", ".join(legal) or "none"
        super().__init__(f"{move} is not possible while the rollout is {phase}{because}; possible: {moves}")
        self.phase = phase
        self.move = move
        self.legal = legal


class StoreUnavailableError(TurnoutError):
    """The store did not answer in time, or answered with an error; nothing is known about the write."""


class UnreadableStateError(StoreUnavailableError):
    """Some of the stored states that were asked for cannot be read, so nobody knows what they say.

    `why` has a sentence for each Route of theirs, `states` the states of the others. Who does not tell the two apart
    treats the store as away, which is safe: the last good states stay in force.
    """

    def __init__(self, why: "Mapping[str, str]", states: "Mapping[str, RolloutState]") -> None:
        super().__init__("; ".join(why.values()))
        self.why = why
        self.states = states


class StaleEpochError(TurnoutError):
    """A control process with an old lease tried to write; the store has seen a newer epoch."""


class UnreadableError(TurnoutError):
    """An adapter could not read a request or an answer; the reason is bounded and holds no payload."""
