"""The table of a card: read once, when a plan first asks for it, and believed only if every line of it makes sense."""

from __future__ import annotations

import json
import math
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernels.common.signature import apart
from kernels.tuned.bucket import NEAR, Bucket

FORMAT = 1
LAYOUTS = ("nchw", "nhwc")
FOLDER = Path(os.environ.get("TRITON_CNN_TUNED", "") or Path(__file__).parent)
"""Where tables are looked for: beside this file, or in the folder that TRITON_CNN_TUNED names."""


@dataclass(frozen=True)
class Times:
    """Microseconds of one operation in one layout, medians of the same run."""

    ours: float
    torch: float


@dataclass(frozen=True)
class Entry:
    """What was measured in a bucket.

    plan: the fields of the fastest plan, None where there is nothing to choose (pools). times: by layout ("nchw",
    "nhwc"), then by operation. about: the shape that was measured, commit, date, and how many plans were tried.
    """

    plan: dict[str, Any] | None
    times: dict[str, dict[str, Times]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Table:
    """Every bucket measured on `card`; about: versions, driver, commit and date of the last writing."""

    card: str
    entries: dict[Bucket, Entry]
    about: dict[str, Any] = field(default_factory=dict)

    def plans(self, bucket: Bucket) -> list[tuple[dict[str, Any], bool]]:
        """The plans worth trying there, nearest bucket first, each with whether it is the bucket's own."""
        found = [(bucket.distance(other), other.key, entry.plan) for other, entry in self.entries.items()]
        ordered = sorted(found, key=lambda f: f[:2])
        return [(plan, distance == 0) for distance, _, plan in ordered if distance <= NEAR and plan is not None]


def slug(name: str) -> str:
    """A device's name as a file's: lower case, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


_tables: dict[str, Table | None] = {}
_lock = threading.Lock()


def table_of(card: str) -> Table | None:
    """The card's table; None where there is none, or where it is damaged, which is said once by a RuntimeWarning."""
    if card not in _tables:
        with _lock:
            if card not in _tables:
                _tables[card] = _load(card)
    return _tables[card]


@contextmanager
def tables_in(folder: Path) -> Iterator[None]:
    """Look for tables in `folder` inside the block, for all threads (tests, tuning)."""
    global FOLDER
    before, FOLDER = FOLDER, folder
    _tables.clear()
    try:
        with apart(object()):
            yield
    finally:
        FOLDER = before
        _tables.clear()


def _load(card: str) -> Table | None:
    path = FOLDER / f"{slug(card)}.json"
    if not card or not path.exists():
        return None
    try:
        return read(path, card)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        said = f"{path} is not used ({why}); plans for {card} come from the heuristic. Remove it or tune again."
        warnings.warn(said, RuntimeWarning, stacklevel=2)
        return None


def read(path: Path, card: str) -> Table:
    """The table in a file; ValueError, KeyError, TypeError or AttributeError where it is damaged or another card's."""
    data = json.loads(path.read_text())
    if data["format"] != FORMAT:
        raise ValueError(f"its format is {data['format']}, this version reads {FORMAT}")
    if data["card"] != card:
        raise ValueError(f"it was measured on {data['card']}")
    return Table(card, {Bucket.parse(key): _entry(key, value) for key, value in data["entries"].items()}, data["about"])


def _entry(key: str, data: dict[str, Any]) -> Entry:
    plan = data["plan"]
    if not (plan is None or isinstance(plan, dict)):
        raise ValueError(f"the plan of {key!r} is {plan!r}")
    times = {
        layout: {operation: _times(key, pair) for operation, pair in found.items()}
        for layout, found in data["us"].items()
    }
    if not set(times) <= set(LAYOUTS):
        raise ValueError(f"the layouts of {key!r} are {sorted(times)}, not of {LAYOUTS}")
    return Entry(plan, times, {name: value for name, value in data.items() if name not in ("plan", "us")})


def _times(key: str, pair: Any) -> Times:
    ours, torchs = (float(value) for value in pair)
    if not (0 < ours < math.inf and 0 < torchs < math.inf):
        raise ValueError(f"the times of {key!r} are {pair}")
    return Times(ours, torchs)


def write(path: Path, table: Table) -> None:
    """The table into a file, one line an entry, in one move: a kill leaves the old file or the new one."""
    lines = []
    for bucket, entry in sorted(table.entries.items(), key=lambda item: item[0].key):
        us = {
            layout: {operation: [t.ours, t.torch] for operation, t in found.items()}
            for layout, found in entry.times.items()
        }
        lines.append(f"  {json.dumps(bucket.key)}: {json.dumps({'plan': entry.plan, 'us': us, **entry.about})}")
    head = f'{{\n "format": {FORMAT},\n "card": {json.dumps(table.card)},\n "about": {json.dumps(table.about)},\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.write_text(head + ' "entries": {\n' + ",\n".join(lines) + "\n }\n}\n")
    draft.replace(path)
