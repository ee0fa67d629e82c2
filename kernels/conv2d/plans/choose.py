"""The plan of a call: what a test or the tuner forces, else the card's measured table, else the rule."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from kernels.common.device import H100, Card
from kernels.common.precision import precision_of
from kernels.common.signature import apart
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.cost import work_of
from kernels.conv2d.plans.plan import Plan, rule, shipped
from kernels.conv2d.plans.tiles import Tile, stage_bytes
from kernels.tuned.bucket import Bucket
from kernels.tuned.table import Table, table_of

_forced: dict[str, Plan] = {}


@contextmanager
def force_plan(which: str, chosen: Plan) -> Iterator[None]:
    """Run pass `which` with this plan inside the block, whatever the geometry (tests, tuning)."""
    before = _forced.get(which)
    _forced[which] = chosen
    try:
        with apart((which, chosen)):
            yield
    finally:
        _forced.pop(which)
        if before is not None:
            _forced[which] = before


def plan(which: str, g: Conv2dGeometry, itemsize: int, card: Card = H100) -> Plan:
    """The plan of one pass of one problem with elements of `itemsize` bytes on `card`."""
    if _forced:
        return _forced.get(which) or rule(which, g, itemsize, card)
    table = table_of(card.name) if card.name else None
    found = None if table is None else _measured(table, which, g, itemsize, precision_of(itemsize), card)
    return found or rule(which, g, itemsize, card)


@lru_cache(maxsize=4096)
def _measured(table: Table, which: str, g: Conv2dGeometry, itemsize: int, precision: str, card: Card) -> Plan | None:
    """The plan that the card's table has for this bucket or, of the same algorithm, for the nearest one; None where
    neither is legal here."""
    usual = rule(which, g, itemsize, card)
    for fields, exact in table.plans(Bucket.of(which, g, precision)):
        chosen = plan_of(fields)
        if chosen is None or not is_legal(chosen, which, g, itemsize, card):
            continue
        if exact:
            return replace(chosen, splits=max(1, min(chosen.splits, _most_splits(chosen, which, g, itemsize, card))))
        if chosen.algorithm == usual.algorithm and chosen.tile is not None:
            forced = rule(which, g, itemsize, card, chosen.tile)
            return forced if chosen.algorithm == "gemm" else replace(usual, tile=chosen.tile)
    return None


def plan_of(fields: dict[str, Any]) -> Plan | None:
    """The plan with these fields, as `dataclasses.asdict` gives them; a RuntimeWarning and None where no plan has."""
    try:
        tile = fields.get("tile")
        found = Plan(**{**fields, "tile": None if tile is None else Tile(**{k: int(v) for k, v in tile.items()})})
        return replace(found, splits=int(found.splits))
    except (AttributeError, TypeError, ValueError) as error:
        warnings.warn(f"{fields} in a measured table is no plan ({error}); tune again", RuntimeWarning, stacklevel=2)
        return None


def is_legal(chosen: Plan, which: str, g: Conv2dGeometry, itemsize: int, card: Card) -> bool:
    """Whether a plan, its warps, stages and parts aside, is one that can ship for this problem."""
    tile = chosen.tile
    if tile is not None:
        size = stage_bytes(which, tile.block_m, tile.block_n, tile.block_k, itemsize)
        if tile.num_warps not in (2, 4, 8, 16) or not 0 < tile.num_stages * size <= card.shared:
            return False
    return _essence(chosen) in {_essence(p) for p in shipped(which, g, itemsize, card)}


def _essence(p: Plan) -> tuple[Any, ...]:
    """What of a plan decides whether it is correct."""
    return p.algorithm, p.packed, p.tf32x3, p.tile and (p.tile.block_m, p.tile.block_n, p.tile.block_k)


def _most_splits(chosen: Plan, which: str, g: Conv2dGeometry, itemsize: int, card: Card) -> int:
    """Into how many parts the sum of a pass can be cut at most."""
    if chosen.tile is None:
        return max(1, g.n * g.p * g.q // 512)
    tile = chosen.tile
    work = work_of(chosen.algorithm, which, g, itemsize, card, chosen.packed, tile.block_m)
    return max(work.parts(tile.block_m, tile.block_n, tile.block_k))
