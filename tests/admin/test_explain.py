"""Why a rollout stands where it stands, as the admin API says it. On memory and on Valkey."""

from tests.admin.desk import ROLLOUT, Desk

EXPLAIN = "/v1/routes/digits/explain"


async def test_an_explanation_says_since_when_by_whom_and_what_comes_next(desk: Desk) -> None:
    """From one endpoint: the shares and who set them, what is waited for, what is missing, what can be done."""
    await desk.start()
    await desk.client.patch(ROLLOUT, json={"weight": "20%", "reason": "more"})
    told = await desk.get(EXPLAIN)
    assert [(one["kind"], one["actor"], one["reason"], one["weight_bp"]) for one in told["changes"]] == [
        ("set_exposure", "operator:local", "more", 2_000),
        ("start", "operator:local", "new model", 0),
    ]
    assert told["exposure"]["since"] == told["changes"][0]["at"]
    assert told["waits_for"] == "shares were set by hand; `turnout promote` goes on from step 1"
    assert told["missing"] == [
        told["waits_for"],
        "baking: 0 s of 60 s",
        "no data: the candidate has answered nothing in this step",
    ]
    assert told["limits"][0] == "it pauses after 7d (max_duration); 0s have passed"
    assert told["operator"] == ["abort", "approve", "pause", "promote", "set-policy", "set-weight"]
    assert (told["decides"], told["next"]) == (False, None)


async def test_a_rollout_says_what_it_waits_for(desk: Desk) -> None:
    """In the Route, in the rollout, and in the answer to a command: the same sentence as the explanation's."""
    started = await desk.start()
    assert started["waits_for"] == "baking: 0 s of 60 s"
    assert (await desk.get(ROLLOUT))["waits_for"] == started["waits_for"]
    assert (await desk.get("/v1/routes/digits"))["rollout"]["waits_for"] == started["waits_for"]
    assert (await desk.get(EXPLAIN))["waits_for"] == started["waits_for"]
    paused = await desk.post("pause")
    assert paused["waits_for"].startswith("it is paused; an operator")
    assert (await desk.post("abort"))["waits_for"] is None


async def test_the_process_that_decides_says_so(desk: Desk) -> None:
    """Another one does not know how long it has been silent."""
    await desk.start()
    await desk.control.turn()
    desk.clock.advance(45)
    told = await desk.get(EXPLAIN)
    assert told["decides"] is True
    assert told["limits"][1] == "it pauses after 10m without evidence, there has been none for 45s"


async def test_a_route_without_rollout_explains_itself_too(desk: Desk) -> None:
    """Nothing is made up, and start is what can be done."""
    told = await desk.get(EXPLAIN)
    assert (told["phase"], told["rollout"], told["changes"], told["missing"], told["limits"]) == (
        "idle",
        "",
        [],
        [],
        [],
    )
    assert (told["waits_for"], told["next"], told["operator"]) == (None, None, ["start"])
