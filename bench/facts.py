"""What a row must say about the machine and the code: device, driver, versions, commit, date."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cnn.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
# What CUDA reports from an error that no later call in the process recovers from.
FATAL = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "CUDA error",
)
PACKAGES = ("torch", "triton", "numpy", "onnxruntime", "flag_gems")


def device_of(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one. UserError for cuda without CUDA."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is unknown; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: torch finds no CUDA device; use --device cpu")
    return torch.device(name)


@cache
def device_name(kind: str) -> str:
    """The card's or the processor's own name."""
    if kind == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def slug(name: str) -> str:
    """A device's name as a folder's: lower case, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def results_folder(device: torch.device) -> Path:
    """Where the rows of this device live."""
    return RESULTS / slug(device_name(device.type))


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def commit() -> str:
    """The short commit, with "+" when tracked files differ from it; "unknown" outside a git checkout."""
    found = _output("git", "rev-parse", "--short=12", "HEAD")
    if not found:
        return "unknown"
    return found + (
        "+" if _output("git", "status", "--porcelain", "--untracked-files=no", "--", "kernels", "cnn") else ""
    )


@cache
def versions() -> dict[str, str]:
    """The versions of what takes part, of those installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def driver(kind: str) -> str:
    """The card's driver and CUDA version, or the operating system for a CPU."""
    if kind != "cuda":
        return f"{platform.system()} {platform.release()}"
    smi = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()
    cudnn: Any = torch.backends.cudnn
    return f"{smi[0] if smi else 'unknown'}, CUDA {torch.version.cuda}, cuDNN {cudnn.version()}"


def facts(device: torch.device, known_commit: str | None = None) -> dict[str, Any]:
    """The part of a row that is the same for every row of a run. known_commit: where there is no git checkout."""
    return {
        "device": device_name(device.type),
        "kind": device.type,
        "threads": torch.get_num_threads(),
        "driver": driver(device.type),
        "commit": known_commit or commit(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
