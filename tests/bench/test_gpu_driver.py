"""`python -m bench gpu`: steps bounded in time, resumed, and honest about tests that hang or kill their process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import rows
from bench.facts import ROOT
from bench.gpu import Outcome, Step, drive, load, shards, steps
from bench.gpu.pytest_rows import FIRST, LAST, recorded, shard_of

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
    monkeypatch.setattr(shards, "TESTS", str(folder))
    monkeypatch.setattr(shards, "SHARDS", 2)
    monkeypatch.setattr(shards, "LEAST_SECONDS", 1.0)
    return folder


def outcomes(path):
    return {test.split("::")[1]: outcome for test, outcome in recorded(path).items()}


def test_every_test_gets_its_outcome_though_some_kill_their_process(suite, tmp_path):
    (suite / "test_it.py").write_text(SUITE)
    visit = load(tmp_path, 1, "cpu", "abc")
    outcome = shards.correctness(visit, 60)
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
    monkeypatch.setattr(shards, "SHARDS", 1)
    monkeypatch.setattr(shards, "GRACE", 9.0)
    (suite / "test_it.py").write_text(
        "import time, pytest\n@pytest.mark.parametrize('i', range(6))\ndef test_slow(i): time.sleep(1.5)\n"
    )
    first = shards.correctness(load(tmp_path, 1, "cpu", "abc"), 15)
    done = set(outcomes(tmp_path / "tests.jsonl"))
    assert not first.finished and first.right and 1 <= len(done) < 6
    second = shards.correctness(load(tmp_path, 1, "cpu", "abc"), 60)
    assert second.finished and second.right
    started = [json.loads(line) for line in (tmp_path / "tests.jsonl").read_text().splitlines()]
    starts = [row["test"] for row in started if row.get("outcome") == "started"]
    assert len(starts) == len(set(starts)) == 6


def test_a_test_that_hangs_is_named_and_not_tried_again(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARDS", 1)
    monkeypatch.setattr(shards, "PATIENCE", 1.0)
    (suite / "test_it.py").write_text("import time\ndef test_hangs(): time.sleep(600)\ndef test_good(): pass\n")
    start = time.monotonic()
    shards.correctness(load(tmp_path, 1, "cpu", "abc"), 8)
    assert time.monotonic() - start < 20
    assert outcomes(tmp_path / "tests.jsonl")["test_hangs"] == "lost"
    outcome = shards.correctness(load(tmp_path, 1, "cpu", "abc"), 30)
    assert outcomes(tmp_path / "tests.jsonl")["test_good"] == "passed"
    assert outcome.finished and not outcome.right


def test_a_test_that_began_too_late_is_tried_again(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARDS", 1)
    once = f"import pathlib, time\ndone = pathlib.Path({str(tmp_path / 'once')!r})\n"
    wait = "def test_waits():\n    if not done.exists():\n        done.touch(), time.sleep(600)\n"
    (suite / "test_it.py").write_text(once + wait)
    first = shards.correctness(load(tmp_path, 1, "cpu", "abc"), 6)
    assert not first.finished and first.right and "1 stopped" in first.said
    second = shards.correctness(load(tmp_path, 1, "cpu", "abc"), 30)
    assert second.finished and second.right and second.said == "1 passed"


def test_a_shard_that_dies_starts_again_while_another_hangs(suite, tmp_path):
    """Else a broken context in one of them would cost it the rest of the call."""
    file = suite / "test_it.py"

    def named(name, shard):
        names = (f"test_{name}_{i}" for i in range(99))
        return next(n for n in names if shard_of(f"{os.path.relpath(file, ROOT)}::{n}", 2) == shard)

    kills, good, hangs = named("kills", 0), named("good", 0), named("hangs", 1)
    body = f"def {kills}(): os._exit(7)\ndef {good}(): pass\ndef {hangs}(): time.sleep(600)\n"
    file.write_text("import os, time\n" + body)
    shards.correctness(load(tmp_path, 1, "cpu", "abc"), 10)
    assert outcomes(tmp_path / "tests.jsonl") == {kills: "lost", good: "passed", hangs: "stopped"}


def test_the_most_telling_tests_come_first(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARDS", 1)
    (suite / "test_a.py").write_text(
        "import pytest\n@pytest.mark.parametrize('i', range(2))\ndef test_x(i): pass\n"
        "def test_y(): pass\n@pytest.mark.parametrize('path', ['cpu', 'triton'])\ndef test_z(path): pass\n"
    )
    for name in ("test_fuzz.py", "test_threads.py"):
        (suite / name).write_text("def test_it(): pass\n")
    assert shards.correctness(load(tmp_path, 1, "cpu", "abc"), 60).finished
    ran = [name.split("/")[-1] for name in recorded(tmp_path / "tests.jsonl")]
    others = ["test_x[0]", "test_y", "test_z[triton]", "test_x[1]"]
    want = ["test_threads.py::test_it", *(f"test_a.py::{name}" for name in others), "test_fuzz.py::test_it"]
    assert ran == want


@pytest.mark.parametrize("name", [*FIRST, *LAST])
def test_the_files_that_are_named_are_there(name):
    assert list((ROOT / "tests" / "kernels").rglob(name))


def test_a_file_that_cannot_be_read_costs_no_other_test(suite, tmp_path):
    (suite / "test_absent.py").write_text("import nothing_of_that_name\ndef test_it(): pass\n")
    (suite / "test_it.py").write_text("def test_good(): pass\n")
    outcome = shards.correctness(load(tmp_path, 1, "cpu", "abc"), 60)
    assert outcome.finished and not outcome.right and "1 failed, 1 passed" in outcome.said


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell no child of its parent's end")
def test_a_driver_that_is_killed_takes_its_child_along(tmp_path):
    start = f"from bench.gpu import child; import pathlib, time; log = pathlib.Path({str(tmp_path / 'log')!r})"
    wait = "print(child(['sleep', '600'], log).pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", f"{start}\n{wait}"], stdout=subprocess.PIPE, cwd=ROOT) as driver:
        assert driver.stdout is not None
        grandchild = int(driver.stdout.readline())
        os.kill(grandchild, 0)
        driver.kill()
    end = time.monotonic() + 10
    while _is_running(grandchild) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _is_running(grandchild)


def _is_running(process):
    status = Path(f"/proc/{process}/status")
    return status.exists() and "zombie" not in status.read_text()


def test_finished_steps_stay_finished_and_a_new_commit_starts_anew(tmp_path, capsys):
    calls = []
    step = Step("one", 0.5, lambda visit, seconds: calls.append(seconds) or Outcome(len(calls) > 1, True, "said"))
    for _ in range(3):
        assert drive([step], load(tmp_path, 1, "cuda", "abc")) == 0
    assert len(calls) == 2
    assert "finished before" in capsys.readouterr().out
    drive([step], load(tmp_path, 1, "cuda", "other"))
    assert len(calls) == 3


def test_a_step_waits_for_a_call_in_which_it_can_end(tmp_path, capsys):
    given = []
    step = Step("one", 0.1, lambda visit, seconds: given.append(seconds) or Outcome(True, True, "said"), least=90.0)
    assert drive([step], load(tmp_path, 1, "cuda", "abc")) == 0
    assert "one: waiting: no time left" in capsys.readouterr().out
    assert drive([step], load(tmp_path, 2, "cuda", "abc")) == 0
    assert given == [90.0]


def test_outcomes_of_another_commit_are_set_aside(tmp_path):
    load(tmp_path, 1, "cuda", "abc").save()
    (tmp_path / "tests.jsonl").write_text('{"test": "a", "outcome": "passed"}\n')
    load(tmp_path, 1, "cuda", "abc")
    assert recorded(tmp_path / "tests.jsonl") == {"a": "passed"}
    load(tmp_path, 1, "cuda", "other")
    assert recorded(tmp_path / "tests.jsonl") == {}
    assert recorded(tmp_path / "tests.jsonl.before") == {"a": "passed"}


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
    case, about = "vgg16/features.7/conv2d/wgrad/n64/fp16", {"metric": "device", "status": "ok", "unit": "us"}
    for provider, value in (("ours", 10.0), ("eager", 12.0)):
        more = {"value": value, "ratio": 12.0 / value, "layout": "nhwc", "kind": "cuda", "threads": 1, "date": ""}
        rows.append(tmp_path / "headline.jsonl", {"case": case, "provider": provider, **about, **more})
    command = [sys.executable, "-m", "bench", "gpu", "--minutes", "1", "--out", str(tmp_path), "--steps", "memcheck"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "in the geometric mean | 1.20x; 1.20x; 11 without a time |" in done.stdout
    (tmp_path / "headline.jsonl").write_text('{"case": "cut off')
    cut = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert cut.returncode == 0 and "no row of the headline is whole" in cut.stdout, cut.stderr
    unknown = subprocess.run([*command[:-1], "nonsense"], capture_output=True, text=True, timeout=120, check=False)
    assert unknown.returncode == 2 and "nonsense is unknown" in unknown.stderr and "Traceback" not in unknown.stderr
