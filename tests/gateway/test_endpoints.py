"""Who takes traffic among a variant's addresses: decisions alone, time as an argument."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.traffic import Backend, EjectionSpec, ProbeSpec, TlsSpec, Variant
from router.gateway.endpoints import LONGEST_TIMES, TRIAL_S, Endpoint, Endpoints, LeftOut, grouped


def endpoints_of(number: int, probe: ProbeSpec | None = None, **ejection: int) -> Endpoints:
    """Return the endpoints of a variant with so many backends."""
    backends = tuple(Backend("127.0.0.1", 9_000 + index) for index in range(number))
    return Endpoints(Variant("v1", backends, ejection=EjectionSpec(**ejection), probe=probe))


def fail(endpoints: Endpoints, endpoint: Endpoint, times: int = 5, now_s: float = 0.0) -> None:
    """Let so many live requests in a row fail there."""
    for _ in range(times):
        endpoints.failed(endpoint, now_s)


def test_up4_an_endpoint_is_ejected_by_failures_in_a_row_only() -> None:
    """Four failures, a success, four failures: it stays; the fifth in a row ejects it."""
    endpoints = endpoints_of(3)
    bad = endpoints.everyone[1]
    fail(endpoints, bad, 4)
    endpoints.answered(bad)
    fail(endpoints, bad, 4)
    assert bad in endpoints.serving
    endpoints.failed(bad, 0.0)
    assert endpoints.serving == (endpoints.everyone[0], endpoints.everyone[2])


@pytest.mark.parametrize(
    ("number", "share_bp", "ejected"),
    [(1, 10_000, 0), (2, 5_000, 1), (3, 5_000, 1), (4, 5_000, 2), (3, 10_000, 2), (3, 0, 0), (10, 3_300, 3)],
)
def test_up4_the_share_that_may_be_ejected_is_capped(number: int, share_bp: int, ejected: int) -> None:
    """However many fail: rounded down, and never the last one."""
    endpoints = endpoints_of(number, max_share_bp=share_bp)
    for _ in range(20):
        for endpoint in endpoints.everyone:
            endpoints.failed(endpoint, 0.0)
    assert sum(one.ejected for one in endpoints.everyone) == ejected
    assert len(endpoints.serving) == number - ejected


def test_consecutive_zero_never_ejects() -> None:
    """`ejection.consecutive: 0` is off."""
    endpoints = endpoints_of(3, consecutive=0)
    fail(endpoints, endpoints.everyone[0], 1_000)
    assert endpoints.serving == endpoints.everyone


def ejected_and_due(endpoints: Endpoints, now_s: float) -> Endpoint | None:
    """Return the trial at that time."""
    endpoints.turn(now_s)
    return endpoints.trial


def test_up4_one_request_is_let_through_when_the_time_is_over_and_brings_it_back() -> None:
    """Not before 30 s; a success there gives it its turns back, with no failures on its account."""
    endpoints = endpoints_of(3)
    bad = endpoints.everyone[0]
    fail(endpoints, bad)
    assert ejected_and_due(endpoints, 29.9) is None
    assert ejected_and_due(endpoints, 30.0) is bad
    endpoints.begin_trial(bad, 30.0)
    assert ejected_and_due(endpoints, 30.0 + TRIAL_S / 2) is None
    assert bad not in endpoints.serving
    endpoints.answered(bad)
    assert endpoints.serving == endpoints.everyone
    assert bad.failures == 0


def test_up4_a_failed_trial_ejects_for_longer_each_time_up_to_a_bound() -> None:
    """30 s, 60 s, 90 s, ... 300 s, 300 s."""
    endpoints = endpoints_of(2)
    bad = endpoints.everyone[0]
    fail(endpoints, bad)
    now_s, waited = 0.0, []
    for _ in range(LONGEST_TIMES + 2):
        waited.append(bad.until_s - now_s)
        now_s = bad.until_s
        assert ejected_and_due(endpoints, now_s) is bad
        endpoints.begin_trial(bad, now_s)
        endpoints.failed(bad, now_s)
    assert waited == [30.0 * times for times in (*range(1, LONGEST_TIMES + 1), LONGEST_TIMES, LONGEST_TIMES)]


def test_a_trial_that_tells_nothing_is_followed_by_another() -> None:
    """Its client went away: after a second the next request may go there."""
    endpoints = endpoints_of(2)
    bad = endpoints.everyone[0]
    fail(endpoints, bad)
    assert ejected_and_due(endpoints, 30.0) is bad
    endpoints.begin_trial(bad, 30.0)
    assert ejected_and_due(endpoints, 30.0 + TRIAL_S) is bad


@pytest.mark.parametrize(("well_s", "next_s"), [(20.0, 60.0), (45.0, 30.0)])
def test_only_ejections_in_a_row_last_longer(well_s: float, next_s: float) -> None:
    """In a row means: it was well for less time than it was out before."""
    endpoints = endpoints_of(2)
    bad = endpoints.everyone[0]
    fail(endpoints, bad)
    assert ejected_and_due(endpoints, 30.0) is bad
    endpoints.begin_trial(bad, 30.0)
    endpoints.answered(bad)
    fail(endpoints, bad, now_s=31.0 + well_s)
    assert bad.until_s - (31.0 + well_s) == next_s


def test_what_was_in_flight_when_it_was_ejected_changes_nothing() -> None:
    """Neither late failures nor late successes count until a trial has begun."""
    endpoints = endpoints_of(2)
    bad = endpoints.everyone[0]
    fail(endpoints, bad)
    until_s = bad.until_s
    endpoints.answered(bad)
    endpoints.failed(bad, 1.0)
    assert (bad.ejected, bad.until_s, bad.times) == (True, until_s, 1)


def test_probes_leave_out_an_ill_endpoint_after_three_and_take_it_back_after_two() -> None:
    """`fall` 3 and `rise` 2, in a row."""
    endpoints = endpoints_of(3, ProbeSpec())
    ill = endpoints.everyone[2]
    served = []
    for well in (False, False, True, False, False, False, True, False, True, True):
        endpoints.probed(ill, well=well)
        served.append(ill in endpoints.serving)
    assert served == [True] * 5 + [False] * 4 + [True]


def test_probes_are_not_believed_when_they_call_most_endpoints_ill() -> None:
    """Two of four are left out; with a third one all four serve again, whatever the probes say."""
    endpoints = endpoints_of(4, ProbeSpec(fall=1))
    for count, serving in ((1, 3), (2, 2), (3, 4), (4, 4)):
        endpoints.probed(endpoints.everyone[count - 1], well=False)
        assert len(endpoints.serving) == serving


def test_an_ill_endpoint_is_not_tried_with_a_live_request() -> None:
    """Its ejection ends by a probe first, then by a trial."""
    endpoints = endpoints_of(3, ProbeSpec(fall=1, rise=1))
    bad = endpoints.everyone[0]
    fail(endpoints, bad)
    endpoints.probed(bad, well=False)
    assert ejected_and_due(endpoints, 100.0) is None
    endpoints.probed(bad, well=True)
    assert ejected_and_due(endpoints, 100.0) is bad


def named() -> Endpoints:
    """Return the endpoints of a variant that is given by a name."""
    return Endpoints(Variant("v1", (Backend("models.test", 80),)))


def test_up6_what_is_known_of_an_address_outlives_others_coming_and_going() -> None:
    """An ejected address stays ejected when a fourth one is found; gone ones are gone."""
    endpoints = named()
    assert not endpoints.serving
    endpoints.found(0, ["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    bad = endpoints.everyone[0]
    fail(endpoints, bad)
    endpoints.found(0, ["10.0.0.4", "10.0.0.3", "10.0.0.1"])
    assert [one.addresses for one in endpoints.everyone] == [("10.0.0.1",), ("10.0.0.3",), ("10.0.0.4",)]
    assert endpoints.everyone[0] is bad
    assert [one.addresses[0] for one in endpoints.serving] == ["10.0.0.3", "10.0.0.4"]


def test_up4_fewer_addresses_allow_fewer_ejections() -> None:
    """Two of four are ejected; when the other two are gone, one of them must serve again."""
    endpoints = named()
    endpoints.found(0, [f"10.0.0.{number}" for number in (1, 2, 3, 4)])
    first, second = endpoints.everyone[:2]
    fail(endpoints, first)
    fail(endpoints, second, now_s=1.0)
    assert [one.ejected for one in (first, second)] == [True, True]
    endpoints.found(0, ["10.0.0.1", "10.0.0.2"])
    assert list(endpoints.serving) == [first]


def told_by(endpoints: Endpoints) -> list[LeftOut]:
    """Return what a successor is told after one endpoint was ejected twice and another one was found ill."""
    bad, ill, *_ = endpoints.everyone
    fail(endpoints, bad, now_s=100.0)
    bad.times = 2
    ill.illness = "answered 503"
    for _ in range(3):
        endpoints.probed(ill, well=False)
    return endpoints.left_out("r")


def test_a_successor_leaves_out_what_its_predecessor_did() -> None:
    """With the time of the next trial, how often in a row, and why it is ill; from there on all goes as usual."""
    told = told_by(endpoints_of(4, ProbeSpec()))
    later = endpoints_of(4, ProbeSpec())
    later.remember(told)
    bad, ill, *well = later.everyone
    assert (bad.ejected, bad.until_s, bad.times) == (True, 130.0, 2)
    assert (ill.ill, ill.illness) == (True, "answered 503")
    assert later.serving == tuple(well)
    assert later.left_out("r") == told
    later.turn(130.0)
    assert later.trial is bad


OTHER_BACKENDS = tuple(Backend("127.0.0.1", 9_100 + index) for index in range(4))


@pytest.mark.parametrize(
    "change",
    [{"tls": TlsSpec(verify=False)}, {"backends": OTHER_BACKENDS}, {"probe": None, "ejection": EjectionSpec(0)}],
    ids=["other TLS", "other addresses", "switched off"],
)
def test_a_successor_with_other_settings_begins_anew(change: dict[str, Any]) -> None:
    """Other TLS settings may be the cure, another address is another server, and nobody would take these back."""
    old = endpoints_of(4, ProbeSpec())
    later = Endpoints(replace(old.variant, **change))
    later.remember(told_by(old))
    assert later.serving == later.everyone


def test_a_successor_leaves_out_addresses_of_names_once_each_name_has_some() -> None:
    """While only one address is known it must serve; an address that the name has no more is forgotten."""
    variant = Variant("v1", (Backend("one.test", 80), Backend("two.test", 80)))
    old, later = Endpoints(variant), Endpoints(variant)
    for index, address in enumerate(("10.0.0.1", "10.0.0.2")):
        old.found(index, [address])
    fail(old, old.everyone[0])
    later.remember(old.left_out("r"))
    later.found(0, ["10.0.0.1"])
    assert later.serving == later.everyone
    later.found(1, ["10.0.0.2"])
    assert later.serving == later.everyone[1:]


@pytest.mark.parametrize(
    ("found", "groups"),
    [
        ([], []),
        (["10.0.0.2", "10.0.0.1", "10.0.0.2"], [("10.0.0.1",), ("10.0.0.2",)]),
        (["::1", "127.0.0.1"], [("::1", "127.0.0.1")]),
        (["127.0.0.1", "::1"], [("127.0.0.1", "::1")]),
        (["::1", "10.0.0.1", "10.0.0.2"], [("10.0.0.1", "::1"), ("10.0.0.2", "::1")]),
        (["fe80::1%eth0"], [("fe80::1%eth0",)]),
    ],
)
def test_addresses_of_both_families_are_one_server(found: list[str], groups: list[tuple[str, ...]]) -> None:
    """Else every other request to `localhost` would meet a refusal where a server listens on one family."""
    assert grouped(found) == groups


def test_a_flood_of_addresses_is_cut() -> None:
    """Of a thousand, 128 are used."""
    assert len(grouped(f"10.0.{number // 250}.{number % 250}" for number in range(1_000))) == 128


@given(
    st.integers(1, 6),
    st.integers(0, 10_000),
    st.lists(st.tuples(st.sampled_from(["failed", "answered", "ill", "well", "turn", "trial"]), st.integers(0, 5))),
)
def test_up4_whatever_happens_somebody_serves_and_the_cap_holds(
    number: int, share_bp: int, events: list[tuple[str, int]]
) -> None:
    """Any order of results, probes and trials: at least half of those not ejected serve, and never nobody."""
    endpoints = endpoints_of(number, ProbeSpec(fall=1, rise=1), consecutive=1, max_share_bp=share_bp)
    now_s = 0.0
    for event, index in events:
        endpoint = endpoints.everyone[index % number]
        if event == "failed":
            endpoints.failed(endpoint, now_s)
        elif event == "answered":
            endpoints.answered(endpoint)
        elif event in ("ill", "well"):
            endpoints.probed(endpoint, well=event == "well")
        elif event == "turn":
            now_s += 20.0
            endpoints.turn(now_s)
        elif endpoints.trial is not None:
            endpoints.begin_trial(endpoints.trial, now_s)
        ejected = [one for one in endpoints.everyone if one.ejected]
        assert len(ejected) <= min(number * share_bp // 10_000, number - 1)
        assert endpoints.serving
        assert not set(ejected) & set(endpoints.serving)
        assert 2 * len(endpoints.serving) >= min(number, 2 * (number - len(ejected)))
