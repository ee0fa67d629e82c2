"""What the gather promises Triton of steps and masks, so that channels are moved in chunks, must be true: a card then
reads and writes whole chunks, which the interpreter never does."""

import pytest
import torch

import kernels
from kernels.common.launch import Launch, record

FLOATS = (torch.float16, torch.float32)
CASES = {
    "nine outputs in each of two groups": ((2, 132, 3, 4), (18, 66, 2, 2), 2),
    "odd input channels": ((2, 35, 5, 5), (64, 35, 2, 2), 1),
    "odd channels and one pixel": ((1, 64, 2, 2), (35, 64, 2, 2), 1),
    "even channels": ((2, 64, 5, 5), (96, 64, 2, 2), 1),
}


def launches(case: str, dtype: torch.dtype, pool: bool) -> list[Launch]:
    x, w, groups = CASES[case]
    last = {"dtype": dtype, "memory_format": torch.channels_last, "requires_grad": True}
    function = kernels.conv2d_relu_pool2d if pool else kernels.conv2d
    with kernels.backend("triton"), record() as found:
        y = function(torch.empty(x, **last), torch.empty(w, **last), groups=groups)
        y.backward(torch.empty_like(y))
    return [launch for launch in found if "CHUNK" in launch.arguments]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("case", [*CASES, *(f"pooled: {case}" for case in CASES if "one pixel" not in case)])
def test_chunks_divide_the_channels_that_a_program_may_touch(case: str, dtype: torch.dtype) -> None:
    pool, case = case.startswith("pooled"), case.removeprefix("pooled: ")
    seen = set()
    for launch in launches(case, dtype, pool):
        a = launch.arguments
        seen.add(launch.kernel.__name__)
        if "CHUNK_Y" in a:
            assert a["k"] % a["CHUNK_Y"] == 0
        elif "CHUNK_X" in a:
            assert a["c"] % a["CHUNK_X"] == 0
        else:
            assert a["k"] % a["CHUNK"] == 0
    assert {"dgrad_kernel", "wgrad_kernel"} <= seen


def test_even_channels_are_moved_sixteen_bytes_at_a_time() -> None:
    for launch in launches("even channels", torch.float16, False):
        assert {launch.arguments[name] for name in ("CHUNK", "CHUNK_Y", "CHUNK_X") if name in launch.arguments} == {16}


@pytest.mark.parametrize("wide", [35, 40])
def test_filters_that_are_part_of_wider_ones(wide: int) -> None:
    """Their steps are 64, but the columns beyond theirs are not theirs to read."""
    w = torch.empty(64, 64, 3, 3, dtype=torch.half, memory_format=torch.channels_last)[:, :wide].requires_grad_()
    x = torch.empty(2, wide, 6, 6, dtype=torch.half, memory_format=torch.channels_last, requires_grad=True)
    with kernels.backend("triton"), record() as found:
        y = kernels.conv2d(x, w)
        y.backward(torch.empty_like(y))
    chunks = [launch.arguments["CHUNK_X"] for launch in found if "CHUNK_X" in launch.arguments]
    assert chunks and all(wide % chunk == 0 for chunk in chunks)
