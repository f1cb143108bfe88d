"""Writes what was measured into docs/performance.md and README.md: `python -m loadtests.compare.pages`.

A run with `--markdown` leaves its medians in docs/performance/*.json and calls this. Tables stand between two comments,
`<!-- NAME: ... -->` and `<!-- end of NAME -->`; everything else on the pages is written by people.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from loadtests.compare import capacity, growth, report
from loadtests.compare.figures import CANARY, MIRROR, PLAIN, TURNOUT
from loadtests.compare.report import Report

ROOT = Path(__file__).parents[2]
PAGE, README = Path("docs/performance.md"), Path("README.md")
COMPARISON, GROWTH = Path("docs/performance/comparison.json"), Path("docs/performance/growth.json")
PICTURE, GROWTH_PICTURE = Path("docs/img/performance.svg"), Path("docs/img/growth.svg")


def keep_comparison(found: Report, root: Path = ROOT) -> None:
    """Keep the medians of a comparison, and write the pages anew."""
    _keep(root / COMPARISON, report.as_json(found.of_medians()))
    write(root)


def keep_growth(found: growth.Growth, root: Path = ROOT) -> None:
    """Keep a growth run, and write the pages anew."""
    _keep(root / GROWTH, growth.as_json(found))
    write(root)


def _keep(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def write(root: Path = ROOT) -> None:
    """Write tables and pictures from what was kept. What has never been measured leaves its place as it is."""
    tables: dict[str, str] = {}
    compared = report.from_json((root / COMPARISON).read_text()) if (root / COMPARISON).exists() else None
    grown = growth.from_json((root / GROWTH).read_text()) if (root / GROWTH).exists() else None
    if compared:
        tables["comparison"] = f"{_where(compared.machine)}\n\n{report.as_markdown(compared)}\n\n{_commands(compared)}"
        tables["summary"] = f"{summary(compared)}\n\n{_where(compared.machine)}"
        report.draw(compared, root / PICTURE)
    if grown:
        tables["growth"] = f"{_where(grown.machine)}\n\n{growth.as_markdown(grown)}"
        growth.draw(grown, root / GROWTH_PICTURE)
    if compared and grown:
        tables["capacity"] = capacity.as_markdown(capacity.prices_of(compared.cells, grown.costs))
    for page, names in ((PAGE, ("comparison", "growth", "capacity")), (README, ("summary",))):
        text = (root / page).read_text()
        for name in names:
            if name in tables:
                text = filled(text, name, tables[name])
        (root / page).write_text(text)


def filled(text: str, name: str, table: str) -> str:
    """Return the text with `table` in the place called `name`. Raises ValueError unless there is exactly one."""
    place = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    changed, places = place.subn(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)
    if places != 1:
        raise ValueError(f"expected one place `<!-- {name}: ... -->` to `<!-- end of {name} -->`, found {places}")
    return changed


def _where(machine: Mapping[str, object]) -> str:
    command = _without_places(str(machine["command"]))
    return (
        f"As measured on {machine['date']} by `{command}`: {machine['cpu']}, {machine['cores']} cores, "
        f"Linux {machine['kernel']}, Python {machine['python']}, {_versions(machine)}; load of the machine before it "
        f"{machine['load_before']}{_busy(machine)}."
    )


def _versions(machine: Mapping[str, object]) -> str:
    versions = machine["versions"]
    assert isinstance(versions, Mapping)
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _busy(machine: Mapping[str, object]) -> str:
    load = machine["load_before"]
    return " (**it was busy with other things**)" if isinstance(load, float) and load > BUSY_LOAD else ""


BUSY_LOAD = 0.5


def _commands(found: Report) -> str:
    """Return the command lines, without the places of this checkout and of the run's folders."""
    commands = found.machine["commands"]
    return "\n".join(["```", *(f"{name}: {_without_places(command)}" for name, command in commands.items()), "```"])


def _without_places(command: str) -> str:
    text = command.replace(f"{ROOT}/", "").replace(f"{Path.home()}/", "~/")
    return re.sub(f"{tempfile.gettempdir()}/[^/ ]+", "FOLDER", text)


def summary(found: Report) -> str:
    """Return a short table: CPU of the gateway per request by system and mode, and Turnout's ratio to each."""
    modes = (PLAIN, CANARY, MIRROR)
    cpu = {(one.system, one.mode): one.cpu_us["gateway"] for one in found.cells if one.usual}
    ratios = {(one.peer, one.mode): one.median for one in found.ratios}
    systems = [TURNOUT, *dict.fromkeys(system for system, _ in cpu if system not in (TURNOUT, "direct"))]
    rows = ["| CPU us per request (Turnout by it) | plain | 10 % canary | 100 % mirror |", "|---|---:|---:|---:|"]
    for system in systems:
        cells = [_cell(cpu.get((system, mode)), ratios.get((system, mode))) for mode in modes]
        rows.append(f"| {system} | {' | '.join(cells)} |")
    rows += [f"\nMissing: {one['system']}: {one['why']}" for one in found.missing]
    return "\n".join(rows)


def _cell(us: float | None, ratio: float | None) -> str:
    if us is None:
        return ""
    return f"{us:.1f}" if ratio is None else f"{us:.1f} ({ratio:.2f}x)"


if __name__ == "__main__":
    write()
