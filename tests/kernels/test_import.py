"""What `import kernels` needs, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(script: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """The script in a fresh process that imports from this checkout."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, *paths)))
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)


def test_without_triton_the_package_imports_and_runs_on_the_cpu() -> None:
    script = """
import sys
sys.modules["triton"] = None
import torch, kernels
x, w = torch.randn(1, 1, 8, 8, requires_grad=True), torch.randn(2, 1, 3, 3)
y = kernels.conv2d_relu_pool2d(x, w)
y.sum().backward()
layer = kernels.ConvReLUPool2d(1, 2, 3)
assert layer(x).shape == (1, 2, 3, 3)
try:
    with kernels.backend("triton"):
        kernels.conv2d(x, w)
except NotImplementedError as error:
    print(error)
"""
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert "triton is not installed" in done.stdout


def test_a_cpu_call_does_not_load_triton() -> None:
    script = """
import sys, torch, kernels
kernels.conv2d(torch.randn(1, 1, 8, 8), torch.randn(2, 1, 3, 3))
print("triton" in sys.modules and hasattr(sys.modules["triton"], "jit"), "kernels.conv2d.gather.fprop" in sys.modules)
"""
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "False"


def test_the_namesake_is_warned_of_once(tmp_path: Path) -> None:
    info = tmp_path / "kernels-0.9.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.9.0\n")
    done = run("import kernels, kernels.modules", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is installed beside triton-cnn") == 1
    assert "kernels 0.9.0" in done.stderr
    assert "installed beside" not in run("import kernels").stderr
