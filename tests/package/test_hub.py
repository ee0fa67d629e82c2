"""The folder for the Hugging Face Hub: imports, operators' names and layers as its rules ask, and it runs."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"torch", "triton", *sys.stdlib_module_names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("hub") / "hub"
    subprocess.run([sys.executable, str(ROOT / "tools" / "make_hub.py"), str(target)], check=True, capture_output=True)
    return target


def load(place: Path, name: str) -> ModuleType:
    """As the Hub's loader does: from a path, under a name that nobody else has."""
    spec = importlib.util.spec_from_file_location(name, place / "__init__.py", submodule_search_locations=[str(place)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_layout(folder: Path) -> None:
    variants = sorted(p.name for p in (folder / "build").iterdir())
    assert variants == ["torch-cpu", "torch-cuda", "torch-rocm"]
    assert (folder / "build.toml").exists() and (folder / "torch-ext" / "triton_cnn" / "__init__.py").exists()
    ids = {json.loads(path.read_text())["id"] for path in folder.glob("build/*/metadata.json")}
    assert len(ids) == 3 and all(re.fullmatch(r"triton_cnn_[a-z]+_[0-9a-f]{10}", name) for name in ids)
    assert not list(folder.rglob("*.so")) and not list(folder.rglob("*.cpp"))


def test_only_torch_triton_the_standard_library_and_relative_imports(folder: Path) -> None:
    for path in (folder / "build" / "torch-cuda").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert {name.split(".")[0] for name in names} <= ALLOWED, f"{path}: {names}"


def test_layers_are_pure(folder: Path) -> None:
    tree = ast.parse((folder / "build" / "torch-cuda" / "layers.py").read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert [c.name for c in classes] == ["Conv2d", "MaxPool2d", "AvgPool2d"]
    for cls in classes:
        methods = [n.name for n in cls.body if isinstance(n, ast.FunctionDef)]
        values = [n.target for n in cls.body if isinstance(n, ast.AnnAssign) and n.value is not None]
        assert methods == ["forward"]
        assert [v.id for v in values if isinstance(v, ast.Name)] == ["has_backward", "can_torch_compile"]


@pytest.mark.parametrize("backend", ["auto", "triton"])
def test_it_runs_beside_the_installed_package(folder: Path, backend: str) -> None:
    import kernels

    hub: Any = sys.modules.get("triton_cnn_from_a_path") or load(
        folder / "build" / "torch-cpu", "triton_cnn_from_a_path"
    )
    assert hub.conv2d is not kernels.conv2d
    for layer, shape in (
        (nn.Conv2d(2, 3, 3), (1, 2, 6, 6)),
        (nn.MaxPool2d(2), (1, 2, 6, 6)),
        (nn.AvgPool2d(2), (1, 2, 6, 6)),
    ):
        x = torch.randn(shape)
        want = layer(x)
        forward = getattr(hub.layers, type(layer).__name__).forward
        with hub.backend(backend):
            torch.testing.assert_close(forward(layer, x), want)
            compiled = torch.compile(lambda t, f=forward, m=layer: f(m, t), backend="aot_eager", fullgraph=True)
            torch.testing.assert_close(compiled(x), want)
    torch._dynamo.reset()
    names = {name.split("::")[0] for name in torch._C._dispatch_get_all_op_names() if name.startswith("triton_cnn")}
    assert len(names) == 2
