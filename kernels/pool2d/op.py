"""max_pool2d and avg_pool2d: arguments checked, path chosen, result returned."""

from kernels.aten import avg_pool2d, max_pool2d

__all__ = ["avg_pool2d", "max_pool2d"]
