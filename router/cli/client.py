"""The admin API as the command line calls it; every failure becomes a CommandError."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from router.cli.problems import USAGE, CommandError
from router.telemetry.logs import escape

TIMEOUT_S = 10.0
"""For one call. Chosen: starting a rollout probes the candidate for up to 2 s, everything else takes milliseconds."""

PROBLEM = "application/problem+json"


class UnreachableError(CommandError):
    """Nobody answered, or only to say "not now"; another try may go well."""


class Api:
    """One admin API, by its URL."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            # The variables for proxies are meant for the outside world, not for our own control plane.
            self._http = httpx.Client(base_url=self._url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        except (httpx.InvalidURL, ValueError) as error:
            raise self._bad_url(str(error)) from error

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> httpx.Response:
        """Return the answer to a question."""
        return self._call("GET", path, params=query)

    def pages(self, path: str, query: Mapping[str, Any]) -> Iterator[httpx.Response]:
        """Yield the answer to a question, and each further one that the one before leads to by its `Link`."""
        asked = dict(query)
        while True:
            answer = self.get(path, asked)
            yield answer
            following = answer.links.get("next")
            if following is None:
                return
            asked["cursor"] = httpx.URL(following["url"]).params["cursor"]

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Return the answer to a command."""
        return self._call("POST", path, json=body)

    def patch(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Return the answer to a change."""
        return self._call("PATCH", path, json=body)

    def route(self, given: str | None) -> str:
        """Return the path of the given Route, or of the only one; CommandError lists them when there are several."""
        return f"/v1/routes/{quote(given or self._only_route(), safe='')}"

    def _only_route(self) -> str:
        names = [str(route["name"]) for route in self.get("/v1/routes").json()]
        if len(names) == 1:
            return names[0]
        why = f"there are {len(names)}: {', '.join(names)}" if names else "there is none"
        raise CommandError("which Route is meant?", why, "name it as the first argument", exit_code=USAGE)

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            answer = self._http.request(method, path, **content)
        except httpx.TimeoutException as error:
            doubt = "" if method == "GET" else "; the command may or may not have been carried out"
            raise UnreachableError(
                f"Turnout at {self._url} did not answer within {TIMEOUT_S:.0f} s{doubt}",
                fix="look at its log, and at `turnout get` before trying again",
            ) from error
        except httpx.ConnectError as error:
            raise UnreachableError(
                f"no Turnout at {self._url}",
                str(error),
                "start one with `turnout serve`, or name another by --url or TURNOUT_URL",
            ) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise self._bad_url(str(error)) from error
        except httpx.TransportError as error:
            raise UnreachableError(f"Turnout at {self._url} broke off", f"{type(error).__name__}: {error}") from error
        if answer.is_success:
            return answer
        raise self._refusal(answer)

    def _refusal(self, answer: httpx.Response) -> CommandError:
        problem = _problem_of(answer)
        if problem is None:
            return CommandError(
                f"what answers at {self._url} is no Turnout admin API",
                f"it said {answer.status_code} {answer.headers.get('content-type', 'without a content-type')}",
                "name the admin listener (`admin:` in the configuration, port 8081) by --url or TURNOUT_URL",
            )
        what = escape(str(problem.get("detail") or problem.get("title")))
        fix = _FIXES.get(answer.status_code, "")
        if answer.status_code == 503:
            return UnreachableError(what, fix=fix)
        return CommandError(what, fix=fix, exit_code=USAGE if answer.status_code == 422 else 1)

    def _bad_url(self, why: str) -> CommandError:
        return CommandError(
            f"--url: got {escape(self._url)!r}", why, "give something like http://127.0.0.1:8081", exit_code=USAGE
        )


_FIXES = {
    401: "give a token by --token or TURNOUT_TOKEN; `turnout token` makes one",
    403: "use a token whose role is high enough",
    404: "`turnout list` shows what there is",
    412: "`turnout get` shows what has changed",
    503: "try again; routing goes on meanwhile with the weights as they are",
}


def _problem_of(answer: httpx.Response) -> Mapping[str, Any] | None:
    if answer.headers.get("content-type", "").partition(";")[0] != PROBLEM:
        return None
    try:
        problem = answer.json()
    except ValueError:
        return None
    return problem if isinstance(problem, dict) else None
