"""What a card is asked in one sitting: steps in their own processes, bounded in time, resumable."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.facts import ROOT

# Exit codes by which a child says more than "it went wrong".
MORE, BROKEN = 3, 4
LEAST_SECONDS = 15.0
# What holds for one commit and does not say so in its lines.
OUTCOMES = ("tests.jsonl", "seeds.jsonl")


@dataclass
class Visit:
    """One call of the driver: where results go, when it ends, what is known from earlier calls."""

    folder: Path
    end: float
    device: str
    commit: str
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """Whether the steps can run for real."""
        return self.device == "cuda"

    @property
    def left(self) -> float:
        """Seconds until this call must end."""
        return self.end - time.monotonic()

    def save(self) -> None:
        """Writes the state in one move, so that a kill leaves the old or the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / "state.json.new"
        draft.write_text(json.dumps(self.state, indent=1) + "\n")
        draft.replace(self.folder / "state.json")


@dataclass(frozen=True)
class Outcome:
    """finished: nothing is left for another call. right: no test failed and no result was wrong. said: one line."""

    finished: bool
    right: bool
    said: str


@dataclass(frozen=True)
class Step:
    """name, share of the time that is left, work(visit, seconds) -> Outcome.

    dry: a command that runs without CUDA, the Triton kernels in the interpreter, and shows that the step's parts are in
    place. absent: why the step cannot run although there is CUDA, or None. least: seconds below which it is left to the
    next call, since what it would begin would be lost.
    """

    name: str
    share: float
    work: Callable[[Visit, float], Outcome]
    dry: Sequence[str] = ()
    absent: Callable[[], str | None] = lambda: None
    least: float = LEAST_SECONDS


def _ends_with_its_parent() -> None:
    """Linux: a driver that is killed takes its child along, which would else go on beside the next call's."""
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def child(command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Starts a command in its own process group from the repository's root, its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_ends_with_its_parent,
        )


def wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code, or None when the process had to be killed after `seconds`."""
    try:
        return process.wait(max(0.1, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log, in one line."""
    if not log.exists():
        return ""
    return " | ".join(line.strip() for line in log.read_text(errors="replace").splitlines()[-lines:] if line.strip())


def load(folder: Path, minutes: float, device: str, commit: str) -> Visit:
    """A visit that goes on where the last one in this folder stopped; another commit starts anew."""
    path = folder / "state.json"
    state: dict[str, Any] = {}
    if path.exists():
        state = json.loads(path.read_text())
        if state.get("commit") != commit:
            print(f"the results in {folder} are of commit {state.get('commit')}, this is {commit}: starting anew")
            state = {}
            for name in OUTCOMES:
                if (folder / name).exists():
                    (folder / name).replace(folder / f"{name}.before")
    state = state or {"commit": commit, "steps": {}}
    return Visit(folder, time.monotonic() + minutes * 60, device, commit, state)


def drive(steps: Sequence[Step], visit: Visit) -> int:
    """Runs the unfinished steps in order while time lasts; exit code 1 when this or an earlier call found a fault."""
    skipped = 0
    for step in steps:
        known = visit.state["steps"].setdefault(step.name, {"status": "waiting", "visits": 0})
        if known["status"] == "finished":
            print(f"{step.name}: finished before: {known['said']}")
            continue
        absent = step.absent()
        if not visit.cuda:
            skipped += 1
            ready, said = rehearse(step, visit) if absent is None else (True, f"; {absent}")
            known.update(status="skipped", said=f"no CUDA{said}", right=ready)
        elif absent is not None:
            known.update(status="skipped", said=absent)
        elif visit.left < step.least:
            known.update(said="no time left; the next call goes on here")
        else:
            known["visits"] += 1
            outcome = step.work(visit, max(step.least, visit.left * step.share))
            status = "finished" if outcome.finished else "unfinished"
            known.update(status=status, said=outcome.said, right=outcome.right)
        visit.save()
        print(f"{step.name}: {known['status']}: {known['said']}", flush=True)
    if not visit.cuda:
        print(f"no CUDA: {skipped} steps skipped")
    return 0 if all(known.get("right", True) for known in visit.state["steps"].values()) else 1


def rehearse(step: Step, visit: Visit) -> tuple[bool, str]:
    """Without CUDA: runs the step's dry command; whether it went well, and what to say."""
    if not step.dry:
        return True, ""
    log = visit.folder / "logs" / f"{step.name}.dry.log"
    code = wait(child([sys.executable, *step.dry], log), min(120.0, visit.left))
    said = f"; without CUDA `python {' '.join(step.dry)}`"
    return code == 0, f"{said} ends with code {code} ({tail(log, 1)})"
