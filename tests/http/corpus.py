"""The whole corpus in order, by group."""

from tests.http import (
    answers_framing,
    answers_head,
    requests_chunks,
    requests_coding,
    requests_connection,
    requests_length,
    requests_syntax,
    requests_target,
)
from tests.http.cases import AnswerCase, RequestCase

REQUESTS: dict[str, tuple[RequestCase, ...]] = {
    "Content-Length": requests_length.CASES,
    "Transfer-Encoding": requests_coding.CASES,
    "Chunked bodies": requests_chunks.CASES,
    "Request lines": requests_syntax.LINES,
    "Fields": requests_syntax.FIELDS,
    "Host": requests_target.HOSTS,
    "Targets and methods": requests_target.TARGETS,
    "Max-Forwards": requests_target.MAX_FORWARDS,
    "Connection options and upgrades": requests_connection.OPTIONS,
    "Persistence": requests_connection.PERSISTENCE,
    "Pipelining": requests_connection.PIPELINE,
    "Expect": requests_connection.EXPECT,
}
ANSWERS: dict[str, tuple[AnswerCase, ...]] = {
    "Answers with a length": answers_framing.LENGTHS,
    "Answers until the close": answers_framing.UNTIL_CLOSE,
    "Answers in chunks": answers_framing.CHUNKS,
    "Status lines": answers_head.STATUS_LINES,
    "Fields of answers": answers_head.FIELDS,
    "Interim answers": answers_head.INTERIM,
    "Answers without a body": answers_head.BODILESS,
}
REQUEST_CASES = tuple(case for cases in REQUESTS.values() for case in cases)
ANSWER_CASES = tuple(case for cases in ANSWERS.values() for case in cases)

MISSED: dict[str, str] = {}
"""What Turnout is known to miss, and why; everything else it passes."""
