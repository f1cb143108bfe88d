"""The pages that figures are written into, and what is computed from them."""

import shutil
import tempfile
from pathlib import Path

import pytest

from loadtests.compare import capacity, pages
from loadtests.compare.capacity import Prices, needs, prices_of
from loadtests.compare.figures import CANARY, DIRECT, MIRROR, PLAIN, TURNOUT, Cost, ratios
from loadtests.compare.growth import Growth
from loadtests.compare.report import Report, as_json, from_json
from tests.loadtests.test_figures import cell
from tests.loadtests.test_growth import POINTS

MACHINE = {
    "date": "2026-11-25", "command": "./run compare", "cpu": "A CPU", "cores": 2, "kernel": "6.1", "python": "3.11",
    "versions": {"nginx": "1.22.1"}, "load_before": 0.1,
    "commands": {"nginx": f"{pages.ROOT}/x -c {tempfile.gettempdir()}/abc/nginx.conf"},
}  # fmt: skip
CELLS = [cell(DIRECT, PLAIN, 1, None)] + [
    cell(name, mode, 1, us) for name, us in ((TURNOUT, 8.0), ("nginx", 10.0)) for mode in (PLAIN, CANARY, MIRROR)
]
COMPARED = Report(MACHINE, CELLS, ratios(CELLS), [{"system": "traefik", "why": "no network"}])
COSTS = [
    Cost("a pair, in the store", 6.0, "us"), Cost("a replica, in the store", 0.5, "ms/s"),
    Cost("a replica, in control", 0.2, "ms/s"), Cost("control, 1 replicas", 8.0, "ms/s"),
]  # fmt: skip
GROWN = Growth(MACHINE, POINTS, COSTS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with copies of the real pages and nothing measured."""
    (tmp_path / "docs" / "img").mkdir(parents=True)
    for page in (pages.PAGE, pages.README):
        shutil.copy(pages.ROOT / page, tmp_path / page)
    return tmp_path


def test_a_report_can_be_read_again() -> None:
    """What was kept gives the same document."""
    assert as_json(from_json(as_json(COMPARED))) == as_json(COMPARED)


def test_figures_come_into_their_places_and_nothing_else_changes(root: Path) -> None:
    """Both pages, both pictures; a second writing changes nothing; what stands outside of the places stays."""
    before = (root / pages.PAGE).read_text()
    pages.keep_comparison(COMPARED, root)
    pages.keep_growth(GROWN, root)
    page, readme = (root / pages.PAGE).read_text(), (root / pages.README).read_text()
    assert "| nginx | mirror | 0.80 |" in page
    assert "| routes | 1,000 | 1,000 | 12.0 | 1.20 |" in page
    assert "| 1,000,000 | 1 % |" in page
    assert "nginx: x -c FOLDER/nginx.conf" in page
    assert "| nginx | 10.0 (0.80x) | 10.0 (0.80x) | 10.0 (0.80x) |" in readme
    assert "Missing: traefik: no network" in readme
    assert "As measured on 2026-11-25 by `./run compare`: A CPU, 2 cores, Linux 6.1" in readme
    assert "busy with other things" not in readme
    assert (root / pages.PICTURE).exists()
    assert (root / pages.GROWTH_PICTURE).exists()
    assert page.partition("<!--")[0] == before.partition("<!--")[0]
    assert page.rpartition("-->")[2] == before.rpartition("-->")[2]
    pages.write(root)
    assert (page, readme) == ((root / pages.PAGE).read_text(), (root / pages.README).read_text())


def test_figures_of_a_busy_machine_say_so(root: Path) -> None:
    """Nobody takes them for more than they are."""
    pages.keep_comparison(Report({**MACHINE, "load_before": 5.0}, CELLS, ratios(CELLS), []), root)
    assert "load of the machine before it 5.0 (**it was busy with other things**)" in (root / pages.README).read_text()


@pytest.mark.parametrize("text", ["no place", "<!-- a: x -->\n\n<!-- end of a -->\n" * 2])
def test_a_page_without_its_place_is_an_error(text: str) -> None:
    """A table that goes nowhere would not be missed."""
    with pytest.raises(ValueError, match="expected one place"):
        pages.filled(text, "a", "table")


def test_what_a_rate_needs_is_what_one_works_out_by_hand() -> None:
    """10,000/s at 50 us and a tenth of what a copy adds, 100 us: 0.6 s of CPU a second, one worker 60 % busy."""
    prices = Prices(plain=30.0, canary=50.0, mirror=150.0, pair_in_store=6.0,
                    replica_in_store=1_000.0, replica_in_control=200.0, control=8_000.0)  # fmt: skip
    (need,) = needs(prices, [10_000], [0.1])
    assert (need.workers, need.pairs_s) == (1, 1_000.0)
    assert need.shard_busy == pytest.approx(0.006 + 0.001)
    assert need.control_busy == pytest.approx(0.0082)
    assert need.largest_share == 1.0
    (need,) = needs(prices, [1_000_000], [0.0])
    assert (need.workers, need.pairs_s) == (50, 0.0)  # no rollout
    (need,) = needs(prices, [1_000_000], [1.0])
    assert need.workers == 250
    assert need.shard_busy == pytest.approx(6.25)
    assert need.largest_share == pytest.approx((0.6 - 0.25) / 6)
    assert "**625%: too much** | 5.83 %" in capacity.as_markdown(prices)


def test_prices_come_from_both_runs_and_counters_are_written_twice_a_second() -> None:
    """Median cells of Turnout, costs by their names."""
    found = prices_of(CELLS, COSTS)
    assert (found.plain, found.mirror, found.pair_in_store) == (8.0, 8.0, 6.0)
    assert (found.replica_in_store, found.replica_in_control) == (1_000.0, 200.0)
    with pytest.raises(KeyError):
        prices_of(CELLS, COSTS[1:])
