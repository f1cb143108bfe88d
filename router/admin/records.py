"""Endpoints that show what was recorded: pairs, decisions, evidence."""

from collections.abc import Mapping
from typing import Annotated, cast

import orjson
from fastapi import Query, Request, Response

from router.admin import schemas as s
from router.admin.access import actor_of
from router.admin.problems import ProblemError, field_problem
from router.admin.services import Services
from router.admin.tokens import AccessRole, Caller
from router.admin.views import chosen_pairs, decision_view, evidence_view
from router.core.observations import Outcome
from router.store.basis_codec import basis_to_json, unpack_basis
from router.store.codec import UnreadableRecordError, export_decision, pair_to_json
from router.telemetry import logs

SEARCHED_PAIRS = 5_000
"""How many of the newest pairs a filtered question looks through. Chosen: about 50 ms of reading; revisit with
paging."""

PairLimit = Annotated[int, Query(ge=1, le=1_000, description="How many, newest first.")]
DecisionLimit = Annotated[int, Query(ge=1, le=1_000, description="How many, newest first.")]
WithEvidence = Annotated[bool, Query(description="With the record of what each followed from, for `turnout replay`.")]
RolloutOf = Annotated[str | None, Query(max_length=100, description="A rollout's id; unset: the present one.")]
Disagreements = Annotated[bool, Query(description="Only pairs whose answers differ.")]
WithPayloads = Annotated[
    bool, Query(description="With what is kept of bodies (`pairs.payloads`); for operators, and each look is logged.")
]
OutcomeFilter = Annotated[Outcome | None, Query(description="Only pairs in which a variant ended this way.")]


EVIDENCE_BYTES = 8 * 2**20
"""Most packed evidence in one answer: some 40 MiB of JSON, half a second of work. 200 decisions or more as a rule."""


def _check_size(bases: Mapping[int, bytes]) -> None:
    held = sum(map(len, bases.values()))
    if held > EVIDENCE_BYTES:
        fewer = max(1, len(bases) * EVIDENCE_BYTES // held)
        raise field_problem("limit", len(bases), f"about {fewer}, since evidence takes up to {EVIDENCE_BYTES} bytes")


class RecordEndpoints:
    """`/v1/routes/{route}/pairs`, `.../decisions` and `.../evidence`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._log = logs.get("admin")

    async def pairs(  # noqa: PLR0913, PLR0917 - one for each query parameter
        self,
        request: Request,
        route: str,
        limit: PairLimit = 100,
        disagreements: Disagreements = False,  # noqa: FBT002 - a query parameter
        outcome: OutcomeFilter = None,
        payloads: WithPayloads = False,  # noqa: FBT002 - a query parameter
    ) -> Response:
        """The newest pairs, newest first; with a filter, those that fit among the newest 5,000."""
        self._services.route(route)
        caller: Caller = request.state.caller
        if payloads and caller.role < AccessRole.OPERATOR:
            detail = f"token {caller.name} is {caller.role}; payloads need {AccessRole.OPERATOR}"
            raise ProblemError(403, "forbidden", detail, {"needed": str(AccessRole.OPERATOR)})
        looked_at = SEARCHED_PAIRS if disagreements or outcome is not None else limit
        found = await self._services.store.pairs(route, looked_at)
        chosen = chosen_pairs(found, limit, outcome, disagreements=disagreements)
        if payloads:
            shown = sum(pair.payload is not None for pair in chosen)
            self._log.info("payloads shown", actor=str(actor_of(request)), route=route, pairs=shown)
        told = [pair_to_json(pair, payload=payloads) for pair in chosen]
        return Response(orjson.dumps(told), media_type="application/json")

    async def decisions(
        self,
        route: str,
        limit: DecisionLimit = 100,
        evidence: WithEvidence = False,  # noqa: FBT002 - a query parameter
    ) -> list[s.DecisionView]:
        """The newest decisions, newest first; with evidence, each with what it followed from."""
        self._services.route(route)
        store = self._services.store
        records = await store.decisions(route, limit)
        if not evidence:
            return [decision_view(record) for record in records]
        bases = await store.bases(route, limit)
        _check_size(bases)
        told = [
            {**decision_view(one).model_dump(), "record": export_decision(one, self._basis(bases.get(one.revision)))}
            for one in records
        ]
        answer = Response(orjson.dumps(told), media_type="application/json")
        return cast("list[s.DecisionView]", answer)  # FastAPI passes it on; the description is of the usual answer

    async def timeline(self, route: str, rollout: RolloutOf = None) -> Response:
        """What the evidence of a rollout was from time to time, oldest first, and of the present one what it is now."""
        services = self._services
        state = await services.state(route)
        chosen = state.id if rollout is None else rollout
        kept = [self._basis(packed) for packed in await services.store.samples(route, chosen)]
        points: list[object] = [one for one in kept if one is not None]
        if chosen and chosen == state.id:
            states = services.control.states
            now = states.basis(state, await states.evidence(state), services.now_s(), states.ages(state))
            points.append(basis_to_json(now))
        return Response(orjson.dumps(points), media_type="application/json")

    def _basis(self, packed: bytes | None) -> Mapping[str, object] | None:
        """Return a basis as JSON; one that cannot be unpacked is logged, and then there is none."""
        try:
            return None if packed is None else unpack_basis(packed).values
        except UnreadableRecordError as error:
            self._log.warning("unreadable basis skipped", why=str(error))
            return None

    async def evidence(self, route: str) -> s.EvidenceView:
        """The counters of the present rollout, added up over all gateway workers."""
        state = await self._services.state(route)
        return evidence_view(state, await self._services.control.states.evidence(state))
