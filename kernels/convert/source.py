"""A method's source as a syntax tree, proven to be what runs, and a changed tree as a function again."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from types import CodeType, FunctionType

CHAIN = "_triton_cnn_chain"
"""The attribute of `self` under which rewritten code finds `chain`, so that nobody's globals are touched."""


class NoSourceError(Exception):
    """Why a function's source cannot be used."""


@dataclass(frozen=True)
class Source:
    """A function, its definition, and the file around it: names there decide how Python compiles a call."""

    function: FunctionType
    tree: ast.FunctionDef
    module: ast.Module

    @property
    def own(self) -> str:
        """The name of the instance in the method: self."""
        return self.function.__code__.co_varnames[0]

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name assigned in the method, those of comprehensions included."""
        nodes = ast.walk(self.tree)
        return frozenset(n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load))


@cache
def read(function: FunctionType) -> Source:
    """The source of a method. NoSourceError if there is none, or if it does not compile to the code that runs."""
    name, code = function.__qualname__, function.__code__
    try:
        lines, _ = inspect.findsource(function)
        module, compiled = _compile_text("".join(lines), code.co_filename)
    except (OSError, TypeError, SyntaxError) as error:
        raise NoSourceError(f"the source of {name} is not available") from error
    tree = next((node for node in ast.walk(module) if _starts(node, code)), None)
    if not isinstance(tree, ast.FunctionDef) or not code.co_argcount:
        raise NoSourceError(f"the source of {name} is not a plain method")
    if tree.decorator_list or hasattr(function, "__wrapped__"):
        raise NoSourceError(f"{name} is decorated")
    if not any(_same(found, code) for found in _codes(compiled, code)):
        raise NoSourceError(f"{name} does not run the code of its source file")
    source = Source(function, tree, module)
    if source.own in source.names:
        raise NoSourceError(f"{name} assigns {source.own}")
    return source


@cache
def _compile_text(text: str, file: str) -> tuple[ast.Module, CodeType]:
    module = ast.parse(text)
    return module, _compile(module, file)


def _compile(module: ast.Module, file: str) -> CodeType:
    code: CodeType = compile(module, file, "exec", dont_inherit=True)
    return code


def _starts(node: ast.AST, code: CodeType) -> bool:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name != code.co_name:
        return False
    return min(d.lineno for d in (*node.decorator_list, node)) == code.co_firstlineno


def _codes(code: CodeType, like: CodeType) -> Iterator[CodeType]:
    """The code objects inside `code` with the name and the line of `like`."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_name == like.co_name and inner.co_firstlineno == like.co_firstlineno:
                yield inner
            yield from _codes(inner, like)


def _same(a: CodeType, b: CodeType) -> bool:
    fields = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_argcount", "co_kwonlyargcount")
    if any(getattr(a, field) != getattr(b, field) for field in fields) or len(a.co_consts) != len(b.co_consts):
        return False
    return all(
        _same(x, y) if isinstance(x, CodeType) and isinstance(y, CodeType) else x == y
        for x, y in zip(a.co_consts, b.co_consts, strict=True)
    )


def build(source: Source, tree: ast.FunctionDef) -> FunctionType:
    """The function of a changed tree, with everything else of the original: globals, defaults, closure, docstring."""
    old = source.function
    module = copy.deepcopy(source.module, {id(source.tree): tree})
    code = next(_codes(_compile(ast.fix_missing_locations(module), old.__code__.co_filename), old.__code__))
    cells = dict(zip(old.__code__.co_freevars, old.__closure__ or (), strict=True))
    closure = tuple(cells[name] for name in code.co_freevars)
    new = FunctionType(code, old.__globals__, old.__name__, old.__defaults__, closure)
    new.__kwdefaults__ = old.__kwdefaults__
    new.__qualname__, new.__module__, new.__doc__ = old.__qualname__, old.__module__, old.__doc__
    new.__annotations__ = old.__annotations__
    new.__dict__.update(old.__dict__)
    return new
