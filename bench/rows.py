"""Rows: one measured value each, as a line of JSON written the moment it is known."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
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


def drop(path: Path, metrics: Container[str]) -> None:
    """Removes the rows of these metrics."""
    if path.exists():
        kept = [row for row in lines(path) if row.get("metric") not in metrics]
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))


def key(row: Row) -> tuple[Any, ...]:
    """What the row is about."""
    return tuple(row.get(name) for name in KEY)


def lines(path: Path) -> list[Row]:
    """Every row of a file, oldest first. A last line cut off by a crash is left out; UserError for another bad line."""
    found: list[Row] = []
    texts = path.read_text().splitlines()
    for number, text in enumerate(texts, 1):
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number < len(texts):
                raise UserError(f"{path}: line {number} is not JSON ({error.msg}); remove it") from error
    return found


def newest(found: Iterable[Row]) -> list[Row]:
    """The newest row of each key, in the order of the first ones."""
    by_key: dict[tuple[Any, ...], Row] = {}
    for row in found:
        if key(row) not in by_key or str(row["date"]) >= str(by_key[key(row)]["date"]):
            by_key[key(row)] = row
    return list(by_key.values())


def read(path: Path) -> list[Row]:
    """The newest row of each key in a file."""
    return newest(lines(path))
