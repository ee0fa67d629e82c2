"""The predicted time of a call of this package, for the table of a model's calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kernels.backend import TRITON
from kernels.common.device import card_of
from kernels.common.launch import Launch
from kernels.common.roofline import Limits, Prediction, limits_of
from kernels.common.roofline import predict as by_tiles
from kernels.explain.call import Explanation, explain_call
from kernels.lenet.predicted import predict as by_images


@dataclass(frozen=True)
class Predicted:
    """A prediction by common/roofline.py for `card`, and predicted time after / before of the same call in another
    layout or dtype."""

    card: str
    prediction: Prediction
    changes: dict[str, float] = field(default_factory=dict)

    def cells(self) -> list[str]:
        """card, microseconds, what bounds it, share of the roofline, changes."""
        changes = ", ".join(f"{name} x{ratio:.2f}" for name, ratio in self.changes.items())
        found = self.prediction
        return [self.card, f"{found.seconds * 1e6:.1f}", found.bound, f"{100 * found.share:.0f} %", changes]


HEAD = ("card", "predicted us", "predicted bound", "predicted of limit", "predicted with")


def predicted(
    how: Explanation,
    called: Callable[..., Any],
    given: Any,
    options: Any,
    flops: float,
    changed: Mapping[str, Callable[[Any], Any]],
) -> Predicted | None:
    """The prediction for an explained call with that many FLOPs; None where it launches nothing of this package, or on
    a card whose limits are not known. changed: name -> what to do with each argument."""
    limits = limits_of(card_of(given[0].device).name)
    if how.path != TRITON or not how.launches or limits is None:
        return None
    base = _predict(how.launches, flops, limits)
    changes = {}
    for name, change in changed.items():
        other = _other(called, [change(a) for a in given], options, flops, limits)
        if other is not None:
            changes[name] = other.seconds / base.seconds
    return Predicted(limits.card, base, changes)


def _other(called: Callable[..., Any], given: list[Any], options: Any, flops: float, limits: Limits) -> Any:
    how = explain_call(called, *(a.detach() if isinstance(a, Tensor) else a for a in given), **options)
    return _predict(how.launches, flops, limits) if how.path == TRITON and how.launches else None


def _predict(launches: Sequence[Launch], flops: float, limits: Limits) -> Prediction:
    if "IMAGES" in launches[-1].arguments:
        return by_images(launches, limits)
    return by_tiles(launches, flops, limits)
