#!/usr/bin/env python3
"""Draws docs/img/demo.svg, the README's picture, from a real demo: `.venv/bin/python scripts/demo_picture.py`.

The picture is one frame of the live view as an 80-column terminal shows it: the end of act two, with the gates that
decided it. It takes a minute. Run it again when the view changes.
"""

import os
import re
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import uvloop
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from router.demo.free_ports import choose_ports, is_free
from router.demo.options import DemoOptions
from router.demo.performance import perform
from router.demo.view import Scene, frame

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "img" / "demo.svg"
# Chosen: readable on a dark and on a light page, told apart by people who see red and green alike.
THEME = TerminalTheme(
    (18, 22, 30),
    (214, 220, 230),
    [
        (18, 22, 30), (235, 110, 110), (126, 211, 160), (240, 200, 110),
        (110, 160, 240), (200, 150, 230), (90, 190, 220), (214, 220, 230),
    ],
)  # fmt: skip


class Camera:
    """A screen that keeps one scene and writes lines to standard error."""

    live = True

    def __init__(self) -> None:
        self.scene: Scene | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        return None

    def line(self, text: str) -> None:
        """Write a line that stays."""
        sys.stderr.write(f"{text}\n")

    def draw(self, scene: Scene) -> None:
        """Keep the last scene, without the results that take the place of the gates."""
        self.scene = replace(scene, results=(), waits_for="the results")

    def end(self) -> None:
        """Do nothing."""


def main() -> int:
    """Run the demo and write the picture."""
    camera = Camera()
    status = uvloop.run(perform(DemoOptions(json=os.devnull), camera, choose_ports(8080, is_free)))
    if camera.scene is None:
        return status or 1
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(svg_of(camera.scene), encoding="utf-8")
    return status


def svg_of(scene: Scene) -> str:
    """Return the frame as SVG that needs nothing from the network: the reader's own monospace font."""
    console = Console(width=80, record=True, file=StringIO(), force_terminal=True)
    console.print(frame(scene))
    drawn = console.export_svg(title="./run", theme=THEME, unique_id="turnout-demo")
    drawn = re.sub(r"@font-face\s*{.*?}\s*(?=@font-face|\.)", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace")


if __name__ == "__main__":
    sys.exit(main())
