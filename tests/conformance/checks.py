"""What is compared for one sample, and the score that comes of it."""

from __future__ import annotations

import copy
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import kernels
from tests.compare import assert_as_good, assert_same_form
from tests.conformance.samples import (
    FLOATS,
    TORCHS_OWN,
    LayerSample,
    Sample,
    declines,
    declines_layer,
    error_samples,
    formats,
    functions,
    layer_pair,
    layer_samples,
    part,
    samples,
)
from tests.kernels.paths import Path

Score = dict[tuple[str, str], "Count"]


@dataclass
class Count:
    """How many checks of one category passed, and what was wrong with the others."""

    passed: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All checks."""
        return self.passed + len(self.failures)


class Scorer:
    """Collects one Count for every (operator or layer, category)."""

    def __init__(self) -> None:
        self.score: Score = defaultdict(Count)

    @contextmanager
    def check(self, what: str, category: str, label: str) -> Iterator[None]:
        """A check: passed unless its block raises."""
        count = self.score[what, category]
        try:
            yield
        except Exception as error:  # whatever goes wrong is a failed check, with its reason
            count.failures.append(f"{label}: {type(error).__name__}: {error}")
        else:
            count.passed += 1


def outputs(result: Any) -> list[Tensor]:
    """The tensors of a result."""
    return [result] if isinstance(result, Tensor) else list(result)


def raised(call: Callable[[], Any]) -> BaseException | None:
    """The exception of a call, or None."""
    try:
        call()
    except Exception as error:
        return error
    return None


def derivatives(function: Callable[..., Any], sample: Sample, twice: bool) -> dict[str, list[Tensor | None]]:
    """Forward, backward and gradgrad of one call; the same seeds give every caller the same directions."""
    sample = sample.map(lambda t: t.detach().clone().requires_grad_() if t.is_floating_point() else t)
    inputs = sample.tensors()
    results = outputs(function(*sample.args, **sample.kwargs))
    found: dict[str, list[Tensor | None]] = {"forward": [r.detach() for r in results]}
    dy = _direction(results[0]).requires_grad_()
    grads = torch.autograd.grad(results[0], inputs, dy, create_graph=twice, allow_unused=True)
    found["backward"] = [None if g is None else g.detach() for g in grads]
    if twice:
        linked = [(g, _direction(g)) for g in grads if g is not None and g.requires_grad]
        second = torch.autograd.grad([g for g, _ in linked], [*inputs, dy], [v for _, v in linked], allow_unused=True)
        found["gradgrad"] = list(second)
    return found


def _direction(like: Tensor) -> Tensor:
    """Small integers in the form of `like`: exact in every dtype."""
    generator = torch.Generator().manual_seed(like.numel())
    values = torch.randint(-2, 3, like.shape, generator=generator)
    return torch.empty_like(like).copy_(values).detach()


def compare(scorer: Scorer, what: str, label: str, ours: Any, theirs: Any, sample: Sample, loose: bool) -> None:
    """Forward, backward and (as torch's own tests, in float64) gradgrad of `ours` against `theirs`."""
    twice = all(t.dtype == torch.float64 for t in sample.tensors())
    want = derivatives(theirs, sample, twice)
    exact = want if twice else derivatives(theirs, sample.map(lambda t: t.double().cpu()), twice)
    got: dict[str, list[Tensor | None]] = {}
    with scorer.check(what, "forward", label):
        got = derivatives(ours, sample, twice)
        _judge(got["forward"], want["forward"], exact["forward"], loose)
    for category in ("backward", "gradgrad") if twice else ("backward",):
        with scorer.check(what, category, label):
            assert got, "the forward pass failed"
            _judge(got[category], want[category], exact[category], True)


def _judge(ours: list[Any], theirs: list[Any], exact: list[Any], loose: bool) -> None:
    assert len(ours) == len(theirs), f"{len(ours)} results, torch has {len(theirs)}"
    for i, (a, b, c) in enumerate(zip(ours, theirs, exact, strict=True)):
        if a is not None and b is not None:
            if not loose:
                assert_same_form(a, b, f"result {i}")
            if not a.is_floating_point():
                assert torch.equal(a, b), f"result {i}: indices differ"
                continue
        # A derivative that is zero everywhere may be left out on either side.
        zero = next((t for t in (a, b) if t is not None), None)
        if zero is not None and (a is None or b is None):
            assert not zero.count_nonzero(), f"result {i}: ours is {a}, torch's {b}"
            continue
        assert_as_good(a, b, c, f"result {i}")


def operator(
    scorer: Scorer, path: Path, name: str, dtype: torch.dtype, index: int = 0, parts: int = 1, every: int = 1
) -> None:
    """The samples `index`, `index + parts`, ... of every `every`-th sample of one operator and dtype."""
    ours, theirs = functions(name)
    for i, sample in part(samples(name, path.device, dtype)[::every], index, parts):
        for form, call in formats(sample):
            label = f"{path} {name} {str(dtype)[6:]} {form} sample {i * every} ({call})"
            reason = raised(lambda call=call: theirs(*call.args, **call.kwargs))
            if dtype not in FLOATS or (reason is None and declines(name, call)):
                with scorer.check(name, "forward", label):
                    _fallback(path, ours, theirs, call, loose=name not in TORCHS_OWN)
            elif reason is not None:
                with scorer.check(name, "forward", label), path.enter():
                    _same_exception(raised(lambda call=call: ours(*call.args, **call.kwargs)), reason)
            else:
                with path.enter():
                    compare(scorer, name, label, ours, theirs, call, loose=name not in TORCHS_OWN)
            if dtype == torch.float64 and form == "contiguous" and reason is None and not declines(name, call):
                with scorer.check(name, "forward AD", label), path.enter():
                    _forward_ad(ours, theirs, call)


def _same_exception(ours: BaseException | None, theirs: BaseException) -> None:
    assert type(ours) is type(theirs), f"raises {ours!r}, torch {theirs!r}"


def by_default() -> AbstractContextManager[None]:
    """The backend that users have unless they choose."""
    return kernels.backend("auto")


def _fallback(path: Path, ours: Any, theirs: Any, call: Sample, loose: bool) -> None:
    """A dtype without a kernel: "triton" says why, the default gives torch's answer or error."""
    if path.backend == "triton":
        with path.enter():
            refusal = raised(lambda: ours(*call.args, **call.kwargs))
        why = "windows of one size" if call.args[0].dtype in FLOATS else str(call.args[0].dtype)
        assert isinstance(refusal, NotImplementedError) and why in str(refusal), repr(refusal)
    with by_default():
        reason = raised(lambda: theirs(*call.args, **call.kwargs))
        if reason is not None:
            _same_exception(raised(lambda: ours(*call.args, **call.kwargs)), reason)
            return
        found, wanted = (outputs(function(*call.args, **call.kwargs)) for function in (ours, theirs))
    for a, b in zip(found, wanted, strict=True):
        assert_same_form(a, b, loose=loose)
        assert torch.equal(a, b), "values differ from torch's"


def _forward_ad(ours: Any, theirs: Any, call: Sample) -> None:
    tangents = {id(t): _direction(t) for t in call.tensors()}
    found = []
    for function in (ours, theirs):
        with torch.autograd.forward_ad.dual_level():
            dual = call.map(lambda t: torch.autograd.forward_ad.make_dual(t, tangents[id(t)]))
            result = outputs(function(*dual.args, **dual.kwargs))[0]
            found.append(torch.autograd.forward_ad.unpack_dual(result).tangent)
    assert found[0] is not None, "no tangent"
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def errors(scorer: Scorer, path: Path, name: str) -> None:
    """Every call that torch refuses is refused with torch's exception."""
    ours, theirs = functions(name)
    for i, sample in enumerate(error_samples(name, path.device)):
        with scorer.check(name, "errors", f"{path} {name} error sample {i} ({sample})"), path.enter():
            want = raised(lambda sample=sample: theirs(*sample.args, **sample.kwargs))
            assert want is not None and isinstance(want, sample.error or Exception)
            _same_exception(raised(lambda sample=sample: ours(*sample.args, **sample.kwargs)), want)


def layer(scorer: Scorer, path: Path, name: str, dtype: torch.dtype) -> None:
    """The samples of one layer in one dtype: values, derivatives, repr, state, copies; what torch refuses."""
    for i, sample in enumerate(layer_samples(name, path.device, dtype)):
        label = f"{path} {name} {str(dtype)[6:]} sample {i} {sample.args} {sample.kwargs}"
        if sample.error is not None:
            with scorer.check(name, "errors", label), path.enter():
                refusal = raised(lambda sample=sample: _build_and_call(name, sample, path, dtype))
                assert isinstance(refusal, sample.error), f"raises {refusal!r}, torch {sample.error}"
            continue
        # What Triton leaves to torch must be right under the default.
        enter = by_default if declines_layer(name, sample) else path.enter
        for form, call in formats(sample.call):
            ours, theirs = layer_pair(name, sample, path.device, dtype)
            with enter():
                _layer_values(scorer, name, f"{label} {form}", ours, theirs, call)
        with scorer.check(name, "objects", label), enter():
            _layer_objects(ours, theirs, call)


def _build_and_call(name: str, sample: LayerSample, path: Path, dtype: torch.dtype) -> None:
    module = getattr(kernels, name)(*sample.args, **sample.kwargs).to(path.device, dtype)
    module(*sample.call.args, **sample.call.kwargs)


def _layer_values(scorer: Scorer, name: str, label: str, ours: nn.Module, theirs: nn.Module, call: Sample) -> None:
    """The layer as a function of its input and parameters."""
    weights = list(theirs.parameters())
    names = list(dict(ours.named_parameters()))
    their_names = list(dict(theirs.named_parameters()))

    def as_function(module: nn.Module, keys: list[str]) -> Callable[..., Any]:
        def function(*tensors: Tensor, **kwargs: Any) -> Any:
            x, *values = tensors
            parameters = dict(zip(keys, values, strict=True))
            return torch.func.functional_call(module, parameters, (x,), kwargs)

        return function

    sample = Sample((*call.args, *(w.detach() for w in weights)), call.kwargs)
    refusal = raised(lambda: theirs(*call.args, **call.kwargs))
    if refusal is not None:
        with scorer.check(name, "errors", label):
            _same_exception(raised(lambda: ours(*call.args, **call.kwargs)), refusal)
        return
    if name.startswith("ConvReLU"):
        sample = sample.map(lambda t: t.mul(4).round().clamp(-2, 2))
    loose = name.startswith("ConvReLU")
    compare(scorer, name, label, as_function(ours, names), as_function(theirs, their_names), sample, loose)


def _layer_objects(ours: nn.Module, theirs: nn.Module, call: Sample) -> None:
    """repr, state_dict, deepcopy and pickle keep torch's form and our answer."""
    first = theirs[0] if isinstance(theirs, nn.Sequential) else theirs
    assert list(ours.state_dict()) == list(first.state_dict())
    first.load_state_dict(ours.state_dict())
    if type(ours).__name__ == type(first).__name__:
        assert repr(ours) == repr(first)
    buffer = io.BytesIO()
    torch.save(ours, buffer)
    buffer.seek(0)
    if raised(lambda: theirs(*call.args, **call.kwargs)) is not None:
        return
    want = outputs(ours(*call.args, **call.kwargs))
    for twin in (copy.deepcopy(ours), torch.load(buffer, weights_only=False)):
        assert type(twin) is type(ours)
        assert all(torch.equal(a, b) for a, b in zip(outputs(twin(*call.args, **call.kwargs)), want, strict=True))
