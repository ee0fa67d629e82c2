"""explain: what would run a call, or every call that a model makes, and why."""

from kernels.explain.model import explain

__all__ = ["explain"]
