"""The command line: rows as they come, mistakes in one line, commands found by their files; suites; cold start."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
import torch

from bench import rows
from bench.__main__ import command_names, main
from bench.cases.sets import cases
from bench.cold import VALUES, cold_rows
from bench.facts import ROOT, slug
from bench.providers import providers
from bench.session import table
from cnn.errors import UserError

CASE = "lenet/conv2/conv2d_relu_pool2d/inference/n2/fp32"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    code = main(["run", "--set", "smoke", "--cases", CASE, "--seconds", "0.1", "--device", "cpu", "--out", str(path)])
    return code, rows.read(path)


def test_rows_say_what_was_measured_where_and_with_what(measured):
    code, found = measured
    timed = [row for row in found if row["metric"] == "wall"]
    assert code == 0 and {row["provider"] for row in timed} >= {"eager", "ours", "compile"}
    for row in timed:
        assert row["status"] == "ok" and row["value"] > 0 and row["runs"] >= 7 and row["unit"] == "us"
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["low"] <= row["value"] <= row["high"] and row["spread"] >= 0
        assert row["kind"] == "cpu" and row["threads"] == 1 and row["device"] and row["driver"] and row["commit"]
        assert row["versions"]["torch"] and row["date"].endswith("Z") and row["share"] > 0
    paths = {row["provider"]: row["path"] for row in timed}
    assert paths["ours"] == "CPU path" and paths["eager"] == "aten"
    assert {row["case"] for row in found if row["metric"] == "limit"} >= {"limit/copy", "limit/compute fp32"}


def test_the_table_shows_times_ratios_and_what_was_not_timed(measured):
    _, found = measured
    case = cases("smoke", [CASE])[0]
    wrong = {**found[-1], "provider": "bad", "status": "wrong", "reason": "because"}
    del wrong["value"]
    text = table(case, [*(row for row in found if row["metric"] == "wall"), wrong])
    assert "x1.00" in text and "WRONG because" in text and "[CPU path]" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--set", "nonsense"], "set 'nonsense' is unknown"),
        (["run", "--cases", "nonsense", "--device", "cpu"], "no case of set 'cpu' fits nonsense"),
        (["run", "--set", "smoke", "--providers", "nobody", "--device", "cpu"], "provider 'nobody' is unknown"),
        (["run", "--device", "tpu"], "device 'tpu' is unknown"),
        (["run", "--minutes", "0"], "must be greater than 0"),
        (["run", "--interpret", "--device", "cpu"], "never timed"),
        (["cold", "--processes", "0"], "must be greater than 0"),
        (["host", "--calls", "0"], "must be greater than 0"),
        (["gpu", "--minutes", "-1"], "must be greater than 0"),
        (["compare", "HEAD", "--rounds", "0"], "must be greater than 0"),
        (["report", "--results", "/nonexistent"], "has no rows"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none(capsys):
    assert main(["run", "--device", "cuda"]) == 2
    assert "torch finds no CUDA device" in capsys.readouterr().err


def test_a_command_is_there_because_its_file_is(tmp_path, monkeypatch):
    import bench.commands

    (tmp_path / "dropped_in.py").write_text(
        'NAME, HELP = "dropped-in", "h"\ndef add_arguments(p): pass\ndef run(args): return 5\n'
    )
    monkeypatch.setattr(bench.commands, "__path__", [*bench.commands.__path__, str(tmp_path)])
    assert "dropped_in" in command_names() and main(["dropped-in"]) == 5


@pytest.mark.slow
def test_the_triton_kernels_pass_the_gate_in_the_interpreter(tmp_path, capsys):
    cases = ["--set", "smoke", "--cases", "lenet/conv2/conv2d_relu_pool2d/training/*", "lenet/pool1/*"]
    more = ["--device", "cpu", "--check", "--interpret", "--providers", "ours", "--out", str(tmp_path / "rows.jsonl")]
    assert main(["run", *cases, *more]) == 0
    ours = [row for row in rows.lines(tmp_path / "rows.jsonl") if row["provider"] == "ours"]
    assert len(ours) == 6 and {(row["status"], row["path"]) for row in ours} == {("ok", "Triton kernels, interpreted")}
    assert not any("value" in row for row in ours)


def test_help_needs_no_torch():
    code = "import sys; from bench.__main__ import parser; parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_provider_answers_for_every_case_on_both_kinds_of_device():
    for device in (torch.device("cpu"), torch.device("cuda")):
        for provider in providers():
            for case in [*cases("smoke"), *cases("headline")[:20]]:
                reason = provider.reason(case, device)
                assert reason is None or isinstance(reason, str)
                assert set(provider.layouts(case, device)) <= {"nchw", "nhwc"}


def test_eager_always_runs_and_an_unknown_provider_is_refused():
    assert [p.NAME for p in providers(["ours"])] == ["eager", "ours"]
    with pytest.raises(UserError, match="choose from eager, ours"):
        providers(["nobody"])


def test_onnx_graphs_give_torch_s_results():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from bench.gate import expected, judge
    from bench.problem import problem

    runtime = importlib.import_module("bench.providers.onnxruntime")
    device = torch.device("cpu")
    names = ["lenet/inference/n1/*", "*_like/inference/*", "*pool*/inference/*", "mobilenetv2/*5*/inference/*"]
    for case in cases("cpu", names):
        made = problem(case.with_(batch=2), device, copies=2)
        verdict = judge(made, runtime.prepare(made, "nchw").step(0), expected(made))
        assert verdict.ok, (case.name, verdict.reason)


@pytest.mark.slow
def test_cold_rows_come_from_fresh_processes():
    found = list(cold_rows("cpu", 1, 1))
    assert {(row["case"], row["provider"]) for row in found} == {
        (f"cold/{name}", provider) for name in VALUES if name != "device memory" for provider in ("eager", "ours")
    }
    assert all(row["runs"] == 1 and row["low"] <= row["value"] <= row["high"] for row in found)
    by_name = {(row["case"], row["provider"]): row["value"] for row in found}
    assert by_name["cold/import", "ours"] > 50 and by_name["cold/host memory", "ours"] > 100


@pytest.mark.slow
def test_pytest_bench_groups_its_tables_and_compares_with_a_saved_run(tmp_path):
    command = [sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider", "--bench-set", "smoke"]
    few = [
        "-k",
        "pool1 and inference and (eager or ours)",
        "--benchmark-max-time",
        "0.02",
        "--benchmark-min-rounds",
        "5",
    ]
    # pytest-benchmark measures nothing in what it takes for a worker of pytest-xdist.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    how = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "check": False}
    store = [f"--benchmark-storage={tmp_path}", "--bench-device", "cpu"]
    saved = subprocess.run([*command, *few, *store, "--benchmark-save=one"], **how)
    assert saved.returncode == 0, saved.stdout + saved.stderr
    assert "benchmark 'lenet/pool1/max_pool2d/inference/n2/fp32': 4 tests" in saved.stdout
    assert list(tmp_path.rglob("*one.json"))
    again = subprocess.run([*command, *few, *store, "--benchmark-compare"], **how)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "8 tests" in again.stdout and "(0001_one)" in again.stdout


def test_slug():
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
