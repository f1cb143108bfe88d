"""Any JSON: RFC 9535 paths say where label, score or confidence stand in an answer, and the features in a request.

Options: `label`, `score`, `confidence`, `features`. A path to one place gives one row; one that may lead to several
gives a row for each place that it finds. `confidence` is a number from 0 to 1. Without `label`, the rounded score is
the label. Filters may not use `match` and `search`: their time has no bound. A path that visits an answer too often is
given up, whatever the answer: RFC 9535 allows paths whose work grows without bound with its depth.
"""

from collections.abc import Callable, ItemsView, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, NamedTuple

from jsonpath import JSONPath, JSONPathEnvironment
from jsonpath.exceptions import JSONPathError
from jsonpath.segments import JSONPathChildSegment, JSONPathRecursiveDescentSegment
from jsonpath.selectors import IndexSelector, NameSelector, SliceSelector, WildcardSelector

from model_adapters.addressing import check_no_names, to_path
from model_adapters.json_bodies import json_of
from model_adapters.rows import Row, joined, row_of
from router.core.errors import ConfigError, UnreadableError
from router.core.inference import InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.options import OptionReader
from router.core.traffic import Variant

OPTIONS = ("confidence", "features", "label", "score")

PATH_CHARS = 256
"""Longest path. Chosen: a path of a person's making is a tenth of it."""

ROWS = 10_000
"""Most places that a path may find in one body."""

VISITS = 4
"""How often a path may visit each value of a body, on average. Chosen: `$..[?@.a == 1]` does so three times. The 2,000
values that fit into 4 KiB then take 105 ms at worst (measured on a busy machine), and no event loop reads them."""

LOOP_BYTES = 2**12
"""The general limit: paths to places take as long as the JSON around them."""

Find = Callable[[Any], list[Any]]
"""Gives the values at a path; it may raise UnreadableError."""


@dataclass(frozen=True, slots=True)
class JsonPaths:
    """Reads by the paths of the Route's `adapter` block; by itself, without options, it reads nothing."""

    name: ClassVar[str] = "json"
    mirror_safe: ClassVar[bool] = False  # only the operator knows what a request to such a server does
    comparator: ClassVar[str] = "label"

    label: Find | None = None
    number: Find | None = None
    features: Find | None = None
    probable: bool = False
    """Whether `number` leads to confidences."""
    loop_bytes: int = LOOP_BYTES
    """See SlowPlugin: none where a path filters or searches, which takes up to 105 ms in a hostile answer of 4 KiB."""

    def configured(self, options: Mapping[str, object]) -> "JsonPaths":
        """Return the adapter with these paths. Raises ConfigError whose `field` is the option's name."""
        OptionReader(options, OPTIONS)  # refuses names that are none
        paths = {name: compiled(name, value) for name, value in options.items()}
        found = {name: path.find for name, path in paths.items()}
        if "score" in found and "confidence" in found:
            raise ConfigError("confidence", options["confidence"], "either `score` or `confidence`")
        if "label" not in found and "score" not in found:
            raise ConfigError("label", None, "a path to the label, such as $.label, or one to the `score`")
        return JsonPaths(
            found.get("label"), found.get("score", found.get("confidence")), found.get("features"),
            "confidence" in found, LOOP_BYTES if all(path.direct for path in paths.values()) else 0,
        )  # fmt: skip

    def read_request(self, raw: RawRequest) -> InferenceRequest:
        """Return the rows: as many as `features` finds, or elements of the list that it leads to."""
        if self.features is None or raw.method != "POST":
            return InferenceRequest()
        found = self.features(json_of(raw.body, "request"))
        if not found:
            raise UnreadableError("request: nothing where `features` leads")
        return InferenceRequest(rows=len(found[0]) if len(found) == 1 and isinstance(found[0], list) else len(found))

    def read_answer(self, raw: RawAnswer) -> Prediction:
        """Return what stands at the paths. Raises UnreadableError when there is nothing, or less of one than of two."""
        body = json_of(raw.body, "answer")
        numbers = None if self.number is None else [self._number(one) for one in self.number(body)]
        if self.label is None:
            if not numbers:
                raise UnreadableError("answer: nothing where `score` leads" if self.number else "no path is set")
            return joined([row_of(number) for number in numbers])
        labels = [_label(one) for one in self.label(body)]
        if not labels:
            raise UnreadableError("answer: nothing where `label` leads")
        if numbers is None:
            return joined(labels)
        if len(numbers) != len(labels):
            raise UnreadableError(f"answer: found {len(labels)} labels and {len(numbers)} scores")
        return joined([row._replace(score=number) for row, number in zip(labels, numbers, strict=True)])

    def check_variant(self, variant: Variant) -> None:
        """Raise ConfigError when the variant asks for a `model` or `version`; called once at start."""
        check_no_names(variant, self.name, "model", "version")

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return `raw` sent to the variant's `path`, its query kept. Raises UnreadableError for a `model`."""
        if variant.model is not None or variant.version is not None:
            raise UnreadableError("the json adapter cannot write a model into a request")
        return to_path(raw, variant)

    def _number(self, value: object) -> float:
        """Return a number, the largest of a list."""
        several = value if isinstance(value, list) else [value]
        if not several or not all(type(one) in (int, float) for one in several):
            raise UnreadableError("answer: expected a number where `score` or `confidence` leads")
        number = float(max(several))
        if self.probable and not 0 <= number <= 1:
            raise UnreadableError("answer: expected a number from 0 to 1 where `confidence` leads")
        return number


class Compiled(NamedTuple):
    """A path as it is followed. `direct` says that it goes down step by step, and visits no value twice."""

    find: Find
    direct: bool


def compiled(name: str, value: object) -> Compiled:
    """Return what finds the values at a path. Raises ConfigError whose `field` is `name`."""
    expected = "an RFC 9535 path such as $.label or $.rows[*].label"
    if not isinstance(value, str) or not 0 < len(value) <= PATH_CHARS:
        raise ConfigError(name, value, f"{expected}, of at most {PATH_CHARS} characters")
    environment = JSONPathEnvironment(strict=True)
    for function in ("match", "search"):
        environment.function_extensions.pop(function, None)
    try:
        path = environment.compile(value)
    except (JSONPathError, RecursionError, ValueError) as error:
        why = str(error).partition("\n")[0][:120] or type(error).__name__
        raise ConfigError(name, value, f"{expected} ({why})") from None
    if not isinstance(path, JSONPath):
        raise ConfigError(name, value, expected)
    deep = sum(isinstance(segment, JSONPathRecursiveDescentSegment) for segment in path.segments)
    if deep > 1:
        raise ConfigError(name, value, "a path with `..` at most once: its time grows with each")
    steps = _steps(path)
    if steps is not None:
        return Compiled(_at(steps), direct=True)
    direct = _direct(path)
    return Compiled(_everywhere(path, name, direct=direct), direct)


def _steps(path: JSONPath) -> tuple[str | int, ...] | None:
    """Return the names and indices of a path to one place, None for any other."""
    steps: list[str | int] = []
    for segment in path.segments:
        if not isinstance(segment, JSONPathChildSegment) or len(segment.selectors) != 1:
            return None
        selector = segment.selectors[0]
        if isinstance(selector, NameSelector):
            steps.append(selector.name)
        elif isinstance(selector, IndexSelector):
            steps.append(selector.index)
        else:
            return None
    return tuple(steps)


def _at(steps: tuple[str | int, ...]) -> Find:
    def find(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
        for step in steps:
            if type(step) is str:
                if type(value) is not dict or step not in value:
                    return []
            elif type(value) is not list or not -len(value) <= step < len(value):  # type: ignore[operator]
                return []
            value = value[step]
        return [value]

    return find


def _everywhere(path: JSONPath, name: str, *, direct: bool) -> Find:
    def find(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
        if not isinstance(value, (dict, list)):
            return []
        try:
            body = value if direct else _counted(value, _Visits(name))
            found = [_plain(match.obj) for match in islice(path.finditer(body), ROWS + 1)]
        except (JSONPathError, RecursionError):
            raise UnreadableError(f"the path of `{name}` cannot be followed here: nested too deeply") from None
        except TypeError:  # the library's, of `count(@)` where the value is no list
            raise UnreadableError(f"the path of `{name}` cannot be followed here") from None
        if len(found) > ROWS:
            raise UnreadableError(f"the path of `{name}` finds more than {ROWS} places")
        return found

    return find


def _direct(path: JSONPath) -> bool:
    """Whether each step goes down by one selector without a filter, so that no value can be visited twice."""
    simple = (NameSelector, IndexSelector, SliceSelector, WildcardSelector)
    return all(
        isinstance(segment, JSONPathChildSegment)
        and len(segment.selectors) == 1
        and isinstance(segment.selectors[0], simple)
        for segment in path.segments
    )


class _Visits:
    """How many more values of one body may be visited."""

    __slots__ = ("left", "name")

    def __init__(self, name: str) -> None:
        self.left = VISITS
        self.name = name

    def take(self, values: int) -> None:
        """Count a look at so many values."""
        self.left -= values
        if self.left < 0:
            raise UnreadableError(f"the path of `{self.name}` takes too much work here")


class _Array(list[Any]):
    """A list that counts each look at its elements: all that a path does begins with one."""

    __slots__ = ("plain", "visits")
    plain: list[Any]
    visits: _Visits

    def __iter__(self) -> Iterator[Any]:
        self.visits.take(1 + len(self))
        return super().__iter__()

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401 - an index or a slice
        self.visits.take(1 + (len(range(*place.indices(len(self)))) if type(place) is slice else 0))
        return super().__getitem__(place)


class _Object(dict[str, Any]):
    """An object that counts likewise."""

    __slots__ = ("plain", "visits")
    plain: dict[str, Any]
    visits: _Visits

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override] # the base's own view, counted before
        self.visits.take(1 + len(self))
        return super().items()

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        self.visits.take(1)
        return super().__getitem__(name)


def _counted(value: Any, visits: _Visits) -> Any:  # noqa: ANN401 - any JSON value
    """Return a copy of `value` that counts; every value in it allows for more visits."""
    counted: _Array | _Object
    if type(value) is list:
        counted = _Array([_counted(one, visits) for one in value])
    elif type(value) is dict:
        counted = _Object({name: _counted(one, visits) for name, one in value.items()})
    else:
        return value
    counted.plain, counted.visits = value, visits
    visits.left += VISITS * (1 + len(value))
    return counted


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return value.plain if isinstance(value, (_Array, _Object)) else value


def _label(value: object) -> Row:
    if value is None or isinstance(value, dict):
        raise UnreadableError("answer: expected a text, number, boolean or list where `label` leads")
    return row_of(value)
