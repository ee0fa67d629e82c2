"""Single layers: torch's class -> this package's, and back, without touching what the layer holds."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from kernels import modules

_NAMES = (
    "Conv2d",
    "MaxPool2d",
    "AvgPool2d",
    "ConvTranspose2d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "Conv1d",
    "MaxPool1d",
    "AvgPool1d",
)
OURS: dict[type[nn.Module], type[nn.Module]] = {getattr(nn, name): getattr(modules, name) for name in _NAMES}
"""torch's layers that have a counterpart here."""
TORCHS: dict[type[nn.Module], type[nn.Module]] = {ours: torchs for torchs, ours in OURS.items()}


def bare_type(layer: nn.Module) -> type[nn.Module]:
    """The class of a layer, without the one that torch.nn.utils.parametrize puts in front of it."""
    cls: type[nn.Module] = parametrize.type_before_parametrizations(layer)
    return cls


def _parametrized(cls: type[nn.Module], base: type[nn.Module]) -> type[nn.Module]:
    """A class made by parametrize, on another base: its properties compute the parametrized tensors."""
    members = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return type(cls.__name__, (base,), members)


def change(layer: nn.Module, table: dict[type[nn.Module], type[nn.Module]]) -> bool:
    """Give the layer the class that the table names for its own; whether it names one.

    Parameters, hooks and flags live in the layer and stay as they are.
    """
    target = table.get(bare_type(layer))
    if target is None or "forward" in vars(layer):
        return False
    layer.__class__ = _parametrized(type(layer), target) if parametrize.is_parametrized(layer) else target
    return True


def why_left(layer: nn.Module) -> str | None:
    """Why `convert` leaves this layer alone, or None where it is none that convert looks for, or is converted."""
    cls = bare_type(layer)
    family = next((torchs for torchs in OURS if isinstance(layer, torchs)), None)
    if family is None or isinstance(layer, tuple(TORCHS)):
        return None
    if cls is not family:
        return f"{cls.__name__} is a subclass of {family.__name__}, whose forward may do something else"
    if "forward" in vars(layer):
        return "its forward is replaced on the instance"
    return "not converted yet"


def layers_of(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module of the model, once, with all the names it has; the root's is ''."""
    found: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        found.setdefault(module, []).append(name)
    return found


def untouched(layer: Any) -> bool:
    """Whether calling the layer is calling its class's forward and nothing else: no hook would be missed."""
    hooks = nn.modules.module
    return not (
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or "forward" in layer.__dict__
        or layer._compiled_call_impl is not None
        or hooks._global_forward_hooks
        or hooks._global_forward_pre_hooks
        or hooks._global_backward_hooks
        or hooks._global_backward_pre_hooks
    )
