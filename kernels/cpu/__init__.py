"""The CPU path: the package's functions for CPU tensors, by whatever is fastest there."""

from kernels.cpu.conv import conv2d, conv2d_relu, conv2d_relu_pool2d
from kernels.cpu.explain import describe
from kernels.cpu.pool import avg_pool2d, max_pool2d

__all__ = ["avg_pool2d", "conv2d", "conv2d_relu", "conv2d_relu_pool2d", "describe", "max_pool2d"]
