"""Errors of this package and of torch against float64, dtype by dtype: python -m tests.conformance.accuracy."""

from __future__ import annotations

import torch

from tests.compare import error
from tests.kernels.paths import CPU_PATH, TRITON_PATH, Path, overflow_checks, why_no_triton
from tests.kernels.problems import DTYPES, Problem, conv, make, run

PROBLEMS = (
    conv("3x3 of 40 channels", (2, 40, 12, 12), (24, 40, 3, 3), padding=1),
    conv("with ReLU and pool", (2, 40, 12, 12), (24, 40, 3, 3), padding=1, function="conv2d_relu_pool2d"),
)


def errors(problem: Problem, path: Path, dtype: torch.dtype) -> list[tuple[float, float]]:
    """(ours, torch's) largest error over the largest value, of the result and the gradients of input and weight."""
    torch.manual_seed(0)
    tensors = problem.tensors(path.device, dtype)
    dy = make(problem.torchs(*tensors).shape, path.device, dtype)
    with path.enter(), overflow_checks(False):
        ours = run(problem.ours, tensors, dy)
    torchs = run(problem.torchs, tensors, dy)
    exact = run(problem.reference, [None if t is None else t.double().cpu() for t in tensors], dy.double().cpu())
    return [
        (error(a, c) / float(c.abs().max()), error(b, c) / float(c.abs().max()))
        for a, b, c in zip(ours[:3], torchs[:3], exact[:3], strict=True)
    ]


def main() -> None:
    """The table, in Markdown. float32 is IEEE: TF32 is off."""
    torch.backends.cudnn.allow_tf32 = False
    heads = ("problem", "path", "dtype", "result: ours, torch's", "input gradient", "weight gradient")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for path in (TRITON_PATH, CPU_PATH):
        if path is TRITON_PATH and why_no_triton():
            continue
        for problem in PROBLEMS:
            for dtype in DTYPES:
                cells = [f"{ours:.1e}, {torchs:.1e}" for ours, torchs in errors(problem, path, dtype)]
                print(f"| {problem} | {path} | {str(dtype)[6:]} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
