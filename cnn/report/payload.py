"""What the page computes with: every step's values and weights as one run of float32, and the steps as JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from torch import Tensor

from cnn.errors import UserError
from cnn.see.trace import Trace

# LeNet needs 0.08 million, the MLP 0.67 million; a page beyond this takes a browser seconds to open.
MOST_VALUES = 4_000_000


class Store:
    """Collects float32 values; each tensor is put in once and known by where it begins."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.size = 0
        self.places: dict[int, int] = {}

    def put(self, tensor: Tensor | None) -> int | None:
        """The place of the tensor's first value; None for no tensor."""
        if tensor is None:
            return None
        key = tensor.data_ptr()
        if key not in self.places:
            self.places[key] = self.size
            self.parts.append(tensor.detach().cpu().contiguous().float().numpy().astype("<f4").ravel())
            self.size += tensor.numel()
        if self.size > MOST_VALUES:
            raise UserError(
                f"this model and image have over {MOST_VALUES:,} values, too many for one page; use a smaller image"
            )
        return self.places[key]

    def base64(self) -> str:
        """All values, little-endian."""
        return base64.b64encode(np.concatenate(self.parts).tobytes()).decode("ascii")


def payload(seen: Trace, classes: tuple[str, ...]) -> tuple[str, str]:
    """(JSON of the steps, base64 of the values). JSON is safe inside a script element: every `</` is `<\\/`."""
    store = Store()
    image = {"shape": list(seen.image.shape[1:]), "at": store.put(seen.image)}
    steps = []
    for step in seen.steps:
        op = step.op
        entry: dict[str, Any] = {
            "name": step.name,
            "kind": op.kind,
            "shape": list(step.output.shape[1:]),
            "source": step.source,
            "plain": op.plain and step.source is not None,
            "at": store.put(step.output),
            "weight": store.put(op.weight),
            "bias": store.put(op.bias),
        }
        if op.kind in ("conv", "max", "avg"):
            entry |= {"kernel": op.kernel, "stride": op.stride, "padding": op.padding, "dilation": op.dilation}
            entry["groups"] = op.groups
        steps.append(entry)
    text = json.dumps({"image": image, "steps": steps, "classes": list(classes)}, separators=(",", ":"))
    return text.replace("</", "<\\/"), store.base64()
