"""The calls of this package's functions that a model makes, noted as they are made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from kernels import modules
from kernels.convert import chain
from kernels.lenet import op as fused

FUNCTIONS = (
    "conv2d",
    "conv2d_relu",
    "conv2d_relu_pool2d",
    "max_pool2d",
    "avg_pool2d",
    "conv_transpose2d",
    "conv1d",
    "max_pool1d",
    "avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
)
LENET = ("padding", "pool", "activation", "arithmetic")
"""The options of the fused LeNet."""


@contextmanager
def listen(note: Callable[..., None]) -> Iterator[None]:
    """Calls of this package's functions by its layers go through `note` inside the block.

    The functions are exchanged by name where the layers call them, so that an ordinary call pays nothing, and a hook,
    which would keep layers from being fused, is not needed.
    """
    places = [(place, name) for place in (modules, chain) for name in FUNCTIONS if hasattr(place, name)]
    places += [(fused, "_run"), (fused, "_known_lenet")]  # what every call of the fused LeNet goes through
    before = [getattr(place, name) for place, name in places]

    def listener(called: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            result = called(*given, **options)
            variables = sys._getframe(1).f_locals
            layer = variables.get("self", variables.get("conv"))
            with _without(places, before):
                note(layer, called, given, options, result)
            return result

        return call

    def lenet(x: Tensor, labels: Tensor | None, parameters: Any, numbers: tuple[Any, ...]) -> Any:
        result = run(x, labels, parameters, numbers)
        layer = sys._getframe(2).f_locals.get("self")
        *named, output = numbers
        called = {"scores": fused.lenet, "prediction": fused.lenet_predict, "loss": fused.lenet_loss}[output]
        given = (x, parameters) if labels is None else (x, labels, parameters)
        with _without(places, before):
            note(layer, called, given, dict(zip(LENET, named, strict=True)), result)
        return result

    run = fused._run
    listeners = [*map(listener, before[:-2]), lenet, lambda *_: None]
    try:
        for (place, name), called in zip(places, listeners, strict=True):
            setattr(place, name, called)
        yield
    finally:
        for (place, name), called in zip(places, before, strict=True):
            setattr(place, name, called)


@contextmanager
def _without(places: Any, before: Any) -> Iterator[None]:
    """The functions themselves, while a call is looked at."""
    now = [getattr(place, name) for place, name in places]
    for (place, name), called in zip(places, before, strict=True):
        setattr(place, name, called)
    yield
    for (place, name), called in zip(places, now, strict=True):
        setattr(place, name, called)
