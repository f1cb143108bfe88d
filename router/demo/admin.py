"""The demo's view of Turnout: the admin API as an operator calls it, and the metrics of the gateways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import httpx

from router.demo.plan import ROUTE
from router.demo.turnout_process import DemoError

TIMEOUT_S: Final = 10.0
"""For one call. Chosen: starting a rollout probes the candidate for up to 2 s, everything else takes milliseconds."""

PATIENCE_S: Final = 10.0
"""How long a question is asked again while the answer is "not now". Chosen: on a machine that is busy with other
things the store misses its deadline of 0.25 s now and then."""

AGAIN_S: Final = 0.1
NOT_NOW: Final = 503

Body = Mapping[str, Any]


class NotNowError(DemoError):
    """Nobody answered, or only to say that the store is away. What was asked may or may not have been carried out."""


class Admin:
    """One Turnout, by the URLs of its admin and ops listeners; used within one event loop.

    Every method raises DemoError when there is no good answer. Questions are repeated for PATIENCE_S before that.
    """

    def __init__(self, admin_url: str, ops_url: str) -> None:
        self._api_url = f"{admin_url}/v1"
        self._route_url = f"{admin_url}/v1/routes/{ROUTE}"
        self._metrics_url = f"{ops_url}/metrics"
        # The variables for proxies are meant for the outside world, not for our own control plane.
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def start(self, block: Body) -> None:
        """Start the rollout that this block asks for.

        It names the revision it was meant for, so however often it is sent, it is carried out once at most.
        """
        before: int = (await self.route())["rollout"]["revision"]
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                await self._call(
                    "POST", f"{self._route_url}/rollouts", json=dict(block), headers={"if-match": f'"{before}"'}
                )
            except NotNowError:
                if (await self.route())["rollout"]["revision"] > before:
                    return
                if time.monotonic() > give_up_s:
                    raise
            else:
                return
            await asyncio.sleep(AGAIN_S)

    async def feedback(self, labels: Sequence[Body]) -> Mapping[str, int]:
        """Send up to 1,000 labels, once, and return what became of them, by word.

        Raises NotNowError where it is not known whether they were taken.
        """
        answer = await self._call("POST", f"{self._api_url}/feedback", json=list(labels))
        counts: Mapping[str, int] = answer.json()
        return counts

    async def route(self) -> Body:
        """Return the Route, with where its rollout stands."""
        body: Body = (await self._ask(self._route_url)).json()
        return body

    async def explain(self) -> Body:
        """Return why the rollout stands where it stands, and what would make it move."""
        body: Body = (await self._ask(f"{self._route_url}/explain")).json()
        return body

    async def decisions(self) -> Sequence[Body]:
        """Return the newest decisions, oldest first."""
        found: list[Body] = (await self._ask(f"{self._route_url}/decisions")).json()
        return found[::-1]

    async def metrics(self) -> str:
        """Return the metrics of all gateway workers in Prometheus' text format."""
        return (await self._ask(self._metrics_url)).text

    async def _ask(self, url: str) -> httpx.Response:
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await self._call("GET", url)
            except NotNowError:
                if time.monotonic() > give_up_s:
                    raise
            await asyncio.sleep(AGAIN_S)

    async def _call(self, method: str, url: str, **content: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            answer = await self._http.request(method, url, **content)
        except httpx.HTTPError as error:
            raise NotNowError(f"{method} {url}: no answer ({type(error).__name__}: {error})") from error
        if answer.is_success:
            return answer
        kind = NotNowError if answer.status_code == NOT_NOW else DemoError
        raise kind(f"{method} {url}: {answer.status_code} {_detail(answer)}")


def _detail(answer: httpx.Response) -> str:
    """Return the sentence of a problem document, else the beginning of whatever came."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, LookupError, TypeError):
        return answer.text[:200]
