"""What this process and its devices can do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch

from kernels.common.signature import apart

INTERPRET = os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")
"""Whether Triton's interpreter runs the kernels (read once: Triton decides when a kernel is decorated)."""


@dataclass(frozen=True)
class Card:
    """What a plan must know of a card: bytes of shared memory a program may take, and whether it has TMA and wgmma.

    name: the card's own, under which its measured table is kept; empty where no table may speak.
    tcgen05: whether products go through tensor memory instead of wgmma. fast_tf32: whether three TF32 products take
    less than one of float32. tf32x3: whether the plan at hand multiplies so. fma: whether it does by
    multiply-adds of float32.
    """

    shared: int
    tma: bool
    name: str = ""
    tcgen05: bool = False
    fast_tf32: bool = False
    tf32x3: bool = False
    fma: bool = False


PROGRAMS = 264
"""Programs that fill a large card twice (2 x 132 multiprocessors): the aim when work is cut finer."""
MAXNREG = 255
"""All the registers that a thread of up to eight warps can have, for launches that would else use the stack."""
H100 = Card(232_448, True, fast_tf32=True)
"""Where no card says otherwise (the interpreter, recorded launches), plans are those of an H100."""

HAS_DESCRIPTORS = find_spec("triton.tools.tensor_descriptor") is not None if find_spec("triton") else False
"""Host-side TMA descriptors came with Triton 3.4."""

_assumed: Card | None = None
_cpu_is_card = False


@contextmanager
def assume_card(card: Card) -> Iterator[None]:
    """Plan as for `card` inside the block (inspection without that card)."""
    global _assumed
    before, _assumed = _assumed, card
    try:
        with apart(card):
            yield
    finally:
        _assumed = before


@contextmanager
def cpu_as_card() -> Iterator[None]:
    """Launch on CPU tensors inside the block as if on a card: for a Triton driver that runs nothing (measuring)."""
    global _cpu_is_card
    before, _cpu_is_card = _cpu_is_card, True
    try:
        yield
    finally:
        _cpu_is_card = before


def runs_programs(device: torch.device) -> bool:
    """Whether Triton programs can run on tensors of `device`."""
    return device.type == "cuda" or INTERPRET or _cpu_is_card


def card_of(device: torch.device) -> Card:
    """The card that runs programs on `device`."""
    if _assumed is not None:
        return _assumed
    return _cuda_card(device.index or 0) if device.type == "cuda" and not INTERPRET else H100


@cache
def _cuda_card(index: int) -> Card:
    properties = torch.cuda.get_device_properties(index)
    shared = int(getattr(properties, "shared_memory_per_block_optin", 0) or properties.shared_memory_per_block)
    # Compute capability 12 has TMA but neither wgmma nor tcgen05: the gather serves it better.
    tma = torch.version.hip is None and properties.major in (9, 10) and HAS_DESCRIPTORS
    # GeForce and workstation cards have tensor cores of one fourth: TF32 is no faster there than float32.
    fast = torch.version.hip is None and (properties.major, properties.minor) in ((8, 0), (9, 0), (10, 0), (10, 3))
    return Card(shared, tma, properties.name, tma and properties.major == 10, fast)
