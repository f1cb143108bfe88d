"""Routes and variants take turns in a worker's tick."""

import pytest

from router.gateway.rota import AT_ONCE, Rota


@pytest.mark.parametrize("number", [0, 1, AT_ONCE])
def test_few_items_have_their_turn_in_each_tick(number: int) -> None:
    """Up to AT_ONCE items are all looked at each time."""
    rota = Rota(range(number))
    assert [tuple(rota.turn()) for _ in range(3)] == [tuple(range(number))] * 3


@pytest.mark.parametrize("number", [AT_ONCE + 1, 3 * AT_ONCE, 10 * AT_ONCE - 1])
def test_many_items_have_their_turn_once_a_round_in_order_and_never_more_than_so_many_at_once(number: int) -> None:
    """A round takes number / AT_ONCE turns, rounded up, leaves nobody out and takes nobody twice."""
    rota = Rota(range(number))
    for _ in range(2):
        turns = [tuple(rota.turn()) for _ in range(-(-number // AT_ONCE))]
        assert [item for turn in turns for item in turn] == list(range(number))
        assert max(map(len, turns)) == AT_ONCE
