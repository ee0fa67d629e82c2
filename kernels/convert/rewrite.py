"""A method's tree with every Conv -> ReLU (-> Pool) written as a chain, where nothing else can see what lies between.

Two forms are found. Nested calls, g(f(x)), whose inner result has no name. Two statements one after the other,
`a = f(x)` and `b = g(a)`, where `a` is overwritten by the second or read nowhere else. Control flow stays as it is:
only the composition of calls is written anew, and `chain` decides at each call what it can do with them.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from kernels.convert.chain import as_pool, flatten, is_conv, is_relu, is_sequential
from kernels.convert.source import CHAIN, Source

METHODS = ("relu", "relu_")
UNKNOWN = object()
"""What a step is when only a run can tell: a loop's variable, an argument."""

Resolve = Callable[[ast.expr], Any]


@dataclass(frozen=True)
class Pattern:
    """What is looked for: is_worth(steps), whether a chain holds it; may_join(a, b), whether it may span a and b."""

    is_worth: Callable[[list[Any]], bool]
    may_join: Callable[[Any, Any], bool]


@dataclass(frozen=True)
class Call:
    """One step of a chain: the function's expression (None for a method of the value), further arguments."""

    function: ast.expr | None
    node: ast.Call

    def as_tree(self) -> ast.expr:
        """The argument of `chain` that stands for this step."""
        if self.function is None:
            assert isinstance(self.node.func, ast.Attribute)
            return ast.Constant(self.node.func.attr)
        if len(self.node.args) == 1 and not self.node.keywords:
            return self.function
        keys: list[ast.expr | None] = [ast.Constant(keyword.arg) for keyword in self.node.keywords]
        kwargs = ast.Dict(keys=keys, values=[keyword.value for keyword in self.node.keywords])
        more = ast.Tuple(elts=self.node.args[1:], ctx=ast.Load())
        return ast.Tuple(elts=[self.function, more, kwargs], ctx=ast.Load())

    def as_step(self, resolve: Resolve) -> Any:
        """The step as `chain` will see it, as far as that is known; UNKNOWN otherwise."""
        if self.function is None:
            assert isinstance(self.node.func, ast.Attribute)
            return self.node.func.attr
        function = resolve(self.function)
        if len(self.node.args) == 1 and not self.node.keywords:
            return function
        try:
            args = tuple(ast.literal_eval(a) for a in self.node.args[1:])
            kwargs = {str(k.arg): ast.literal_eval(k.value) for k in self.node.keywords}
        except ValueError:
            return UNKNOWN if function is UNKNOWN else (function, (UNKNOWN,), {})
        return function, args, kwargs


def is_simple(node: ast.expr) -> bool:
    """An expression without calls: it may be evaluated a little earlier."""
    kinds = (ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.UnaryOp, ast.expr_context)
    return all(isinstance(n, (*kinds, ast.unaryop)) for n in ast.walk(node))


def peel(node: ast.expr) -> tuple[ast.expr, list[Call]]:
    """g(f(x), 2) -> (x, [f, g]): the innermost value and the calls around it."""
    calls: list[Call] = []
    while isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS and not (node.args or node.keywords):
            calls.append(Call(None, node))
            node = node.func.value
            continue
        parts = [node.func, *node.args[1:], *(k.value for k in node.keywords)]
        starred = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
        if not node.args or starred or not all(map(is_simple, parts)):
            break
        calls.append(Call(node.func, node))
        node = node.args[0]
    return node, calls[::-1]


def _has_relu(steps: list[Any]) -> bool:
    """Whether a convolution is followed by a ReLU; one of the two may be unknown."""
    flat = [s for s in flatten(steps) if type(s) is not nn.Identity]
    for i, step in enumerate(flat):
        if not (is_conv(step) or step is UNKNOWN):
            continue
        rest = flat[i + 1 : i + 3]
        if len(rest) == 2 and as_pool(rest[0]) is not None:
            rest = rest[1:]
        if rest and (is_relu(rest[0]) or (rest[0] is UNKNOWN and is_conv(step))):
            return True
    return False


def _may_join(first: Any, second: Any) -> bool:
    """Whether a fused kernel may span these two neighbours, so that their statements are worth joining."""
    head = first is UNKNOWN or is_conv(first) or is_sequential(first) or is_relu(first) or as_pool(first) is not None
    tail = second is UNKNOWN or is_relu(second) or as_pool(second) is not None
    both = first is UNKNOWN and second is UNKNOWN
    return (head or type(first) is nn.Identity) and (tail or type(second) is nn.Identity) and not both


CONV_RELU = Pattern(_has_relu, _may_join)
"""Convolution, ReLU, and a pool before or behind it."""


class Rewriter(ast.NodeTransformer):
    """Rewrites one method for one instance; `found` are the chains, each as the steps known of it and its line."""

    def __init__(self, source: Source, resolve: Resolve, pattern: Pattern) -> None:
        self.resolve, self.pattern, self.own = resolve, pattern, source.own
        self.found: list[tuple[int, list[Any]]] = []
        self.fixed = set(source.function.__code__.co_cellvars) | set(source.function.__code__.co_freevars)
        nodes = list(ast.walk(source.tree))
        self.fixed.update(n for node in nodes if isinstance(node, (ast.Global, ast.Nonlocal)) for n in node.names)
        self.loads = Counter(n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store))
        self.loads.update(n.target.id for n in nodes if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name))
        if set(self.loads) & {"locals", "vars", "eval", "exec"}:
            self.fixed.update(self.loads)
        tree = copy.deepcopy(source.tree)
        self.generic_visit(tree)
        self.tree = tree

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """A call that ends a chain worth writing -> the chain; what lies inside or beside it is visited too."""
        root, calls = peel(node)
        steps = [call.as_step(self.resolve) for call in calls]
        if len(calls) < 2 or not self.pattern.is_worth(steps):
            return self.generic_visit(node)  # type: ignore[return-value]
        self.found.append((node.lineno, steps))
        function = ast.Attribute(ast.Name(self.own, ast.Load()), CHAIN, ast.Load())
        new = ast.Call(func=function, args=[self.visit(root), *(call.as_tree() for call in calls)], keywords=[])
        return ast.copy_location(new, node)

    def _skip(self, node: ast.AST) -> ast.AST:
        """Functions inside the method have names of their own."""
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _skip  # noqa: N815

    def visit_Try(self, node: ast.AST) -> ast.AST:
        """Statements stay apart in here: a handler may read what the first of them assigned."""
        kept, self.fixed = self.fixed, self.fixed | set(self.loads)
        new = self.generic_visit(node)
        self.fixed = kept
        return new

    visit_TryStar = visit_Try  # noqa: N815

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Joins statements of a block before their calls are visited."""
        if isinstance(node, (ast.FunctionDef, ast.If, ast.For, ast.While, ast.With)):
            node.body = list(self._joined(node.body))
        if isinstance(node, (ast.If, ast.For, ast.While)):
            node.orelse = list(self._joined(node.orelse))
        return super().generic_visit(node)

    def _joined(self, body: list[ast.stmt]) -> Iterator[ast.stmt]:
        held: ast.stmt | None = None
        for statement in body:
            joined = self._join(held, statement)
            if joined is None and held is not None:
                yield held
            held = joined or statement
        if held is not None:
            yield held

    def _join(self, first: ast.stmt | None, second: ast.stmt) -> ast.stmt | None:
        """`a = f(x); b = g(a)` as `b = g(f(x))`, or None where that may not be done or serves nothing."""
        name = _assigned(first)
        if name is None or name in self.fixed or not isinstance(second, (ast.Assign, ast.Return, ast.Expr)):
            return None
        assert isinstance(first, ast.Assign)
        value = second.value
        root, calls = peel(value) if value is not None else (None, [])
        if not (isinstance(root, ast.Name) and root.id == name and calls):
            return None
        if sum(isinstance(n, ast.Name) and n.id == name for n in ast.walk(second) if n is not root) > (
            _assigned(second) == name
        ):
            return None
        _, before = peel(first.value)
        if not before:
            return None
        head, tail = before[-1].as_step(self.resolve), calls[0].as_step(self.resolve)
        in_place = isinstance(second, ast.Expr)
        if in_place and not (len(calls) == 1 and _is_in_place(calls[0]) and is_relu(tail) and head is not UNKNOWN):
            return None
        dies = isinstance(second, (ast.Expr, ast.Return)) or _assigned(second) == name or self.loads[name] == 1
        if not dies or not self.pattern.may_join(head, tail):
            return None
        _put(calls[0].node, first.value)
        assert value is not None
        return ast.copy_location(ast.Assign(targets=first.targets, value=value), second) if in_place else second


def _assigned(statement: ast.stmt | None) -> str | None:
    """The one plain name that a statement assigns a call to."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1 or statement.type_comment:
        return None
    target = statement.targets[0]
    return target.id if isinstance(target, ast.Name) and isinstance(statement.value, ast.Call) else None


def _is_in_place(call: Call) -> bool:
    function = call.node.func
    return isinstance(function, ast.Attribute) and function.attr == "relu_"


def _put(call: ast.Call, value: ast.expr) -> None:
    """Make `value` the innermost value of a call."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in METHODS and not call.args:
        call.func.value = value
    else:
        call.args[0] = value
