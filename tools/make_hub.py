"""Write the kernels as a folder for the Hugging Face Hub: `python tools/make_hub.py [FOLDER]`, by default build/hub.

A Python-only ("noarch") kernel: build/torch-<backend> holds the package, whose imports are relative and whose operators
have a namespace of their own, so that several versions can live in one process. torch-ext and build.toml are what the
Hub's own builder reads. Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "kernels"
LAYERS = Path(__file__).with_name("hub_layers.py")
NAME = "triton_cnn"
BACKENDS = ("cuda", "rocm", "cpu")
IMPORT = re.compile(r"^(\s*)from kernels((?:\.\w+)*) import ", re.MULTILINE)
NAMESPACE = re.compile(r'^NAMESPACE = "triton_cnn"$', re.MULTILINE)
BUILD = """[general]
name = "{name}"
version = {major}
edition = 5
license = "Apache-2.0"
backends = ["cuda", "rocm", "cpu"]

[torch-noarch]
pyext = ["py", "json"]
"""
CARD = """---
library_name: kernels
license: apache-2.0
---

# triton-cnn {version}

Convolution and pooling in Triton with torch's signatures and gradients: `conv2d`, `conv2d_relu`, `conv2d_relu_pool2d`,
`max_pool2d`, `avg_pool2d` and others; `layers.Conv2d`, `layers.MaxPool2d`, `layers.AvgPool2d`.
"""


def texts() -> dict[Path, str]:
    """The package's files by their path inside it, imports made relative."""
    found = {}
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.json")]):
        inside = path.relative_to(PACKAGE)
        text = path.read_text()
        found[inside] = relative(text, len(inside.parts)) if path.suffix == ".py" else text
    found[Path("layers.py")] = LAYERS.read_text()
    start = found[Path("__init__.py")]
    found[Path("__init__.py")] = start.replace(
        "\n\n__all__ = [", '\nfrom . import layers\n\n__all__ = [\n    "layers",', 1
    )
    return found


def relative(text: str, depth: int) -> str:
    """`from kernels.a import b` as a file `depth` folders below the package's parent must write it."""

    def write(match: re.Match[str]) -> str:
        return f"{match[1]}from {'.' * depth}{match[2].removeprefix('.')} import "

    return IMPORT.sub(write, text)


def metadata(backend: str, version: str, digest: str) -> str:
    """What the Hub's loader reads first: the kernel's name, and the module name under which it is loaded."""
    about = {
        "name": NAME.replace("_", "-"),
        "id": f"{NAME}_{backend}_{digest}",
        "version": int(version.split(".")[0]),
        "license": "Apache-2.0",
        "python-depends": [],
        "backend": {"type": backend},
    }
    return json.dumps(about, indent=1)


def make(folder: Path) -> Path:
    """Write the folder anew; returns it."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    files = texts()
    digest = hashlib.sha1("".join(f"{path}\n{text}" for path, text in files.items()).encode()).hexdigest()[:10]
    registration = Path("common/registration.py")
    files[registration], count = NAMESPACE.subn(f'NAMESPACE = "{NAME}_{digest}"', files[registration])
    assert count == 1, "the operators' namespace is not where it was"
    shutil.rmtree(folder, ignore_errors=True)
    places = [folder / "build" / f"torch-{backend}" for backend in BACKENDS] + [folder / "torch-ext" / NAME]
    for place in places:
        for path, text in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text)
    for backend in BACKENDS:
        (folder / "build" / f"torch-{backend}" / "metadata.json").write_text(metadata(backend, version[1], digest))
    (folder / "build.toml").write_text(BUILD.format(name=NAME.replace("_", "-"), major=version[1].split(".")[0]))
    (folder / "README.md").write_text(CARD.format(version=version[1]))
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")
    return folder


def main() -> None:
    """Write the folder and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "hub")
    print(make(parser.parse_args().folder))


if __name__ == "__main__":
    main()
