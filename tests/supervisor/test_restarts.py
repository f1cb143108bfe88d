"""When a dead process is started again."""

from router.supervisor.restarts import Restarts


def test_the_first_death_is_repaired_at_once() -> None:
    """A process that lived well is replaced without any delay, however often that happens."""
    restarts = Restarts()
    assert [restarts.delay_s(60.0) for _ in range(5)] == [0.0] * 5


def test_dying_at_start_again_and_again_is_answered_more_and_more_slowly() -> None:
    """0, 0.1, 0.2, 0.4 ... and never more than 5 s, for ever."""
    restarts = Restarts()
    delays = [restarts.delay_s(0.0) for _ in range(200)]
    assert delays[:8] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert set(delays[8:]) == {5.0}


def test_a_process_that_settled_is_forgiven_what_came_before() -> None:
    """After a second of being ready the next death is a first one."""
    restarts = Restarts()
    for _ in range(6):
        restarts.delay_s(0.5)
    assert restarts.delay_s(1.0) == 0.0
    assert restarts.delay_s(0.0) == 0.1
