"""Stretches of a chain that keep their maps in channels_last, though they come and go in NCHW.

On the Triton path a convolution of many channels copies its map into channels_last and its result back. Between two of
them nobody sees the map, so that it need not go back and forth: a stretch copies where it begins and where it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kernels import modules
from kernels.backend import TRITON, path
from kernels.common.layout import is_channels_last
from kernels.conv2d.plans.few import PACKED_CHANNELS
from kernels.convert.layers import untouched

Step = Any


def is_wide(step: Step) -> bool:
    """A convolution that copies a map in NCHW."""
    return type(step) is modules.Conv2d and step.in_channels // step.groups >= PACKED_CHANNELS


def may_turn(x: Any) -> bool:
    """Whether a chain may change the memory format of this map: one in NCHW on its way to Triton kernels."""
    if not isinstance(x, Tensor) or x.dim() != 4 or not x.numel() or torch.compiler.is_compiling():
        return False
    return path(x) == TRITON and not torch._C._are_functorch_transforms_active() and not is_channels_last(x)


def end_of(steps: Sequence[Step], start: int, keeps: Callable[[Step], bool]) -> int:
    """One past the last step of the stretch that begins at steps[start]; `start` where it would save nothing.

    keeps: whether a step that is no convolution does the same to a map in any format. A stretch ends with its last wide
    convolution and what keeps the format after it. Filters in channels_last, which make a result so, have none.
    """
    wide, end, inside = 0, start, True
    for count, step in enumerate(steps[start:], start + 1):
        if isinstance(step, nn.Module) and not untouched(step):
            break
        if type(step) is modules.Conv2d:
            if is_channels_last(step.weight):
                return start
            inside = is_wide(step)
            wide += inside
        elif type(step) is not nn.BatchNorm2d and not keeps(step):
            break
        end = count if inside else end
    return end if wide > 1 else start
