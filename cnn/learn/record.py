"""The folder of a training run: model.pt, log.jsonl and curve.png, up to date after every epoch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from cnn.learn import checkpoint as checkpoints
from cnn.learn.checkpoint import Checkpoint
from cnn.learn.training import Trainer
from cnn.pictures.curve import draw_curve

REDRAW_SECONDS = 3.0


class Record:
    """Writes a run into `folder`, after the epochs of `history` that an earlier process has done.

    classes, settings: what the checkpoint says beside the weights. title: the curve's.
    """

    def __init__(
        self, folder: Path, title: str, classes: list[str], settings: dict[str, Any], history: list[dict[str, Any]]
    ) -> None:
        self.title, self.classes, self.settings = title, classes, settings
        self.history = list(history)
        self.model, self.log, self.curve = folder / "model.pt", folder / "log.jsonl", folder / "curve.png"
        self.drawn = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        self.log.write_text("".join(f"{json.dumps(entry)}\n" for entry in history), encoding="utf-8")

    def add(self, trainer: Trainer, entry: dict[str, Any]) -> None:
        """Keep the epoch that has just ended; the picture follows every few seconds and at the end."""
        self.history.append(entry)
        now = Checkpoint.of(
            trainer.model,
            self.classes,
            settings=self.settings,
            history=self.history,
            optimizer=trainer.optimizer.state_dict(),
        )
        checkpoints.save(now, self.model)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{json.dumps(entry)}\n")
        if time.perf_counter() - self.drawn > REDRAW_SECONDS or trainer.done == trainer.recipe.epochs:
            draw_curve(self.history, self.curve, self.title)
            self.drawn = time.perf_counter()
