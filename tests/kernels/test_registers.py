"""Registers that a launch names for a program that would keep values on the stack."""

from __future__ import annotations

import pytest

from kernels.common.registers import FILE, MOST, Options, counts, settle


@pytest.mark.parametrize(
    ("registers", "num_warps", "named"),
    [
        (77, 4, [80, 96, 128]),
        (64, 4, [64, 72, 80]),
        (112, 4, [112, 128, 168]),
        (80, 8, [80, 128]),
        (96, 8, [96, 128]),
        (128, 8, [128]),
        (250, 4, [MOST]),
        (255, 8, [MOST]),
        (128, 16, [128]),
    ],
)
def test_a_program_is_given_what_it_took_then_what_fewer_programs_leave(
    registers: int, num_warps: int, named: list[int]
) -> None:
    """Of no more than a third fewer; each count is the most with which as many programs fit."""
    assert counts(registers, num_warps) == named
    resident = [FILE // (32 * num_warps * -(-n // 8) * 8) for n in named]
    assert resident[-1] >= 2 / 3 * resident[0], resident


class Compiler:
    """Keeps `stack[maxnreg]` on the stack (None: where no registers are named)."""

    def __init__(self, stack: dict[int | None, int]) -> None:
        self.stack = stack
        self.made: list[int | None] = []

    def settle(self, **options: int) -> tuple[Options, int | None]:
        return settle({"num_warps": 8, **options}, self.make, lambda made: (80, self.stack[made]))

    def make(self, options: Options) -> int | None:
        self.made.append(options.get("maxnreg"))
        return self.made[-1]


def test_registers_are_named_only_for_a_program_with_a_stack() -> None:
    clean = Compiler({None: 0})
    assert clean.settle() == ({"num_warps": 8}, None)
    assert clean.made == [None]


def test_the_first_count_without_a_stack_is_taken() -> None:
    second = Compiler({None: 8, 80: 16, 128: 0})
    assert second.settle() == ({"num_warps": 8, "maxnreg": 128}, 128)
    assert second.made == [None, 80, 128]


def test_a_program_stays_as_it_was_where_no_count_helps() -> None:
    none = Compiler({None: 8, 80: 16, 128: 16})
    assert none.settle() == ({"num_warps": 8}, None)
    assert none.made == [None, 80, 128]


def test_what_a_launch_names_itself_stays() -> None:
    given = Compiler({64: 8})
    assert given.settle(maxnreg=64) == ({"num_warps": 8, "maxnreg": 64}, 64)
    assert given.made == [64]
