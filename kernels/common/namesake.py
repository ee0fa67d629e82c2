"""The other distribution that installs an import package called `kernels`."""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version


def warn_of_namesake() -> None:
    """A warning when Hugging Face's distribution `kernels` is installed too: one of the two hides the other."""
    try:
        found = version("kernels")
    except PackageNotFoundError:
        return
    warnings.warn(
        f"the distribution kernels {found} is installed beside triton-cnn, and both are imported as `kernels`: this "
        "process got triton-cnn. Keep them in separate environments.",
        UserWarning,
        stacklevel=3,
    )
