"""`python -m bench predict` and `python -m bench compile`: numbers without a card, called what they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.__main__ import main
from bench.commands.predict import LAYERS
from bench.facts import ROOT
from bench.machine_code.files import FOLDER, read
from bench.tune import Target, passes_of


def run(*arguments):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT)


def cells(text):
    return [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]


def test_a_layer_is_predicted_in_every_pass(tmp_path):
    file = tmp_path / "predicted.md"
    done = run("predict", "--layers", "1x1 1024", "--processes", "1", "--out", str(file))
    assert done.returncode == 0, done.stderr
    assert file.read_text() == done.stdout and "**Predicted, not measured**" in done.stdout
    found = cells(done.stdout)
    assert [row[1] for row in found] == ["fprop", "dgrad", "wgrad"]
    for row in found:
        assert row[2].split()[0] in ("matmul", "batch", "gemm")
        assert 0 < float(row[5]) < float(row[6]) < 2 * float(row[5])  # large products are near the limit


def test_the_committed_predictions_are_of_every_layer():
    from bench.cases import layer

    text = (FOLDER / "predicted-h100.md").read_text()
    assert "**Predicted, not measured**" in text
    want = [
        (name, which)
        for name, (network, found, batch) in LAYERS.items()
        for which in passes_of(layer(network, found))
        if Target(layer(network, found), batch, "fp16", which)
    ]
    assert [(row[0].strip(), row[1]) for row in cells(text)] == want


def test_a_kernel_is_compiled_twice():
    done = run("compile", "reduce_splits", "--dtype", "float16")
    assert done.returncode == 0, done.stderr
    (kernel, dtype, cold, warm), total = cells(done.stdout)
    assert kernel.strip() == "reduce_splits_kernel" and dtype == "float16" and total[0].strip() == "all 1"
    assert float(cold) > 10 and float(warm) < float(cold) / 3


def test_the_committed_first_calls_are_of_every_kernel_that_the_tables_have():
    committed = (FOLDER / "first-call.md").read_text()
    listed = {(row[0].strip(), row[1].strip()) for row in cells(committed)[:-1]}
    assert "sm_90" in committed
    assert listed == {(row["kernel"], row["dtype"]) for row in read(FOLDER / "sm_90.jsonl")[1]}, (
        "run `python -m bench compile --out bench/machine_code/tables/first-call.md`"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "--arch", "gfx942"], "--arch gfx942 is unknown; choose from sm_80"),
        (["predict", "--layers", "nothing"], "no layer's name has nothing"),
        (["compile", "--arch", "sm_1"], "--arch sm_1 is unknown"),
        (["compile", "--dtype", "int8"], "--dtype int8 is unknown"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr("kernels.common.device.INTERPRET", False)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1
