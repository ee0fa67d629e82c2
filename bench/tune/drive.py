"""Target after target within a time: ranked, measured, written into the card's table, left out the next time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.cases import Case
from bench.tune import Target
from kernels.conv2d.plans.plan import Plan
from kernels.tuned.bucket import Bucket
from kernels.tuned.table import LAYOUTS, Entry, Table, Times, read, slug, write


def named(plan: Plan) -> str:
    """A plan in a few words."""
    tile = plan.tile
    parts = f" in {plan.splits} parts" if plan.splits > 1 else ""
    if tile is None:
        return plan.algorithm + parts
    block = f"{tile.block_m}x{tile.block_n}x{tile.block_k}"
    return f"{plan.algorithm} {block} w{tile.num_warps} s{tile.num_stages}{parts}"


class Measurer(Protocol):
    """What a card answers. Times in microseconds, medians of contenders that took turns."""

    def plans(self, case: Case, which: str, chosen: Sequence[Plan]) -> list[float | str]:
        """The time of each plan of a pass, or why it has none (a wrong result, an error)."""
        ...

    def against_torch(self, case: Case, which: str, plan: Plan | None, layout: str) -> Times | str:
        """This package with that plan and torch's operator, or why there is no time."""
        ...


@dataclass
class Tuner:
    """Where a tuning run stands. promising(target): its plans, most promising first, [] for a pool."""

    folder: Path
    card: str
    about: dict[str, Any]
    promising: Callable[[Target], Sequence[Plan]]
    measurer: Measurer
    say: Callable[[str], None] = print
    entries: dict[Bucket, Entry] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The table's file."""
        return self.folder / f"{slug(self.card)}.json"

    def load(self) -> None:
        """Goes on with the table that is there; one that cannot be read is set aside as *.damaged, never lost."""
        if not self.path.exists():
            return
        try:
            self.entries = dict(read(self.path, self.card).entries)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = self.path.with_name(self.path.name + ".damaged")
            self.path.replace(aside)
            self.say(f"{self.path} cannot be read ({error}): set aside as {aside.name}")

    def run(self, chosen: Sequence[Target], seconds: float) -> list[Target]:
        """Tunes what this commit has not measured yet, until the time is over; returns what is left."""
        end = time.monotonic() + seconds
        left = [target for target in chosen if not self._is_done(target)]
        self.say(f"{len(chosen) - len(left)} of {len(chosen)} buckets measured before at this commit")
        for target in list(left):
            if time.monotonic() >= end:
                break
            self.tune(target)
            left.remove(target)
        return left

    def _is_done(self, target: Target) -> bool:
        entry = self.entries.get(target.bucket)
        return entry is not None and entry.about.get("commit") == self.about.get("commit")

    def tune(self, target: Target) -> None:
        """Measures one target and writes the table."""
        cases = target.cases()
        plans = list(self.promising(target))
        best, tried = None, {}
        if not target.is_pool:
            found = self.measurer.plans(next(iter(cases.values())), target.which, plans)
            timed = [(value, plan) for value, plan in zip(found, plans, strict=True) if not isinstance(value, str)]
            tried = {named(plan): value for plan, value in zip(plans, found, strict=True)}
            if not timed:
                self.say(f"{target.name}: no plan could be measured: {str(tried)[:300]}")
                return
            best = min(timed, key=lambda pair: pair[0])[1]
        times: dict[str, dict[str, Times]] = {}
        for layout in LAYOUTS:
            for operation, case in cases.items():
                answer = self.measurer.against_torch(case, target.which, best, layout)
                if isinstance(answer, str):
                    self.say(f"{target.name} {layout} {operation}: {answer}")
                else:
                    times.setdefault(layout, {})[operation] = answer
        about = {"layer": target.name, "tried": tried, "commit": self.about["commit"], "date": self.about["date"]}
        self.entries[target.bucket] = Entry(None if best is None else asdict(best), times, about)
        write(self.path, Table(self.card, self.entries, self.about))
        ratios = [
            f"{layout} {op} x{t.torch / t.ours:.2f}" for layout, found in times.items() for op, t in found.items()
        ]
        self.say(f"{target.name}: {named(best) if best else 'pool'}; times torch's speed: {', '.join(ratios)}")
        for name, value in tried.items():
            self.say(f"  {name}: {value if isinstance(value, str) else f'{value:.1f} us'}")
