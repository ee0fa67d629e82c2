"""explain: which path, kernel and tile a call would take, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("not yet")
