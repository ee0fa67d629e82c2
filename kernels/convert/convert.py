"""convert and revert: a whole model to this package's layers, and back."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from kernels.convert.fold import fold_batch_norm as fold
from kernels.convert.fusing import fuse as fuse_chains
from kernels.convert.fusing import unfuse
from kernels.convert.layers import OURS, TORCHS, change, layers_of

M = TypeVar("M", bound=nn.Module)


def convert(model: M, *, fuse: bool = True, fold_batch_norm: bool = False, inplace: bool = False) -> M:
    """The model on this package's layers: a copy, or the model itself if `inplace`.

    Every layer whose class is exactly torch's Conv2d, MaxPool2d, AvgPool2d (or another that kernels.convert.layers
    lists) becomes this package's layer of the same name; subclasses of them are left alone. Parameters, hooks, buffers,
    flags, names and state_dict keys stay as they are, so that an optimizer made before goes on working.

    fuse: run Conv -> ReLU (-> Pool) as one kernel wherever nothing else sees what lies between: in nn.Sequential, and
    in the code of a forward, functional ReLU and pools included. What is fused is decided at each call, so that a hook
    added later, an exchanged layer or a slice of an nn.Sequential does what it would do in the model given. On a card
    several convolutions of many channels in a row keep the maps between them in channels_last, whatever the model's
    own format.
    fold_batch_norm: fold BatchNorm2d into the convolution before it by torch's fuse_conv_bn_eval. For inference:
    ValueError if the model is in training mode. The norm becomes nn.Identity, so that its state_dict keys are gone.

    `kernels.report(model)` lists what was done; `revert` undoes it. Converting twice is converting once.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert: expected a torch.nn.Module, got {type(model).__name__}")
    model = model if inplace else copy.deepcopy(model)
    for layer in layers_of(model):
        change(layer, OURS)
    if fold_batch_norm:
        fold(model)
    for module in layers_of(model):
        if fuse:
            fuse_chains(module)
        else:
            unfuse(module)
    return model


def revert(model: M, *, inplace: bool = False) -> M:
    """The model on torch's layers: the inverse of `convert`, but for batch norms that were folded away."""
    model = model if inplace else copy.deepcopy(model)
    for module in layers_of(model):
        unfuse(module)
        change(module, TORCHS)
    return model
