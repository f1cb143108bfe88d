"""CSV bodies, and the media type that tells them from JSON."""

import csv
from io import StringIO

from router.core.errors import UnreadableError


def content_type(headers: tuple[tuple[str, str], ...]) -> str:
    """Return the media type in lower case, without parameters; empty where none is said."""
    for name, value in headers:
        if name == "content-type":
            return value.partition(";")[0].strip().lower()
    return ""


def csv_rows(body: bytes, what: str) -> list[list[str]]:
    """Return the lines of CSV that are not empty. Raises UnreadableError, which begins with `what`."""
    try:
        return [row for row in csv.reader(StringIO(body.decode(), newline=""), strict=True) if row]
    except UnicodeDecodeError:
        raise UnreadableError(f"{what}: expected CSV in UTF-8") from None
    except csv.Error as error:
        raise UnreadableError(f"{what}: not CSV ({str(error)[:80]})") from None
