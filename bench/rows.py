"""Rows: one measured value each, as a line of JSON written the moment it is known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cnn.errors import UserError

Row = dict[str, Any]
# A row with the same key replaces an older one.
KEY = ("case", "provider", "layout", "metric", "threads")


def append(path: Path, row: Row) -> None:
    """Writes one row and flushes it: what is measured survives whatever happens next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def key(row: Row) -> tuple[Any, ...]:
    """What the row is about."""
    return tuple(row.get(name) for name in KEY)


def read(path: Path) -> list[Row]:
    """The newest row of each key, in the order of the first ones. A last line cut off by a crash is left out.

    UserError for a line in the middle that is not JSON.
    """
    found: dict[tuple[Any, ...], Row] = {}
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise UserError(f"{path}: line {number} is not JSON ({error.msg}); remove it") from error
        found[key(row)] = row
    return list(found.values())


def read_all(paths: Iterable[Path]) -> list[Row]:
    """The rows of several files, newest of each key."""
    found: dict[tuple[Any, ...], Row] = {}
    for path in paths:
        found.update((key(row), row) for row in read(path))
    return list(found.values())
