"""A rollout under load, judged: `./run loadtest SCENARIO [--users N --minutes M --headless --json FILE]`.

Starts a Turnout with real models and a real store, or asks one that runs (`--url`, `--admin-url`). Exit code 0 when
every limit of the scenario held, 1 when one was missed.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from loadtests.under_load.options import VARIABLE, Options
from loadtests.under_load.scenario import load, names
from loadtests.under_load.shapes import SHAPES

ROOT = Path(__file__).parents[2]
LOCUST = Path(sys.executable).with_name("locust")
WEB_PORT = 8089


def main() -> int:
    """Hand over to locust; its exit code is the verdict."""
    options, headless = options_of(sys.argv[1:])
    command = [
        str(LOCUST), "--locustfile", str(Path(__file__).with_name("locustfile.py")), "--loglevel", "WARNING",
        "--stop-timeout", "10", "--only-summary",
    ]  # fmt: skip
    command += ["--headless"] if headless else ["--autostart", "--web-host", "127.0.0.1"]
    if not headless:
        print(f"locust's own page: http://127.0.0.1:{WEB_PORT} (Ctrl-C ends it)", flush=True)
    os.chdir(ROOT)
    environment = os.environ | {VARIABLE: json.dumps(asdict(options)), "PYTHONPATH": str(ROOT)}
    os.execve(LOCUST, command, environment)  # noqa: S606 - our own venv's


def options_of(arguments: list[str]) -> tuple[Options, bool]:
    """Return the options, and whether there is to be no page; exits with 2 for what cannot be."""
    parser = argparse.ArgumentParser(prog="./run loadtest", description=__doc__)
    parser.add_argument("scenario", choices=names())
    parser.add_argument("--users", type=int, default=40, help="of locust's, at most; default %(default)s")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long; default %(default)s")
    parser.add_argument("--headless", action="store_true", help="without locust's page")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--report", type=Path, help="the HTML report; default: loadtest-SCENARIO.html")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="of the load; default: the scenario's own")
    parser.add_argument("--rate", type=float, default=20.0, help="of each open loop, per second; default %(default)s")
    parser.add_argument("--unprotected", action="store_true", help="without what the scenario relies on: must fail")
    parser.add_argument("--url", default="", help="the gateway of a Turnout that runs; needs --admin-url")
    parser.add_argument("--admin-url", default="", help="its admin API, which needs no token from this machine")
    parser.add_argument("--direct-url", default="", help="its stable model server, to compare with")
    asked = parser.parse_args(arguments)
    if bool(asked.url) != bool(asked.admin_url):
        parser.error("--url and --admin-url go together")
    if asked.url and (load(asked.scenario).fault or asked.unprotected):
        parser.error(f"{asked.scenario} breaks what it runs on, so it starts a Turnout of its own; leave --url")
    if asked.users < 1 or asked.minutes <= 0 or asked.rate < 0:
        parser.error("--users and --minutes are positive, --rate is not negative")
    options = Options(
        scenario=asked.scenario, python=str(ROOT / ".venv/bin/python"), users=asked.users, minutes=asked.minutes,
        json=str(asked.json.resolve()) if asked.json else "",
        report=str((asked.report or Path(f"loadtest-{asked.scenario}.html")).resolve()),
        shape=asked.shape or "", rate_s=asked.rate, protected=not asked.unprotected,
        url=asked.url.rstrip("/"), admin_url=asked.admin_url.rstrip("/"), direct_url=asked.direct_url.rstrip("/"),
    )  # fmt: skip
    return options, asked.headless


if __name__ == "__main__":
    sys.exit(main())
