"""Digits as questions, and the two models that `programs/digits.py` makes of them."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from sklearn.datasets import load_digits

from tests.e2e.harness import clean_environment
from tests.servers.journey import Question

PROGRAMS = Path(__file__).with_name("programs")
JSON = (("content-type", "application/json"),)
BATCH = 2
QUESTIONS = 30


def save_models(python: Path, form: Literal["joblib", "mlflow"], folder: Path) -> None:
    """Have both versions fitted and saved in `v1` and `v2` of a folder, by the Python of a server's venv."""
    subprocess.run([python, PROGRAMS / "digits.py", form, folder], check=True, env=clean_environment())


def questions(
    body_of: Callable[[int, list[list[float]]], bytes], text_of: Callable[[list[int]], str]
) -> list[Question]:
    """Return questions of two digits each; the body is made of number and rows, the label's text of the digits.

    v1 knows every digit, v2 takes every 8 for a 3.
    """
    images, digits = load_digits(return_X_y=True)
    found = []
    for number in range(QUESTIONS):
        rows = slice(number * BATCH, (number + 1) * BATCH)
        right = [int(digit) for digit in digits[rows]]
        wrong = [3 if digit == 8 else digit for digit in right]
        found.append(Question(JSON, body_of(number, images[rows].tolist()), text_of(right), text_of(wrong)))
    return found
