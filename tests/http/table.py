"""Plays the corpus against servers, and writes what came of it as the tables of docs/http.md."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from tests.http.cases import AnswerCase, RequestCase
from tests.http.corpus import ANSWERS, MISSED, REQUESTS
from tests.http.play import WAIT_S, judge_answer, judge_request, play_answer, play_request
from tests.http.recorder import Recorder
from tests.http.servers import Server

Results: TypeAlias = dict[str, str]
"""What was wrong with each case, by id; "" where nothing was."""

PASSED = "passed"
GROUPS: dict[str, tuple[RequestCase | AnswerCase, ...]] = {**REQUESTS, **ANSWERS}


async def results_of(server: Server, wait_s: float = WAIT_S) -> Results:
    """Play every case against one server, in order; a server that says nothing for `wait_s` is silent."""
    recorder = Recorder()
    found: Results = {}
    async with server(recorder.script) as port:
        for request_cases in REQUESTS.values():
            for request in request_cases:
                found[request.id] = judge_request(request, await play_request(request, port, recorder, wait_s))
        for answer_cases in ANSWERS.values():
            for answer in answer_cases:
                found[answer.id] = judge_answer(answer, await play_answer(answer, port, recorder, wait_s))
    return found


def page(results: Mapping[str, Results], versions: Mapping[str, str], date: str, wait_s: float) -> str:
    """Return docs/http.md."""
    servers = list(results)
    names = ", ".join(f"{server} {versions[server]}" for server in servers)
    total = len(results[servers[0]])
    return "\n".join(
        [
            _INTRODUCTION.format(total=total, names=names, date=date, wait_s=wait_s),
            *_summary(results),
            "",
            "## What was widened after the first runs",
            "",
            _WIDENED,
            "",
            "## What was missed, and how",
            "",
            _MISSES.format(wait_s=wait_s),
            "",
            *(f"- **{id_}**, Turnout: {reason}." for id_, reason in MISSED.items()),
            *([""] if MISSED else []),
            *_groups(results),
        ]
    )


def _summary(results: Mapping[str, Results]) -> list[str]:
    rows = [
        [group, str(len(cases)), *(str(sum(not found[case.id] for case in cases)) for found in results.values())]
        for group, cases in GROUPS.items()
    ]
    rows.append(["**all**", *(f"**{sum(int(row[at]) for row in rows)}**" for at in range(1, len(results) + 2))])
    return _markdown(["group", "cases", *results], rows)


def _groups(results: Mapping[str, Results]) -> list[str]:
    lines = []
    for group, cases in GROUPS.items():
        rows = [
            [case.id, _text(case.title), case.rfc, *(_text(found[case.id]) or PASSED for found in results.values())]
            for case in cases
        ]
        lines += [f"## {group}", "", *_markdown(["id", "case", "RFC", *results], rows), ""]
    return lines


def _markdown(header: Iterable[str], rows: Iterable[list[str]]) -> list[str]:
    columns = list(header)
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _text(words: str) -> str:
    """Return words as they may stand in a cell."""
    short = words if len(words) <= 160 else f"{words[:157]}..."
    escaped = short.encode("unicode_escape").decode()
    return escaped.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("`", "'")


_INTRODUCTION = """\
# HTTP/1.1 as an intermediary

{total} raw requests and raw answers, played against {names}
on {date}. Written by

    .venv/bin/python -m tests.http {wait_s:g}

Each case (`tests/http/`) has its bytes, the section of RFC 9110 or RFC 9112 that it is about, and the outcomes that
the text allows: they were written from the RFCs before any server was run, and where the text leaves a choice, each
choice counts as passed. After the first runs the text was read again where a result surprised. What had been read too
narrowly was widened for everybody, see below; one case became stricter (TG06). Requests go through the server to a
recording upstream that reads strictly (its own reader, and h11 as a second opinion). Answers are given by that
upstream as raw bytes. In every case, whatever its outcome, the following must hold too:

- `/smuggled`, a request that only a wrong reading sees, does not arrive upstream;
- what arrives upstream or at the client has one framing, one Host, whole lines, no bare CR, LF or NUL, no `Upgrade` or
  `TE` without its connection option; no 1xx or chunks go to a client of HTTP/1.0;
- each answer is that of its own request, and so are the answers to the next requests on this connection (if it stays)
  and on a new one; an answer that nobody asked for (`POISON`) reaches nobody.

nginx and HAProxy are set up as a careful operator would (`tests/http/servers.py`): HTTP/1.1 and kept connections to
the upstream, the client's Host passed on, a Via of their own, and otherwise as they come. Both can do better on some
rows with more configuration, and newer releases may do better as they are; a row says what these releases did.
"""

_WIDENED = """\
Each of these is allowed to all servers. Only the cells of nginx and HAProxy changed by them.

| case | also allowed now | why |
| --- | --- | --- |
| RL06, no version | an answer without a head, then the close | HTTP/0.9 is answered so, and may still be spoken |
| RL07 to RL13, a wrong version | the request with the server's own | an invalid line may be read as a valid one |
| RL17, a method of 9,000 letters | the request passed on | a method has no largest length |
| RL28, the beginning of HTTP/2 | a connection that goes on without an answer | who speaks HTTP/2 waits for its frames |
| FL02 and FL03, a line without a colon or a name | the request passed on without that line | as RL07 |
| TG15, CONNECT | the request passed on as it is | an intermediary may leave the refusal to the next one |
| AF03, a folded value | three spaces where the fold was | one or more of them may stand there (RFC 9112 section 5.2) |
| NB05, an answer to HEAD with two lengths | the answer passed on | no body follows, whatever they say |
| all | a request of HTTP/1.0 that arrives without Host | only HTTP/1.1 asks for it |

A body announced as longer than anything (CL16, CL17) may be waited for. The recording upstream learned to send 100
(Continue) where it is asked to."""

_MISSES = """\
A cell that is not `passed` says what was seen: the statuses that the client got, whether its connection then stayed
open or was closed (`silent`: no answer within {wait_s:g} s), what arrived upstream, what a strict reader objects to."""
