"""Two checkouts timed in turns by the same bench code, and the decision whether they differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.ratio import Ratio, ratio
from cnn.errors import UserError


class Peer:
    """One checkout's worker process."""

    def __init__(self, root: Path, device: str, threads: int) -> None:
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", device, str(threads)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The worker's answer; RuntimeError when the process is gone."""
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the process that times {self.root} ended with code {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def compare(
    old: Path,
    new: Path,
    cases: Sequence[Case],
    layouts: Sequence[str],
    device: str,
    threads: int,
    rounds: int,
    processes: int,
) -> Iterator[tuple[str, Ratio | str]]:
    """(case/layout, its change or why there is none), from `processes` pairs of fresh processes with `rounds` each."""
    wanted = [(case.name, layout) for case in cases for layout in layouts]
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in wanted}
    errors: dict[tuple[str, str], str] = {}
    for _ in range(processes):
        with ExitStack() as stack:
            peers = [Peer(root, device, threads) for root in (old, new)]
            for peer in peers:
                stack.callback(peer.close)
            for key in wanted:
                if key not in errors:
                    found = in_turns(peers, *key, rounds)
                    if isinstance(found, str):
                        errors[key] = found
                    else:
                        pairs[key] += found
    for name, layout in wanted:
        key = (name, layout)
        yield f"{name}/{layout}", errors[key] if key in errors else ratio(pairs[key])


def in_turns(peers: Sequence[Peer], case: str, layout: str, rounds: int) -> list[tuple[float, float]] | str:
    """(old, new) seconds of each round, the first of a round changing every time; the reason when one cannot run."""
    for name, peer in zip(("base", "this checkout"), peers, strict=True):
        answer = peer.ask(case=case, layout=layout)
        if "error" in answer:
            return f"{name}: {answer['error']}"
    calls = max(peer.ask(calls=0).get("calls", 1) for peer in peers)
    pairs = []
    for i in range(rounds):
        order = (0, 1) if i % 2 == 0 else (1, 0)
        seconds = {j: peers[j].ask(calls=calls) for j in order}
        for j in order:
            if "error" in seconds[j]:
                return str(seconds[j]["error"])
        pairs.append((float(seconds[0]["seconds"]), float(seconds[1]["seconds"])))
    return pairs


@contextmanager
def checkout(base: str, repository: Path, folder: Path) -> Iterator[Path]:
    """A worktree of the commit `base`, removed afterwards; UserError when git does not know it."""
    git = ["git", "-C", str(repository)]
    tree = folder / "tree"
    done = subprocess.run([*git, "worktree", "add", "--detach", str(tree), base], capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"compare: git has no commit {base!r}: {done.stderr.strip().splitlines()[-1]}")
    try:
        build_extension(repository, tree)
        yield tree
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(tree)], capture_output=True, check=False)


def build_extension(like: Path, tree: Path) -> None:
    """Compiles the CPU kernels in `tree` when `like` has them compiled: both sides then take the same path."""
    if not list((like / "kernels").rglob("*.so")):
        return
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"compare: the CPU kernels of the base do not compile here ({last})")


def root_of(tree: Path, bench: Path, folder: Path) -> Path:
    """A folder with this bench package beside the tree's `kernels` and `cnn`."""
    folder.mkdir()
    for name, source in (("bench", bench), ("kernels", tree / "kernels"), ("cnn", tree / "cnn")):
        (folder / name).symlink_to(source)
    return folder
