"""Convolution and pooling written in Triton, with torch's signatures, semantics and layers."""

from kernels.backend import backend
from kernels.conv2d.op import conv2d, conv2d_relu, conv2d_relu_pool2d
from kernels.convert import convert
from kernels.explain import explain
from kernels.modules import AvgPool2d, Conv2d, ConvReLU2d, ConvReLUPool2d, MaxPool2d
from kernels.pool2d.op import avg_pool2d, max_pool2d

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "ConvReLU2d",
    "ConvReLUPool2d",
    "MaxPool2d",
    "avg_pool2d",
    "backend",
    "conv2d",
    "conv2d_relu",
    "conv2d_relu_pool2d",
    "convert",
    "explain",
    "max_pool2d",
]
