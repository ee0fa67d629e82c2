"""A case as an ONNX graph: what ONNX Runtime is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bench.cases import Layer
from bench.problem import Problem

OPSET, IR_VERSION = 17, 8


class Graph:
    """Nodes in a row, each reading the last one's result unless told otherwise."""

    def __init__(self) -> None:
        import onnx

        self.onnx: Any = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.last = "x"

    def constant(self, value: Tensor) -> str:
        """A weight, known when the graph is optimised."""
        name = f"w{len(self.constants)}"
        array = value.detach().contiguous().float().cpu().numpy()
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *more: str, **attributes: Any) -> str:
        """A node on the last result and `more`; its result is the last one then."""
        name = f"y{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, [self.last, *more], [name], **attributes))
        self.last = name
        return name

    def conv(self, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
        """A convolution with symmetric padding."""
        constants = [self.constant(t) for t in (weight, bias) if t is not None]
        sizes = {"kernel_shape": list(weight.shape[2:]), "strides": list(stride), "dilations": list(dilation)}
        self.add("Conv", *constants, **sizes, pads=[*padding, *padding], group=groups)

    def pool(self, kind: str, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        """A max or average pool; the average counts the padding, as torch's default does."""
        counted = {"count_include_pad": 1} if kind == "AveragePool" else {}
        sizes = {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*padding, *padding]}
        self.add(kind, **sizes, ceil_mode=int(ceil_mode), **counted)

    def module(self, layer: nn.Module) -> None:
        """One of the layers that bench.networks uses; TypeError for another."""
        if isinstance(layer, nn.Conv2d):
            self.conv(layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        elif isinstance(layer, nn.ReLU):
            self.add("Relu")
        elif isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
            kind = "MaxPool" if isinstance(layer, nn.MaxPool2d) else "AveragePool"
            kernel, stride, padding = (_pair(v) for v in (layer.kernel_size, layer.stride, layer.padding))
            self.pool(kind, kernel, stride, padding, layer.ceil_mode)
        elif isinstance(layer, nn.Flatten):
            self.add("Flatten", axis=1)
        elif isinstance(layer, nn.Linear):
            self.add("Gemm", self.constant(layer.weight), self.constant(layer.bias), transB=1)
        elif hasattr(layer, "shortcut"):
            self.residual(layer)
        elif not isinstance(layer, nn.Identity):
            raise TypeError(f"no ONNX node for {type(layer).__name__}")

    def residual(self, block: Any) -> None:
        """bench.networks.Residual."""
        start = self.last
        for layer in (block.conv1, block.relu, block.conv2):
            self.module(layer)
        body, self.last = self.last, start
        self.module(block.shortcut)
        self.add("Add", body)
        self.module(block.relu)

    def bytes(self, shape: Iterable[int]) -> bytes:
        """The serialised model; input "x" of that shape, float32."""
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        ends = [
            helper.make_tensor_value_info("x", kind, list(shape)),
            helper.make_tensor_value_info(self.last, kind, None),
        ]
        graph = helper.make_graph(self.nodes, "case", ends[:1], ends[1:], self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model: bytes = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION).SerializeToString()
        return model


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def graph_of(problem: Problem) -> tuple[bytes, str]:
    """The case's graph and the name of its output."""
    graph = Graph()
    with torch.no_grad():
        if problem.model is not None:
            for layer in problem.model:
                graph.module(layer)
        else:
            _layer(graph, problem, problem.case.layer)
    return graph.bytes(problem.inputs[0].shape), graph.last


def _layer(graph: Graph, problem: Problem, found: Layer | None) -> None:
    assert found is not None
    if problem.weight is None:
        kind = "MaxPool" if found.op == "max_pool2d" else "AveragePool"
        graph.pool(kind, found.kernel, found.stride, found.padding, found.ceil_mode)
        return
    graph.conv(problem.weight, problem.bias, found.stride, found.padding, found.dilation, found.groups)
    if problem.case.op != "conv2d":
        graph.add("Relu")
    if problem.case.op == "conv2d_relu_pool2d":
        graph.pool("MaxPool", (2, 2), (2, 2), (0, 0), False)
