"""Modules whose forward is code: a subclass of their own class in which the chains are written out."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn

from kernels.convert.chain import chain
from kernels.convert.layers import TORCHS
from kernels.convert.rewrite import CONV_RELU, UNKNOWN, Pattern, Resolve, Rewriter
from kernels.convert.source import CHAIN, NoSourceError, Source, build, read

ORIGINAL = "_triton_cnn_original"


@dataclass(frozen=True)
class Chain:
    """A chain found in a module: where it is written, and its steps as far as they are known before a run."""

    place: str
    steps: tuple[Any, ...]


@dataclass(frozen=True)
class Analysis:
    """What a module's code holds: its chains, the rewritten trees by method name, and why something was not read."""

    chains: tuple[Chain, ...] = ()
    trees: tuple[tuple[str, Source, ast.FunctionDef], ...] = ()
    reasons: tuple[str, ...] = ()


def original(module: nn.Module) -> type[nn.Module]:
    """The class of a module before `fuse`."""
    cls: type[nn.Module] = getattr(type(module), ORIGINAL, type(module))
    return cls


def analyse(module: nn.Module, pattern: Pattern = CONV_RELU) -> Analysis:
    """Every chain of a module that calls other modules; nothing is changed."""
    cls = original(module)
    if isinstance(module, tuple(TORCHS)) or not module._modules or "forward" in vars(module):
        return Analysis()
    if _runs_in_order(cls):
        steps = tuple(module.children())
        return Analysis((Chain(cls.__name__, steps),)) if pattern.is_worth(list(steps)) else Analysis()
    if cls.__module__.startswith("torch.nn."):
        return Analysis()
    if cls.__reduce_ex__ is not object.__reduce_ex__ or cls.__reduce__ is not object.__reduce__:
        return Analysis(reasons=(f"{cls.__name__} pickles itself in its own way",))
    return _analyse_code(module, cls, pattern)


def _analyse_code(module: nn.Module, cls: type[nn.Module], pattern: Pattern) -> Analysis:
    chains: list[Chain] = []
    trees: list[tuple[str, Source, ast.FunctionDef]] = []
    reasons: list[str] = []
    for name, function in methods(cls):
        try:
            source = read(function)
        except NoSourceError as reason:
            if name == "forward":
                reasons.append(str(reason))
            continue
        rewriter = Rewriter(source, resolver(module, source), pattern)
        if rewriter.found:
            places = f"{function.__qualname__}, line "
            chains += [Chain(places + str(line), tuple(steps)) for line, steps in rewriter.found]
            trees.append((name, source, rewriter.tree))
    return Analysis(tuple(chains), tuple(trees), tuple(reasons))


def methods(cls: type[nn.Module]) -> Iterator[tuple[str, FunctionType]]:
    """The plain methods that a user wrote, the most derived of each name."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if base is nn.Module:
            return
        for name, member in vars(base).items():
            if name not in seen and isinstance(member, FunctionType) and not name.startswith("__"):
                yield name, member
            seen.add(name)


def resolver(module: nn.Module, source: Source) -> Resolve:
    """Expression -> the object it names in this instance, or UNKNOWN."""
    code, scope = source.function.__code__, source.function.__globals__
    local = {*code.co_varnames, *code.co_cellvars, *code.co_freevars, *source.names}

    def resolve(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            if node.id == source.own:
                return module
            if node.id in local:
                return UNKNOWN
            return scope.get(node.id, getattr(builtins, node.id, UNKNOWN))
        if isinstance(node, ast.Attribute):
            return _attribute(resolve(node.value), node.attr)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return _item(resolve(node.value), node.slice.value)
        return UNKNOWN

    return resolve


def _attribute(owner: Any, name: str) -> Any:
    """An attribute, looked up without running anybody's code."""
    if isinstance(owner, nn.Module):
        found = owner._modules.get(name)
        if found is None:
            found = vars(owner).get(name, UNKNOWN)
        return inspect.getattr_static(type(owner), name, UNKNOWN) if found is UNKNOWN else found
    if isinstance(owner, ModuleType):
        return vars(owner).get(name, UNKNOWN)
    return getattr(Tensor, name, UNKNOWN) if owner is Tensor else UNKNOWN


def _item(owner: Any, key: Any) -> Any:
    if isinstance(owner, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        try:
            return owner[key]
        except (KeyError, IndexError, TypeError):
            return UNKNOWN
    return UNKNOWN


def _runs_in_order(cls: type[nn.Module]) -> bool:
    return issubclass(cls, nn.Sequential) and cls.forward is nn.Sequential.forward


def _in_order(self: nn.Sequential, input: Any) -> Any:
    """One layer after the other, as nn.Sequential does."""
    return chain(input, *self)


def _reduce_ex(self: Any, protocol: Any) -> Any:
    """Pickled as an instance of the original class, to be fused again where it is loaded."""
    how: Any = object.__reduce_ex__(self, max(2, int(protocol)))
    return (_blank, (original(self), *how[1][1:]), *how[2:])


def _blank(cls: type[nn.Module], *args: Any) -> nn.Module:
    """An instance without its state, which fuses itself when it gets it."""
    module: nn.Module = cls.__new__(cls, *args)
    module.__class__ = _subclass(cls, ())
    return module


def _set_state(self: nn.Module, state: Any) -> None:
    """The state as the original class takes it, then the chains of what it holds."""
    self.__class__ = original(self)
    self.__setstate__(state)  # type: ignore[no-untyped-call]
    fuse(self)


_subclasses: dict[Any, type[nn.Module]] = {}


def _subclass(cls: type[nn.Module], members: tuple[tuple[str, Any], ...]) -> type[nn.Module]:
    """One subclass for each set of rewritten methods."""
    key = (cls, members)
    if key not in _subclasses:
        _subclasses[key] = _make_subclass(cls, members)
    return _subclasses[key]


def _make_subclass(cls: Any, members: tuple[tuple[str, Any], ...]) -> type[nn.Module]:
    body: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__reduce_ex__": _reduce_ex,
        "__setstate__": _set_state,
        "_runs_in_order": _runs_in_order(cls),
        CHAIN: staticmethod(chain),
        ORIGINAL: cls,
        **dict(members),
    }
    made: type[nn.Module] = type(cls)(cls.__name__, (cls,), body)
    return made


_built: dict[tuple[FunctionType, str], FunctionType] = {}


def _function(source: Source, tree: ast.FunctionDef) -> FunctionType:
    """One function a rewritten text, so that instances that are rewritten alike share one class."""
    key = (source.function, ast.unparse(tree))
    if key not in _built:
        _built[key] = build(source, tree)
    return _built[key]


def fuse(module: nn.Module) -> None:
    """Give the module the subclass of its class that runs its chains, if it has any."""
    found = analyse(module)
    if not found.chains:
        return
    cls = original(module)
    if _runs_in_order(cls):
        members: tuple[tuple[str, Any], ...] = (("forward", _in_order),)
    else:
        members = tuple((name, _function(source, tree)) for name, source, tree in found.trees)
    module.__class__ = _subclass(cls, members)


def unfuse(module: nn.Module) -> None:
    """The module's own class again."""
    module.__class__ = original(module)
