"""Steps on a card that train on MNIST, where MNIST_DIR names its files: accuracy of five seeds, seconds to 99 %."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bench.gpu import LEAST_SECONDS, Outcome, Step, Visit, child, tail, wait

SEEDS, EPOCHS = 5, 3
FORMS = ("--fused", "--no-fused")
DATA = "mnist"


def no_data() -> str | None:
    """Why the steps cannot run, or None."""
    return None if "MNIST_DIR" in os.environ else "MNIST_DIR does not name the directory of MNIST's files"


def seeds(visit: Visit, seconds: float) -> Outcome:
    """LeNet trained in one kernel and layer by layer from five seeds; done runs are kept for the next call."""
    path, end = visit.folder / "seeds.jsonl", time.monotonic() + seconds
    path.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in range(SEEDS):
        for form in FORMS:
            if any((row["seed"], row["form"]) == (seed, form) for row in done):
                continue
            if end - time.monotonic() < LEAST_SECONDS:
                return Outcome(False, True, f"{len(done)} of {SEEDS * len(FORMS)} runs done")
            row, said = _trained(visit, seed, form, end - time.monotonic())
            if row is None:
                return Outcome(False, False, said)
            done.append(row)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return judged(done)


def _trained(visit: Visit, seed: int, form: str, seconds: float) -> tuple[dict[str, Any] | None, str]:
    """One run of `cnn train`: its row, or None and what went wrong."""
    folder, log = visit.folder / "seeds" / f"{seed}{form}", visit.folder / "logs" / f"seeds-{seed}{form}.log"
    command = ["-m", "cnn", "train", "--data", DATA, "--device", visit.device, "--seed", str(seed), form]
    more = ["--epochs", str(EPOCHS), "--output", str(folder), "--quiet", "--json"]
    log.unlink(missing_ok=True)
    code = wait(child([sys.executable, *command, *more], log), seconds)
    if code != 0:
        return None, f"seed {seed} {form}: exit code {code}: {tail(log, 2)}"
    return {"seed": seed, "form": form, "accuracy": _accuracy(log)}, ""


def _accuracy(log: Path) -> float:
    """The test accuracy in the JSON object that the command printed last."""
    found = json.loads(next(line for line in reversed(log.read_text().splitlines()) if line.startswith("{")))
    return float(found["test_correct"]) / float(found["test_total"])


def judged(done: list[dict[str, Any]]) -> Outcome:
    """Whether both forms read equally well: means apart by at most three standard errors of their difference."""
    scores = {form: [row["accuracy"] for row in done if row["form"] == form] for form in FORMS}
    fused, layers = (scores[form] for form in FORMS)
    error = (stdev(fused) ** 2 / len(fused) + stdev(layers) ** 2 / len(layers)) ** 0.5
    apart = mean(fused) - mean(layers)
    said = ", ".join(f"{form[2:]} {100 * mean(s):.2f} % +- {100 * stdev(s):.2f}" for form, s in scores.items())
    # One image of the test set is what a mean cannot be known better than.
    return Outcome(True, abs(apart) <= max(3 * error, 1e-4), f"{said} over {len(fused)} seeds")


def speedrun(visit: Visit, seconds: float) -> Outcome:
    """Ten seeds of the fixed recipe, this package and eager in turns."""
    log = visit.folder / "logs" / "speedrun.log"
    where = ["--device", visit.device, "--out", str(visit.folder / "speedrun.jsonl"), "--commit", visit.commit]
    code = wait(child([sys.executable, "-m", "bench", "speedrun", "--data", "mnist", *where], log), seconds)
    return Outcome(code == 0, code in (0, None), f"exit code {code}: {tail(log, 2)}")


def steps() -> list[Step]:
    """Both, for the driver."""
    return [
        Step("speedrun", 0.5, speedrun, ("-m", "bench", "speedrun", "--help"), no_data),
        Step("seeds", 0.5, seeds, ("-m", "cnn", "train", "--help"), no_data),
    ]
