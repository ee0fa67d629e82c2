"""The measurer on a card: the benchmark's own problems, gate, clock and turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from bench.cases import Case
from bench.clock import Clock
from bench.gate import expected
from bench.measure import measure
from bench.problem import Problem, problem
from bench.providers import Contender, eager, ours
from bench.run import one_line, set_precision, verdict_on
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.plan import Plan
from kernels.tuned.table import Times

SECONDS = 0.25


@dataclass
class CardMeasurer:
    """Plans and torch on `device`, timed by `clock` (device time, the cache flushed before each call)."""

    device: torch.device
    clock: Clock
    seconds: float = SECONDS
    made: dict[str, tuple[Problem, Any]] = field(default_factory=dict)

    def plans(self, case: Case, which: str, chosen: Sequence[Plan]) -> list[float | str]:
        """The time of each plan in the layout that it works in; torch's result sets the rounding that is allowed."""
        given, reference = self._problem(case)
        first = eager.prepare(given, "nhwc")
        torchs = verdict_on(first, given, reference, None)[1]
        answers: list[float | str] = []
        right: list[Contender] = []
        for plan in chosen:
            made = self._ours(given, which, plan, "nhwc" if plan.packed else "nchw")
            status, verdict = made if isinstance(made, tuple) else verdict_on(made, given, reference, torchs)
            answers.append(0.0 if status == "ok" else f"{status}: {getattr(verdict, 'reason', verdict)}")
            if status == "ok" and not isinstance(made, tuple):
                right.append(made)
        timings = iter(measure(right, self.clock, self.seconds * len(right)) if right else [])
        return [answer if isinstance(answer, str) else next(timings).median * 1e6 for answer in answers]

    def against_torch(self, case: Case, which: str, plan: Plan | None, layout: str) -> Times | str:
        """Both in the same layout, in turns; a wrong result gets no time."""
        given, reference = self._problem(case)
        torchs = eager.prepare(given, layout)
        allowed = verdict_on(torchs, given, reference, None)[1]
        mine = self._ours(given, which, plan, layout)
        if isinstance(mine, tuple):
            return f"{mine[0]}: {mine[1]}"
        status, verdict = verdict_on(mine, given, reference, allowed)
        if status != "ok":
            return f"{status}: {verdict.reason}"
        a, b = measure([mine, torchs], self.clock, self.seconds * 2)
        return Times(round(a.median * 1e6, 3), round(b.median * 1e6, 3))

    def _problem(self, case: Case) -> tuple[Problem, Any]:
        """The last problem is kept: a target asks several times."""
        if case.name not in self.made:
            self.made.clear()
            set_precision(case.precision)
            given = problem(case, self.device)
            self.made[case.name] = given, expected(given)
        return self.made[case.name]

    def _ours(self, given: Problem, which: str, plan: Plan | None, layout: str) -> Contender | tuple[str, str]:
        """This package with the plan in force, also while the step's own graph is made."""
        forced: Callable[[], Any] = nullcontext if plan is None else (lambda: force_plan(which, plan))
        try:
            with forced():
                made = ours.prepare(given, layout)
        except Exception as error:
            return "failed", one_line(error)
        usual = made.scope

        @contextmanager
        def scope() -> Iterator[None]:
            with usual(), forced():
                yield

        return replace(made, scope=scope)
