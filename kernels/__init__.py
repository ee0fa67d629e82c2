"""Convolution and pooling written in Triton, with torch's signatures, semantics and layers."""

from kernels.adaptive_pool2d.op import adaptive_avg_pool2d, adaptive_max_pool2d
from kernels.backend import backend
from kernels.common.namesake import warn_of_namesake
from kernels.common.precision import set_float32_products
from kernels.conv1d.op import conv1d
from kernels.conv2d.op import conv2d, conv2d_relu, conv2d_relu_pool2d
from kernels.conv_transpose2d.op import conv_transpose2d
from kernels.convert import convert, report, revert
from kernels.explain import explain
from kernels.modules import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    Conv1d,
    Conv2d,
    ConvReLU2d,
    ConvReLUPool2d,
    ConvTranspose2d,
    MaxPool1d,
    MaxPool2d,
)
from kernels.pool1d.op import avg_pool1d, max_pool1d
from kernels.pool2d.op import avg_pool2d, max_pool2d

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "ConvReLU2d",
    "ConvReLUPool2d",
    "ConvTranspose2d",
    "MaxPool1d",
    "MaxPool2d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "backend",
    "conv1d",
    "conv2d",
    "conv2d_relu",
    "conv2d_relu_pool2d",
    "conv_transpose2d",
    "convert",
    "explain",
    "max_pool1d",
    "max_pool2d",
    "report",
    "revert",
    "set_float32_products",
]

warn_of_namesake()
