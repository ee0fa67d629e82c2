"""What we care about in the source, as tests: the direction of imports, masked loads, lengths, what is not named."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("kernels", "cnn", "bench", "tests")
FILE_LINES, HOST_LINES, KERNEL_LINES = 300, 40, 100
WHOLE_NETWORK = "kernels/lenet/forward.py", "forward_kernel"
"""Five layers in one kernel: its length is its point."""


def _tracked() -> list[Path]:
    """The project's Python files; untracked ones count as well, ignored ones do not."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:  # an unpacked archive
        return sorted(p for top in LAYERS for p in (ROOT / top).rglob("*.py"))
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()]


FILES = _tracked()
PACKAGES = {top: [f for f in FILES if f.is_relative_to(ROOT / top)] for top in LAYERS}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("top", LAYERS)
def test_imports_go_one_way(top: str) -> None:
    """tests -> bench -> cnn -> kernels."""
    above = LAYERS[LAYERS.index(top) + 1 :]
    wrong = [
        f"{_name(file)} imports {module}"
        for file in PACKAGES[top]
        for module in _imported(ast.parse(file.read_text()))
        if module.split(".")[0] in above
    ]
    assert not wrong, "\n".join(wrong)


def test_folders_of_kernels_import_one_way() -> None:
    """No two folders need each other; a `geometry`, the checked problem, is everybody's."""
    needs: dict[str, set[str]] = {}
    for file in PACKAGES["kernels"]:
        parts = file.relative_to(ROOT / "kernels").parts
        if len(parts) > 1:
            modules = (module.split(".") for module in _imported(ast.parse(file.read_text())))
            found = {m[1] for m in modules if m[0] == "kernels" and len(m) > 2 and m[2] != "geometry"}
            needs.setdefault(parts[0], set()).update(found - {parts[0]})
    assert len(needs) > 8
    TopologicalSorter(needs).prepare()  # CycleError names the folders


def test_torchvision_is_never_needed() -> None:
    files = [f for top in ("kernels", "cnn", "bench") for f in PACKAGES[top]]
    assert not [
        _name(f) for f in files if "torchvision" in {m.split(".")[0] for m in _imported(ast.parse(f.read_text()))}
    ]


def _calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "tl":
                yield node


def test_every_masked_load_names_other() -> None:
    """Without it the interpreter gives zeros and a card whatever it likes."""
    wrong = []
    found = 0
    for file in PACKAGES["kernels"]:
        for call in _calls(ast.parse(file.read_text()), "load"):
            names = {k.arg for k in call.keywords}
            found += "mask" in names
            if "mask" in names and "other" not in names:
                wrong.append(f"{_name(file)}:{call.lineno}")
    assert found > 10
    assert not wrong, wrong


def test_every_dot_states_its_precision() -> None:
    """Triton's default moves from release to release."""
    wrong = []
    for file in PACKAGES["kernels"]:
        for call in _calls(ast.parse(file.read_text()), "dot"):
            if "input_precision" not in {k.arg for k in call.keywords}:
                wrong.append(f"{_name(file)}:{call.lineno}")
    assert not wrong, wrong


def _is_kernel(function: ast.FunctionDef) -> bool:
    return any("jit" in ast.unparse(d) for d in function.decorator_list)


def _code_lines(function: ast.FunctionDef, lines: list[str]) -> int:
    """Lines of code in the body, without signature, docstring, comments and blank lines."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    inside = (line.strip() for line in lines[body[0].lineno - 1 : function.end_lineno])
    return sum(bool(line) and not line.startswith("#") for line in inside)


def test_files_have_one_job() -> None:
    long = [f"{_name(f)}: {n} lines" for f in FILES if (n := len(f.read_text().splitlines())) > FILE_LINES]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("top", ["kernels", "cnn", "bench"])
def test_functions_are_short(top: str) -> None:
    """A call with one argument a line counts as its lines: launches by keyword have their own room."""
    long = []
    for file in PACKAGES[top]:
        text = file.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                limit = KERNEL_LINES if _is_kernel(node) else HOST_LINES
                lines = _code_lines(node, text.splitlines())
                if (_name(file), node.name) == WHOLE_NETWORK:
                    continue
                if lines > limit and not any(isinstance(n, ast.Call) and len(n.keywords) > 8 for n in ast.walk(node)):
                    long.append(f"{_name(file)}:{node.lineno} {node.name}: {lines} lines")
    assert not long, "\n".join(long)


def test_the_product_names_nothing_of_a_workplace() -> None:
    """Absolute paths of one machine, and data that is not ours to give."""
    patterns = [r"['\" ]/work/", r"\.\./shared", r"/tmp/[a-z]", r"/home/\w", r"/root/"]
    this = Path(__file__)
    wrong = [f"{_name(f)}: {p}" for f in FILES if f != this for p in patterns if re.search(p, f.read_text())]
    assert not wrong, "\n".join(wrong)


def test_no_data_set_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert not [name for name in listed if "ubyte" in name or name.endswith((".gz", ".pt", ".npz"))]


def test_no_environment_variable_is_read_inside_a_call() -> None:
    """A kernel package reads its switches once, where a reader finds them."""
    wrong = []
    for file in PACKAGES["kernels"]:
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef) and "os.environ" in ast.unparse(function):
                wrong.append(f"{_name(file)}:{function.lineno} {function.name}")
    assert not wrong, wrong
