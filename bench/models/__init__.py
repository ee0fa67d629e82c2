"""Well-known networks in plain torch, on which `kernels.convert` is proven and timed."""

from bench.models.catalogue import MODELS, Model, build

__all__ = ["MODELS", "Model", "build"]
