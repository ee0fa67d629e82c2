"""Registers that a launch names for a program that would keep values on the stack."""

from __future__ import annotations

import pytest

from kernels.common.registers import FILE, MOST, Options, counts, settle

EVERY = [(None, 2), (80, 2), (128, 2), (72, 2), (64, 2), (None, 3), (80, 3), (None, 1), (None, 20)]
"""What is made of a program of 80 registers, two stages and eight warps: (registers named, stages, times ten with four
warps)."""


@pytest.mark.parametrize(
    ("registers", "num_warps", "named"),
    [
        (77, 4, [80, 96, 128, 72, 64]),
        (64, 4, [64, 72, 80, 56, 48]),
        (112, 4, [112, 128, 168, 104, 96]),
        (80, 8, [80, 128, 72, 64]),
        (96, 8, [96, 128, 88, 80]),
        (128, 8, [128, 120, 112]),
        (250, 4, [MOST, 248, 240]),
        (255, 8, [MOST, 248, 240]),
        (128, 16, [128, 120, 112]),
    ],
)
def test_a_program_is_given_what_it_took_then_what_fewer_programs_leave(
    registers: int, num_warps: int, named: list[int]
) -> None:
    """Of no more than a third fewer; each count is the most with which as many programs fit. Then a few less."""
    assert counts(registers, num_warps) == named
    resident = [FILE // (32 * num_warps * -(-n // 8) * 8) for n in named]
    assert min(resident) >= 2 / 3 * resident[0], resident


class Compiler:
    """Keeps `stack[maxnreg, stages]` on the stack, and 8 bytes otherwise; refuses what is None there."""

    def __init__(self, stack: dict[tuple[int | None, int], int | None]) -> None:
        self.stack = stack
        self.made: list[tuple[int | None, int]] = []

    def settle(self, **options: int) -> tuple[Options, object]:
        given = {"num_warps": 8, "num_stages": 2, **options}
        return settle(given, self.make, lambda made: (80, self.stack.get(made, 8) or 0))

    def make(self, options: Options) -> tuple[int | None, int]:
        self.made.append((options.get("maxnreg"), options["num_stages"] * (1 if options["num_warps"] == 8 else 10)))
        if self.stack.get(self.made[-1], 8) is None:
            raise RuntimeError("ptxas refuses")
        return self.made[-1]


def test_registers_are_named_only_for_a_program_with_a_stack() -> None:
    clean = Compiler({(None, 2): 0})
    assert clean.settle() == ({"num_warps": 8, "num_stages": 2}, (None, 2))
    assert clean.made == [(None, 2)]


def test_the_first_count_without_a_stack_is_taken() -> None:
    second = Compiler({(80, 2): 16, (128, 2): 0})
    assert second.settle() == ({"num_warps": 8, "num_stages": 2, "maxnreg": 128}, (128, 2))
    assert second.made == [(None, 2), (80, 2), (128, 2)]


def test_another_stage_is_tried_after_the_counts() -> None:
    deeper = Compiler({(80, 3): 0})
    assert deeper.settle() == ({"num_warps": 8, "num_stages": 3, "maxnreg": 80}, (80, 3))
    assert deeper.made == EVERY[:-2]


def test_fewer_stages_are_tried_then() -> None:
    single = Compiler({(None, 1): 0})
    assert single.settle() == ({"num_warps": 8, "num_stages": 1}, (None, 1))
    assert single.made == EVERY[:-1]
    fewer = Compiler({(None, 1): 0, (None, 2): 0})
    assert fewer.settle(num_stages=4) == ({"num_warps": 8, "num_stages": 2}, (None, 2))
    assert fewer.made[-3:] == [(80, 5), (None, 3), (None, 2)]


def test_a_program_without_copies_ahead_is_not_made_again_as_it_was() -> None:
    single = Compiler({})
    assert single.settle(num_stages=1) == ({"num_warps": 8, "num_stages": 1}, (None, 1))
    assert single.made == [(None, 1), (80, 1), (128, 1), (72, 1), (64, 1), (None, 2), (80, 2), (None, 10)]


def test_half_of_eight_warps_are_tried_last() -> None:
    four = Compiler({(None, 20): 0})
    assert four.settle() == ({"num_warps": 4, "num_stages": 2}, (None, 20))
    assert four.made == EVERY


@pytest.mark.parametrize("refused", [{}, dict.fromkeys([(80, 2), (64, 2), (None, 3), (80, 3)])])
def test_a_program_stays_as_it_was_where_nothing_helps(refused: dict[tuple[int | None, int], None]) -> None:
    none = Compiler({**refused})
    assert none.settle() == ({"num_warps": 8, "num_stages": 2}, (None, 2))
    assert none.made == EVERY


def test_what_a_launch_names_itself_is_tried_first() -> None:
    given = Compiler({(64, 2): 0})
    assert given.settle(maxnreg=64) == ({"num_warps": 8, "num_stages": 2, "maxnreg": 64}, (64, 2))
    assert given.made == [(64, 2)]


def test_what_a_launch_names_itself_is_dropped_where_it_does_not_help() -> None:
    other = Compiler({(80, 2): 0})
    assert other.settle(maxnreg=64) == ({"num_warps": 8, "num_stages": 2, "maxnreg": 80}, (80, 2))
    none = Compiler({})
    assert none.settle(maxnreg=255) == ({"num_warps": 8, "num_stages": 2, "maxnreg": 255}, (255, 2))
    assert none.made == [(255, 2), *EVERY]
