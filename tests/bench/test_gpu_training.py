"""The training steps of `bench gpu`: runs kept between calls, five seeds judged by what they scatter."""

from __future__ import annotations

import json

from bench.gpu import load, training


def rows(fused, layers):
    pairs = (("--fused", fused), ("--no-fused", layers))
    return [{"seed": i, "form": form, "accuracy": a} for form, found in pairs for i, a in enumerate(found)]


def test_seeds_that_scatter_alike_are_equal():
    outcome = training.judged(rows([0.988, 0.990, 0.989], [0.989, 0.990, 0.987]))
    assert outcome.finished and outcome.right and "fused 98.90 % +- 0.10" in outcome.said


def test_a_form_that_reads_worse_is_an_error():
    assert not training.judged(rows([0.980, 0.981, 0.980], [0.989, 0.990, 0.989])).right


def test_a_second_call_trains_only_what_is_missing(tmp_path, monkeypatch):
    trained = []

    def fake(visit, seed, form, seconds):
        trained.append((seed, form))
        failed = len(trained) == 4
        return (None, "killed") if failed else ({"seed": seed, "form": form, "accuracy": 0.99 + 0.001 * seed}, "")

    monkeypatch.setattr(training, "_trained", fake)
    first = training.seeds(load(tmp_path, 1, "cuda", "abc"), 60)
    assert not first.finished and first.said == "killed"
    second = training.seeds(load(tmp_path, 1, "cuda", "abc"), 60)
    assert second.finished and second.right
    assert len(trained) == 11 and len(set(trained)) == 10
    assert len((tmp_path / "seeds.jsonl").read_text().splitlines()) == 10


def test_one_run_of_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "DATA", "digits")
    monkeypatch.setattr(training, "EPOCHS", 1)
    row, said = training._trained(load(tmp_path, 1, "cpu", "abc"), 3, "--fused", 60)
    assert row is not None and said == ""
    assert row["seed"] == 3 and 0.2 < row["accuracy"] <= 1
    assert json.dumps(row)
    assert training._trained(load(tmp_path, 1, "cpu", "abc"), -1, "--fusd", 60)[0] is None


def test_without_data_the_steps_say_so(monkeypatch):
    monkeypatch.delenv("MNIST_DIR", raising=False)
    assert {step.name for step in training.steps()} == {"seeds", "speedrun"}
    assert all("MNIST_DIR" in (step.absent() or "") for step in training.steps())
    monkeypatch.setenv("MNIST_DIR", "/somewhere")
    assert all(step.absent() is None for step in training.steps())
