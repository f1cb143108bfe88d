"""Endpoints that show what was recorded: pairs, decisions, evidence."""

from collections.abc import Mapping
from typing import Annotated, cast

import orjson
from fastapi import Query, Request, Response

from router.admin import schemas as s
from router.admin.access import actor_of
from router.admin.pair_query import PairQuery, search
from router.admin.problems import ProblemError, field_problem
from router.admin.services import Services
from router.admin.tokens import AccessRole, Caller
from router.admin.views import decision_view, evidence_view
from router.store.basis_codec import basis_to_json, unpack_basis
from router.store.codec import UnreadableRecordError, export_decision, pair_to_json
from router.telemetry import logs

DecisionLimit = Annotated[int, Query(ge=1, le=1_000, description="How many, newest first.")]
WithEvidence = Annotated[bool, Query(description="With the record of what each followed from, for `turnout replay`.")]
RolloutOf = Annotated[str | None, Query(max_length=100, description="A rollout's id; unset: the present one.")]

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

    async def pairs(self, request: Request, route: str, query: Annotated[PairQuery, Query()]) -> Response:
        """The newest pairs that fit all parameters, newest first; `Link: ...; rel="next"` is where older ones begin."""
        self._services.route(route)
        query.check()
        caller: Caller = request.state.caller
        if query.payloads and caller.role < AccessRole.OPERATOR:
            detail = f"token {caller.name} is {caller.role}; payloads need {AccessRole.OPERATOR}"
            raise ProblemError(403, "forbidden", detail, {"needed": str(AccessRole.OPERATOR)})
        found = await search(self._services.store, route, query, self._services.monotonic)
        if query.payloads:
            shown = sum(pair.payload is not None for pair in found.pairs)
            self._log.info("payloads shown", actor=str(actor_of(request)), route=route, pairs=shown)
        told = [pair_to_json(pair, payload=query.payloads) for pair in found.pairs]
        headers = {}
        if found.cursor is not None:
            headers["Link"] = f'<?{request.url.include_query_params(cursor=found.cursor).query}>; rel="next"'
        return Response(orjson.dumps(told), headers=headers, media_type="application/json")

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
