"""Who is timed: this package and its rivals, each in its best honest form.

A provider module has NAME, HELP, layouts(case, device) -> the layouts it runs, reason(case, device) -> why it cannot
run a case (None when it can), and prepare(problem, layout) -> Contender.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from bench.cases import Case
from bench.problem import Problem, Step
from cnn.errors import UserError

# The first one checked gives torch's own error, by which the others are judged.
FIRST = "eager"
ORDER = (
    "eager",
    "ours",
    "ours_fused",
    "compile",
    "compile_reduce",
    "compile_max",
    "eager_graph",
    "ours_graph",
    "cudnn_fused",
    "onnxruntime",
)


@dataclass
class Contender:
    """A provider ready to run one case in one layout. path: the code that runs, for the row."""

    provider: str
    layout: str
    path: str
    step: Step
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def label(self) -> str:
        """provider/layout."""
        return f"{self.provider}/{self.layout}"


class Provider(Protocol):
    """What a provider module offers."""

    NAME: str
    HELP: str

    def layouts(self, case: Case, device: torch.device) -> Sequence[str]: ...

    def reason(self, case: Case, device: torch.device) -> str | None: ...

    def prepare(self, problem: Problem, layout: str) -> Contender: ...


def providers(names: Sequence[str] = ()) -> list[Provider]:
    """The providers in the order of the tables, or those named, eager always first; UserError for an unknown name."""
    modules = [m.name for m in pkgutil.iter_modules(__path__)]
    known = sorted(modules, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n))
    for name in names:
        if name not in known:
            raise UserError(f"provider {name!r} is unknown; choose from {', '.join(known)}")
    chosen = [n for n in known if not names or n in names or n == FIRST]
    found: list[Any] = [importlib.import_module(f"bench.providers.{name}") for name in chosen]
    return found


def both_layouts(case: Case, device: torch.device) -> Sequence[str]:
    """NCHW and channels_last: each provider is timed in both, and a table shows the better."""
    return ("nchw", "nhwc")
