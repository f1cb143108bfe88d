"""`turnout pairs` without a choice: pairs that differ first, and none of them lost where the first search was cut."""

from collections.abc import Iterator
from typing import Any, cast

import httpx

from router.cli.client import Api
from router.cli.pairs import _disagreements_first


class CutShort:
    """An API whose first search for pairs that differ ends before it has come to all of them."""

    def __init__(self, differing: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
        self._differing = differing
        self._kept = kept

    def get(self, _path: str, _query: object) -> httpx.Response:
        """Search for those that differ; there may be more."""
        return httpx.Response(200, json=self._differing, headers={"link": '<?cursor=1-1.1>; rel="next"'})

    def pages(self, _path: str, _query: object) -> Iterator[httpx.Response]:
        """Show all that are kept."""
        yield httpx.Response(200, json=self._kept)


def pair(name: str, *, same: bool) -> dict[str, Any]:
    """Return what the command reads of a pair."""
    return {"pair_id": name, "comparison": {"same": same}}


def test_pairs_that_differ_and_were_not_found_in_time_come_with_the_others_each_once() -> None:
    """On a slow machine or in a long log the first search is cut; what it had not come to is not left out."""
    found, late, alike = pair("found", same=False), pair("late", same=False), pair("alike", same=True)
    api = cast("Api", CutShort([found], [alike, found, late]))
    assert [one["pair_id"] for one in _disagreements_first(api, "/pairs", {}, 20)] == ["found", "alike", "late"]
