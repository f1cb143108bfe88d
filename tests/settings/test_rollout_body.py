"""The rollout block as the admin API takes it: the same units, the same errors."""

from typing import Any

import pytest

from router.core.rollout import GateSpec, Spec, Step
from router.core.traffic import Backend, Match, Route, Variant
from router.settings import SettingsError, rollout_from_json

ROUTE = Route(
    name="digits",
    match=Match(),
    adapter="open_inference",
    variants={name: Variant(name, (Backend("127.0.0.1", 9001),)) for name in ("v1", "v2", "v3")},
    stable="v1",
    mirror_safe=True,
)
UNSAFE = Route("digits", Match(), "opaque", ROUTE.variants, "v1")


def problems(body: object, known: dict[str, Any], route: Route = ROUTE, stable: str = "v1") -> list[tuple[str, str]]:
    """Return what is wrong with a body, as (field, expected)."""
    with pytest.raises(SettingsError) as raised:
        rollout_from_json(body, route, stable=stable, policies=known["policies"])
    return [(problem.field, problem.expected) for problem in raised.value.problems]


def test_a_body_becomes_the_spec_that_the_file_would_give(known: dict[str, Any]) -> None:
    """With the units of the file."""
    body = {
        "candidate": "v2",
        "policy": "canary",
        "steps": [{"mirror": "100%", "min_pairs": 500}, {"weight": "5%", "bake": "90s"}],
        "gates": [{"metric": "error_rate", "max_increase": "0.5pp"}],
    }
    expected = Spec(
        candidate="v2",
        policy="canary",
        steps=(Step(0, 10_000, 60.0, min_pairs=500), Step(500, 0, 90.0, min_requests=200)),
        gates=(GateSpec("error_rate", "error_rate", max_increase=0.005),),
    )
    assert rollout_from_json(body, ROUTE, stable="v1", policies=known["policies"]) == expected


def test_the_candidate_is_another_variant_than_the_stable_one_of_now(known: dict[str, Any]) -> None:
    """After a promotion that is not the file's: the old stable may be the next candidate."""
    body = {"candidate": "v1", "policy": "canary"}
    assert rollout_from_json(body, ROUTE, stable="v2", policies=known["policies"]) == Spec("v1", "canary")
    assert problems(body, known) == [("candidate", "another variant than the stable one")]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ([], [("body", "a block of fields")]),
        ("canary", [("body", "a block of fields")]),
        ({}, [("candidate", "a value, since"), ("policy", "a value, since")]),
        (
            {"candidate": "v9", "policy": "canry", "steps": [{"weight": 5}], "gate": []},
            [
                ("policy", "the name of a policy; did you mean canary?"),
                ("candidate", "the name of a variant; did you mean v3?"),
                ("steps[0].weight", "a share with its unit: write 5%"),
                ("gate", "no field of this name; did you mean gates?"),
            ],
        ),
        ({"candidate": "v2", "policy": "canary", "steps": {}}, [("steps", "a list")]),
        ({"candidate": 2, "policy": None}, [("candidate", "text"), ("policy", "text")]),
        (
            {"candidate": "v2", "policy": "canary", "steps": [{"weight": "5%", "gates": ["x"]}]},
            [("steps[0].gates[0]", "the name of a gate; known: none")],
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_everything_that_is_wrong_with_a_body_is_reported(
    known: dict[str, Any], body: object, found: list[tuple[str, str]]
) -> None:
    """Fields are named from the body on."""
    reported = problems(body, known)
    assert [field for field, _ in reported] == [field for field, _ in found]
    assert all(words in expected for (_, expected), (_, words) in zip(reported, found, strict=True))


def test_copies_on_a_route_that_is_not_mirror_safe_are_refused_with_the_fix(known: dict[str, Any]) -> None:
    """Also those of the policy's own plan; steps without copies are fine."""
    (problem,) = problems({"candidate": "v2", "policy": "canary"}, known, UNSAFE)
    assert problem[0] == "mirror_safe"
    assert "step 1 of canary's own plan copies 100% of the requests" in problem[1]
    body = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "5%"}]}
    assert rollout_from_json(body, UNSAFE, stable="v1", policies=known["policies"]).steps == (
        Step(500, 0, 60.0, min_requests=200),
    )
