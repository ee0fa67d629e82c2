"""`python -m bench tune`: which plans it looks at, what it writes, and that it writes nothing without a card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from bench.__main__ import main
from bench.cases import Layer
from bench.clock import WallClock
from bench.facts import ROOT
from bench.run import set_precision
from bench.tune import PASSES, Target, targets
from bench.tune import rank as tune_rank
from bench.tune.card import CardMeasurer
from bench.tune.drive import Tuner
from bench.tune.rank import launches, main_launch, plans, rank, shortlist
from kernels.common.device import H100, Card
from kernels.common.roofline import LIMITS, Code
from kernels.conv2d.plans.choose import force_plan, is_legal, plan
from kernels.conv2d.plans.plan import PASSES as CONVOLUTIONS
from kernels.conv2d.plans.plan import Plan, rule, shipped
from kernels.tuned.router import PASSES as OPERATIONS
from kernels.tuned.table import Times, read, tables_in

CARD = Card(H100.shared, True, "Synthetic H100")
ABOUT = {"commit": "abc", "date": "today", "versions": {}}
SMOKE = targets("smoke", PASSES, ["fp16"], [256])
HEADLINE = targets("headline", CONVOLUTIONS, ["fp16", "tf32"], [256, 32])


@pytest.fixture(autouse=True)
def flags():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    yield
    set_precision("fp32")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before


class Fake:
    """Times plans by a rule of its own: the smaller the tile the faster, direct ones in 5 us; torch takes 8 us."""

    def __init__(self, bad=()):
        self.asked, self.bad = [], bad

    def plans(self, case, which, chosen):
        self.asked.append(case.name)
        return ["wrong: because" if each in self.bad else self.time(each) for each in chosen]

    def time(self, chosen):
        return 5.0 if chosen.tile is None else float(chosen.tile.block_m * chosen.tile.block_n)

    def against_torch(self, case, which, chosen, layout):
        if layout == "nchw" and case.work == "training":
            return "failed: no memory"
        return Times(10.0 if layout == "nhwc" else 7.0, 8.0)


def tuner(folder, measurer, **about):
    def promising(target):
        return [] if target.is_pool else [each.plan for each in shortlist(ranked(target), 8)]

    said = []
    made = Tuner(folder, CARD.name, {**ABOUT, **about}, promising, measurer, said.append)
    made.load()
    return made, said


def ranked(target):
    set_precision(target.precision)
    return rank(target, plans(target, CARD), CARD, LIMITS["sm_90"])


def test_targets_are_one_a_bucket_and_every_operation_has_its_pass():
    every = targets("all", PASSES, ["fp16", "bf16"], [256, 32])
    assert len({t.bucket for t in every}) == len(every) > 200
    assert every == targets("all", PASSES, ["fp16"], [256, 32]), "half is one precision"
    assert {t.which for t in every} == set(PASSES)
    for target in every:
        for operation, case in target.cases().items():
            assert OPERATIONS[operation] == target.which and case.batch == target.batch
    assert not [t for t in every if t.which == "dgrad" and t.layer.c == 3], "an image needs no gradient"


@pytest.mark.parametrize("target", HEADLINE[::6] + SMOKE[:2], ids=lambda t: t.name)
def test_every_plan_is_legal_and_launches_its_tile(target: Target):
    set_precision(target.precision)
    found = plans(target, CARD)
    assert len(set(found)) == len(found) >= 1
    assert rule(target.which, target.geometry, target.itemsize, CARD) in found
    for each in found[:: max(1, len(found) // 5)]:
        assert is_legal(each, target.which, target.geometry, target.itemsize, CARD)
        main = main_launch(launches(target, each, CARD))
        if each.tile is not None:
            used = tuple(main.arguments[f"BLOCK_{axis}"] for axis in "MNK")
            assert used == (each.tile.block_m, each.tile.block_n, each.tile.block_k)
            tile = {"num_warps": each.tile.num_warps, "num_stages": each.tile.num_stages}
            assert main.options.items() >= tile.items()  # registers are named as well, but only on a card


@pytest.mark.parametrize("precision, allowed", [("fp32", False), ("tf32", True), ("fp16", False)])
def test_plans_are_those_of_the_precision_that_is_measured(precision, allowed, capsys, monkeypatch):
    """Whatever torch's flags were before."""
    seen = []
    monkeypatch.setattr("kernels.common.device.INTERPRET", False)
    monkeypatch.setattr("bench.tune.rank.prune", lambda *_: [])
    monkeypatch.setattr("bench.tune.rank.plans", lambda *_: seen.append(torch.backends.cudnn.allow_tf32) or [])
    set_precision("fp32" if allowed else "tf32")
    assert main(["tune", "--dry-run", "--set", "doubtful", "--pass", "dgrad", "--dtype", precision]) == 0
    assert len(seen) > 5 and set(seen) == {allowed}
    assert "0 of 0 compiled clean" in capsys.readouterr().out


def test_the_shortlist_has_different_tiles_first():
    found = ranked(next(t for t in HEADLINE if t.layer.name == "layer3.1.conv2" and t.which == "fprop"))
    first = shortlist(found, 8)
    tiles = [(e.plan.algorithm, e.plan.tile.block_m, e.plan.tile.block_n, e.plan.tile.block_k) for e in first]
    assert len(first) == 8 and len(set(tiles[:4])) == 4 and first[0] == found[0]
    assert len(set(first)) == 8
    seconds = [e.prediction.seconds for e in found]
    assert seconds == sorted(seconds)
    assert sorted(map(found.index, shortlist(found[:3], 8))) == [0, 1, 2]
    assert {e.plan.algorithm for e in first[:4]} == {e.plan.algorithm for e in found} == {"batch", "gemm", "strips"}


def test_a_program_that_comes_twice_is_timed_once(monkeypatch):
    """Plans that differ in warps alone, and whose programs are said to be the same."""
    target = HEADLINE[0]
    usual, *_ = (each.plan for each in ranked(target) if each.plan.tile and each.plan.splits == 1)
    chosen = [replace(usual, tile=replace(usual.block, num_warps=warps)) for warps in (4, 8)]
    found = rank(target, chosen, CARD, LIMITS["sm_90"])
    for codes, expected in (([40, 40], found[:1]), ([40, 48], found)):
        monkeypatch.setattr(tune_rank, "_compile", lambda i, codes=codes: Code(codes[i], 1024, 4, {}, {"all": 9}))
        left = tune_rank.prune(target, found, CARD, LIMITS["sm_90"], "sm_90", 1)
        assert {each.plan for each in left} == {each.plan for each in expected}


def test_what_is_measured_is_written_and_used(tmp_path):
    made, said = tuner(tmp_path, Fake())
    assert made.run(SMOKE, 60) == []
    table = read(made.path, CARD.name)
    assert set(table.entries) == {t.bucket for t in SMOKE}
    for target in SMOKE:
        entry = table.entries[target.bucket]
        assert (entry.plan is None) == target.is_pool
        assert entry.about["commit"] == "abc" and entry.about["layer"] == target.name
        assert entry.times["nhwc"][next(iter(target.cases()))] == Times(10.0, 8.0)
        assert len(entry.about["tried"]) == (0 if target.is_pool else len(shortlist(ranked(target), 8)))
        assert "nchw" in entry.times and not any("training" in operation for operation in entry.times["nchw"])
    with tables_in(tmp_path):
        for target in (t for t in SMOKE if not t.is_pool):
            used = plan(target.which, target.geometry, target.itemsize, CARD)
            fastest = min((e.plan for e in shortlist(ranked(target), 8)), key=Fake().time)
            assert used == fastest
    assert any("no memory" in line for line in said)


def test_a_second_run_goes_on_where_the_first_stopped(tmp_path):
    first = Fake()
    made, _ = tuner(tmp_path, first)
    left = made.run(SMOKE, 0.0)
    assert left == SMOKE and not made.path.exists() and first.asked == []
    made.tune(SMOKE[0])
    second = Fake()
    made, said = tuner(tmp_path, second)
    assert made.run(SMOKE, 60) == [] and f"1 of {len(SMOKE)} buckets measured before" in said[0]
    assert len(second.asked) == sum(not t.is_pool for t in SMOKE) - 1
    other = Fake()
    made, _ = tuner(tmp_path, other, commit="another")
    made.run(SMOKE[:1], 60)
    assert len(other.asked) == 1, "another commit measures anew"


def test_a_wrong_plan_is_never_chosen(tmp_path):
    target = SMOKE[0]
    promising = [each.plan for each in shortlist(ranked(target), 8)]
    fastest = min(promising, key=Fake().time)
    made, said = tuner(tmp_path, Fake(bad=[fastest]))
    made.tune(target)
    assert made.entries[target.bucket].plan != asdict(fastest)
    assert any(line.endswith("wrong: because") for line in said)
    made, said = tuner(tmp_path / "none", Fake(bad=promising))
    made.tune(target)
    assert not made.path.exists() and "no plan could be measured" in said[0]


def test_a_damaged_table_is_set_aside(tmp_path):
    made, _ = tuner(tmp_path, Fake())
    made.path.write_text("{")
    made, said = tuner(tmp_path, Fake())
    assert "cannot be read" in said[0] and made.path.with_name(made.path.name + ".damaged").read_text() == "{"


@pytest.mark.skipif(not os.environ.get("TRITON_INTERPRET"), reason="the CPU plays the card in Triton's interpreter")
def test_the_card_s_measurer_judges_before_it_times(monkeypatch):
    """On the CPU, in the interpreter: never a time to keep, but every step of the way."""
    import kernels
    from kernels.conv2d.thin import passes as thin

    layer = Layer("any", "small", "conv2d", 2, 6, 5, (3, 3), (1, 1), (1, 1), 1, k=3)
    target = Target(layer, 1, "fp32", "fprop")
    measurer = CardMeasurer(torch.device("cpu"), WallClock(lambda: None), seconds=0.01)
    case, good = target.cases()["conv2d"], plans(target, H100)[0]
    monkeypatch.setattr(thin, "fprop", lambda x, w, bias, y, g, relu: y.zero_())
    with kernels.backend("triton"):
        right, wrong = measurer.plans(case, "fprop", [good, Plan("direct", None)])
        answer = measurer.against_torch(case, "fprop", good, "nchw")
        refused = measurer.against_torch(case, "fprop", Plan("direct", None), "nchw")
    assert isinstance(right, float) and right > 0
    assert isinstance(wrong, str) and wrong.startswith("wrong: ") and refused == wrong
    assert isinstance(answer, Times) and answer.ours > answer.torch > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_without_a_card_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kernels.common.device.INTERPRET", False)
    assert main(["tune", "--out", str(tmp_path)]) == 2
    assert "--dry-run ranks by the model" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_dry_run_predicts_and_says_so(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    few = ["--set", "smoke", "--pass", "fprop", "--dtype", "fp16", "--batch", "256", "--compile", "1"]
    command = [sys.executable, "-m", "bench", "tune", "--dry-run", *few, "--processes", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "predicted for H100; nothing is measured and nothing written"
    assert lines[1].startswith("fprop half c1 k6 g1 5x5") and "1 of 1 compiled clean" in lines[1]
    assert all("predicted" in line and "registers" in line for line in lines if line.startswith("  "))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "nothing"], "set nothing is unknown; choose from smoke, doubtful, headline, all"),
        (["--pass", "up"], "pass up is unknown"),
        (["--dtype", "fp8"], "dtype fp8 is unknown"),
        (["--batch", "0"], "--batch must be positive, got 0"),
        (["--limit", "-1"], "must be greater than 0"),
        (["--dry-run", "--arch", "sm_1"], "--arch sm_1 is unknown"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr("kernels.common.device.INTERPRET", False)
    assert main(["tune", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_explain_names_algorithm_and_tile_for_every_bucket():
    """Every pass of every layer of every network: what would run is named, and it is what ships."""
    for target in targets("all", CONVOLUTIONS, ["fp16", "fp32"], [256, 32]):
        set_precision(target.precision)
        chosen = plan(target.which, target.geometry, target.itemsize, H100)
        allowed = {(p.algorithm, p.tile) for p in shipped(target.which, target.geometry, target.itemsize, H100)}
        assert (chosen.algorithm, chosen.tile) in allowed, target.name


@pytest.mark.parametrize("target", HEADLINE[::5] + SMOKE, ids=lambda t: t.name)
def test_explain_s_text_has_kernel_tile_and_grid(target: Target):
    import kernels
    from kernels.common.device import assume_card
    from kernels.explain.call import Explanation

    set_precision(target.precision)
    if target.is_pool:
        x = torch.empty(target.batch, target.layer.c, target.layer.h, target.layer.w)
        with kernels.backend("triton"), assume_card(H100):
            found = kernels.explain(getattr(kernels, target.layer.op), x, target.layer.kernel)
    else:
        chosen = plan(target.which, target.geometry, target.itemsize, H100)
        with force_plan(target.which, chosen):
            found = Explanation(target.name, "triton", "triton", "", tuple(launches(target, chosen, H100)))
        if chosen.tile is not None:
            assert f"BLOCK_M={chosen.tile.block_m}, BLOCK_N={chosen.tile.block_n}" in str(found)
    assert "_kernel: " in str(found) and "programs, " in str(found) and "num_warps=" in str(found)
    assert json.dumps(str(found))
