"""`python -m bench gpu`: steps bounded in time, resumed, and honest about tests that hang or kill their process."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from bench import rows
from bench.gpu import Outcome, Step, drive, load, steps
from bench.gpu.pytest_rows import recorded

SUITE = """
import os, time, pytest
def test_passes(): pass
def test_fails(): assert 1 == 2
def test_skips(): pytest.skip("a reason")
def test_kills(): os._exit(7)
def test_breaks_the_context(): raise RuntimeError("CUDA error: an illegal memory access was encountered")
def test_after(): pass
@pytest.fixture
def broken(): raise ValueError("set-up")
def test_errors(broken): pass
"""


@pytest.fixture
def suite(tmp_path, monkeypatch):
    folder = tmp_path / "suite"
    folder.mkdir()
    monkeypatch.setattr(steps, "TESTS", str(folder))
    monkeypatch.setattr(steps, "SHARDS", 2)
    monkeypatch.setattr(steps, "LEAST_SECONDS", 1.0)
    return folder


def outcomes(path):
    return {test.split("::")[1]: outcome for test, outcome in recorded(path).items()}


def test_every_test_gets_its_outcome_though_some_kill_their_process(suite, tmp_path):
    (suite / "test_it.py").write_text(SUITE)
    visit = load(tmp_path, 1, "cpu", "abc")
    outcome = steps.correctness(visit, 60)
    assert outcomes(tmp_path / "tests.jsonl") == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_skips": "skipped",
        "test_kills": "lost",
        "test_breaks_the_context": "failed",
        "test_after": "passed",
        "test_errors": "failed",
    }
    assert outcome.finished and not outcome.right
    assert "test_kills" in outcome.said


def test_a_second_call_goes_on_where_the_time_ended_the_first(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "SHARDS", 1)
    monkeypatch.setattr(steps, "GRACE", 9.0)
    (suite / "test_it.py").write_text(
        "import time, pytest\n@pytest.mark.parametrize('i', range(6))\ndef test_slow(i): time.sleep(1.5)\n"
    )
    first = steps.correctness(load(tmp_path, 1, "cpu", "abc"), 15)
    done = set(outcomes(tmp_path / "tests.jsonl"))
    assert not first.finished and first.right and 1 <= len(done) < 6
    second = steps.correctness(load(tmp_path, 1, "cpu", "abc"), 60)
    assert second.finished and second.right
    started = [json.loads(line) for line in (tmp_path / "tests.jsonl").read_text().splitlines()]
    starts = [row["test"] for row in started if row.get("outcome") == "started"]
    assert len(starts) == len(set(starts)) == 6


def test_a_test_that_hangs_is_named_and_not_tried_again(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "SHARDS", 1)
    (suite / "test_it.py").write_text("import time\ndef test_hangs(): time.sleep(600)\ndef test_good(): pass\n")
    start = time.monotonic()
    steps.correctness(load(tmp_path, 1, "cpu", "abc"), 8)
    assert time.monotonic() - start < 20
    assert outcomes(tmp_path / "tests.jsonl")["test_hangs"] == "lost"
    outcome = steps.correctness(load(tmp_path, 1, "cpu", "abc"), 30)
    assert outcomes(tmp_path / "tests.jsonl")["test_good"] == "passed"
    assert outcome.finished and not outcome.right


def test_finished_steps_stay_finished_and_a_new_commit_starts_anew(tmp_path, capsys):
    calls = []
    step = Step("one", 0.5, lambda visit, seconds: calls.append(seconds) or Outcome(len(calls) > 1, True, "said"))
    for _ in range(3):
        assert drive([step], load(tmp_path, 1, "cuda", "abc")) == 0
    assert len(calls) == 2
    assert "finished before" in capsys.readouterr().out
    drive([step], load(tmp_path, 1, "cuda", "other"))
    assert len(calls) == 3


def test_a_wrong_result_of_an_earlier_call_stays_in_the_exit_code(tmp_path):
    step = Step("one", 0.5, lambda visit, seconds: Outcome(True, False, "2 failed"))
    assert drive([step], load(tmp_path, 1, "cuda", "abc")) == 1
    assert drive([step], load(tmp_path, 1, "cuda", "abc")) == 1


def test_without_cuda_each_step_says_why_it_is_skipped(tmp_path, capsys):
    dry = ("-c", "print('parts are here')")
    assert drive([Step("one", 0.5, lambda v, s: pytest.fail("ran"), dry)], load(tmp_path, 1, "cpu", "abc")) == 0
    said = capsys.readouterr().out
    assert "one: skipped: no CUDA" in said and "parts are here" in said and "no CUDA: 1 steps skipped" in said


def test_without_cuda_a_part_that_is_broken_is_an_error(tmp_path):
    dry = ("-c", "import nothing_of_that_name")
    assert drive([Step("one", 0.5, lambda v, s: pytest.fail("ran"), dry)], load(tmp_path, 1, "cpu", "abc")) == 1


def test_rows_step_runs_and_resumes(tmp_path):
    step = steps.rows(
        "headline", "--set", "smoke", "--cases", "lenet/pool1/*", "--seconds", "0.1", "--providers", "ours"
    )
    outcome = step.work(load(tmp_path, 2, "cpu", "abc"), 90)
    assert outcome.finished and outcome.right, outcome.said
    found = rows.read(tmp_path / "headline.jsonl")
    assert {row["commit"] for row in found} == {"abc"}
    assert {row["case"] for row in found if row["metric"] == "wall"} == {
        "lenet/pool1/max_pool2d/inference/n2/fp32",
        "lenet/pool1/max_pool2d/training/n2/fp32",
    }
    before = len((tmp_path / "headline.jsonl").read_text().splitlines())
    assert "0 cases run, 2 there before" in step.work(load(tmp_path, 2, "cpu", "abc"), 90).said
    after = (tmp_path / "headline.jsonl").read_text().splitlines()
    assert all(json.loads(line)["metric"] == "limit" for line in after[before:])


def test_a_case_that_killed_its_process_is_recorded(tmp_path):
    (tmp_path / "headline.jsonl.at").write_text("lenet/pool1/max_pool2d/inference/n2/fp32")
    step = steps.rows(
        "headline", "--set", "smoke", "--cases", "lenet/pool1/*", "--seconds", "0.1", "--providers", "ours"
    )
    step.work(load(tmp_path, 2, "cpu", "abc"), 90)
    found = [row for row in rows.read(tmp_path / "headline.jsonl") if row["status"] == "failed"]
    assert [row["case"] for row in found] == ["lenet/pool1/max_pool2d/inference/n2/fp32"]


def test_the_command_on_this_machine(tmp_path):
    command = [sys.executable, "-m", "bench", "gpu", "--minutes", "1", "--out", str(tmp_path), "--steps", "memcheck"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    unknown = subprocess.run([*command[:-1], "nonsense"], capture_output=True, text=True, timeout=120, check=False)
    assert unknown.returncode == 2 and "nonsense is unknown" in unknown.stderr and "Traceback" not in unknown.stderr
