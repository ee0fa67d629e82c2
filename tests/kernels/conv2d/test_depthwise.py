"""Depthwise convolutions: streamed rows in every pass, for every stride, and windows that one program cannot sum."""

from __future__ import annotations

import pytest
import torch

from kernels.common.device import Card, assume_card
from kernels.common.launch import record
from tests.kernels.paths import Path
from tests.kernels.problems import Problem, conv, judge, run

CASES = (
    conv("depthwise 3x3/2", (2, 5, 7, 10), (5, 1, 3, 3), groups=5, padding=1, stride=2),
    conv("depthwise 5x4/2x1", (1, 66, 3, 5), (66, 1, 5, 4), groups=66, padding=(2, 0), stride=(2, 1)),
    conv("depthwise 7x7", (1, 3, 6, 8), (3, 1, 7, 7), groups=3, padding=3),
    conv("depthwise 2x3/3x2: rows that no tap reaches", (1, 4, 9, 9), (4, 1, 2, 3), groups=4, stride=(3, 2)),
    conv("depthwise 1x1/4, padded beyond the kernel", (1, 2, 5, 7), (2, 1, 1, 1), groups=2, stride=4, padding=2),
)
STREAMED = {"depthwise_kernel", "depthwise_dgrad_kernel", "depthwise_wgrad_kernel"}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_streamed(triton: Path, case: Problem, dtype: torch.dtype, channels_last: bool) -> None:
    tensors = case.tensors(triton.device, dtype, channels_last, integers=True)
    judge(case, tensors, integers=True)
    with record() as launches:
        run(case.ours, [None if t is None else t.cpu() for t in tensors])
    assert {launch.kernel.__name__ for launch in launches} >= STREAMED


def test_a_large_window_in_float64(triton: Path) -> None:
    """Blocks are smaller where each element takes two registers."""
    judge(CASES[2], CASES[2].tensors(triton.device, torch.float64, True, integers=True), integers=True)


def test_on_a_card_without_tma(triton: Path) -> None:
    """Strided rows of large windows have narrower blocks there."""
    case = conv("depthwise 4x3/2", (1, 3, 5, 70), (3, 1, 4, 3), groups=3, stride=2)
    tensors = case.tensors(triton.device, torch.float16, False, integers=True)
    with assume_card(Card(100_000, False)):
        judge(case, tensors, integers=True)
        with record() as launches:
            run(case.ours, [None if t is None else t.cpu() for t in tensors])
    streamed = [launch for launch in launches if launch.kernel.__name__ == "depthwise_kernel"]
    assert [launch.arguments["BLOCK_Q"] for launch in streamed] == [32]
