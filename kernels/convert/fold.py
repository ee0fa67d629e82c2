"""Convolution and BatchNorm2d as one convolution, for inference: torch's own folding where the code proves the pair."""

from __future__ import annotations

import ast
from collections import Counter
from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.utils import fusion, parametrize

from kernels.convert.chain import flatten, is_conv, is_sequential
from kernels.convert.fusing import analyse, methods, original, resolver
from kernels.convert.layers import layers_of, untouched
from kernels.convert.rewrite import Pattern
from kernels.convert.source import NoSourceError, read


def _foldable(conv: Any, norm: Any) -> bool:
    if not (is_conv(conv) and type(norm) is nn.BatchNorm2d and norm.running_mean is not None):
        return False
    plain = untouched(conv) and untouched(norm) and not parametrize.is_parametrized(conv)
    return plain and norm.num_features == conv.out_channels


def _pairs(steps: Any) -> list[tuple[Any, Any]]:
    flat = flatten(steps)
    return [(conv, norm) for conv, norm in pairwise(flat) if _foldable(conv, norm)]


def _may_join(first: Any, second: Any) -> bool:
    return (is_conv(first) or is_sequential(first)) and type(second) is nn.BatchNorm2d


CONV_NORM = Pattern(lambda steps: bool(_pairs(steps)), _may_join)


def _mentions(module: nn.Module) -> Counter[int]:
    """How often each child is named in the module's code, by id."""
    found: Counter[int] = Counter()
    for _, function in methods(original(module)):
        try:
            source = read(function)
        except NoSourceError:
            continue
        resolve = resolver(module, source)
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.Attribute, ast.Subscript)):
                found[id(resolve(node))] += 1
    return found


def fold_batch_norm(model: nn.Module) -> int:
    """Fold every proven pair in place, the norm becoming nn.Identity; how many there were.

    A pair is proven where one expression, two statements in a row or neighbours in an nn.Sequential pass the
    convolution's result to the norm, and neither is named anywhere else. ValueError for a model in training mode.
    """
    if model.training:
        raise ValueError(
            "convert: fold_batch_norm=True is for inference, but the model is in training; call model.eval()"
        )
    names = layers_of(model)
    count = 0
    for module in list(names):
        mentions = _mentions(module)
        for chain in analyse(module, CONV_NORM).chains:
            for conv, norm in _pairs(chain.steps):
                once = len(names[conv]) == len(names[norm]) == 1 and max(mentions[id(conv)], mentions[id(norm)]) <= 1
                if once and not conv.training and not norm.training:
                    _fold(model, conv, norm, names[norm][0])
                    count += 1
    return count


def _fold(model: nn.Module, conv: nn.Conv2d, norm: nn.BatchNorm2d, name: str) -> None:
    folded = fusion.fuse_conv_bn_eval(conv, norm)
    conv.weight, conv.bias = folded.weight, folded.bias
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity().eval())
