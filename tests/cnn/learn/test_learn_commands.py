"""The commands train, evaluate, predict and demo, as a person types them; their mistakes in one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnn.data import Dataset
from cnn.learn.checkpoint import Checkpoint, load, save
from cnn.learn.session import Outcome
from cnn.models import GapCNN
from tests.cnn.learn.conftest import Cli

ROOT = Path(__file__).parents[3]


def command(*args: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", **variables}
    line = [sys.executable, "-m", "cnn", *map(str, args)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def model(trained: Outcome) -> Path:
    return trained.folder / "model.pt"


def test_train_evaluate_and_predict_tell_the_same(cli: Cli, tmp_path: Path) -> None:
    small = ("--limit", 200, "--device", "cpu", "--threads", 1)
    code, out, err = cli("train", "--epochs", 3, *small, "--output", tmp_path, "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["epochs"], result["parameters"], result["test_total"]) == (3, 61706, 200)
    assert err.count("images/s") >= 3
    assert "61,706 parameters, on cpu" in err
    assert all(Path(result[name]).is_file() for name in ("model", "curve", "log"))
    code, out, _ = cli("evaluate", "--checkpoint", result["model"], *small, "--json")
    judged = json.loads(out)
    assert code == 0
    assert judged["test_correct"] == result["test_correct"]
    assert judged["test_loss"] == pytest.approx(result["test_loss"], rel=1e-5)
    assert np.array(judged["confusion"]).trace() == judged["test_correct"]
    code, out, _ = cli("predict", "--checkpoint", result["model"], "--data", "digits", *small, "--json")
    predicted = json.loads(out)
    assert (predicted["correct"], predicted["total"]) == (result["test_correct"], 200)
    wrong = [entry["index"] for entry in predicted["predictions"] if entry["prediction"] != entry["label"]]
    assert wrong == judged["wrong"]


def test_text_has_counts_and_words(cli: Cli, model: Path, trained: Outcome, tmp_path: Path) -> None:
    code, out, _ = cli("evaluate", "--checkpoint", model, "--output", tmp_path)
    assert code == 0
    assert f"test accuracy {trained.last.test_correct}/360 = " in out
    assert "taken for" in out
    assert (tmp_path / "confusion.png").stat().st_size > 10_000
    code, out, _ = cli("predict", "--checkpoint", model, "--index", 0, 5, "--topk", 2)
    assert code == 0
    assert out.startswith("0: 7 (")
    assert out.splitlines()[0].count("%)") == 2
    assert out.splitlines()[-1].endswith("right")


def test_predict_reads_own_images(cli: Cli, model: Path, digits: Dataset, tmp_path: Path) -> None:
    pixels = (digits.test_images[0, 0] * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "light.png")
    Image.fromarray(255 - pixels).convert("RGB").save(tmp_path / "dark.png")
    code, out, _ = cli("predict", "--checkpoint", model, tmp_path / "light.png", tmp_path / "dark.png", "--json")
    assert code == 0
    light, dark = json.loads(out)["predictions"]
    assert light["notes"] == []
    assert "inverted" in dark["notes"][0]
    assert light["prediction"] == dark["prediction"] == "7"
    assert light["top"][0][1] == pytest.approx(dark["top"][0][1], abs=1e-3)
    _, text, _ = cli("predict", "--checkpoint", model, tmp_path / "dark.png", "--topk", 99)
    assert text.splitlines()[0].count("%)") == 10
    assert text.splitlines()[1] == "  inverted: dark ink on a light ground"


def test_resume_keeps_the_settings_of_the_run(cli: Cli, tmp_path: Path) -> None:
    small = ("--limit", 60, "--device", "cpu", "--threads", 1, "--quiet", "--json")
    code, out, err = cli("train", "--epochs", 3, "--pool", "avg", "--augment", *small, "--output", tmp_path)
    assert (code, err) == (0, "")
    whole = load(tmp_path / "model.pt")
    assert whole.config["pool"] == "avg"
    flags = ("--resume", tmp_path / "model.pt")
    for extra, message in (
        (("--epochs", 9), "--epochs 9: the run in .*model.pt has 3; a resumed run keeps its settings"),
        (("--pool", "max"), "--pool max: the run in .*model.pt has avg"),
        (("--no-augment",), "--augment False: .*has True"),
        (("--model", "mlp"), "holds the model lenet, not mlp"),
        ((), "nothing left to resume: all 3 epochs are done"),
    ):
        code, out, err = cli("train", *flags, *extra, "--device", "cpu")
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert re.search(message, err), err


def test_an_interrupted_command_resumes_to_the_same_bits(cli: Cli, tmp_path: Path) -> None:
    """A real process, killed after its second epoch was logged."""
    flags = ("--epochs", 60, "--limit", 300, "--device", "cpu", "--threads", 1, "--augment")
    assert cli("train", *flags, "--output", tmp_path / "whole", "--quiet")[0] == 0
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    line = [sys.executable, "-m", "cnn", "train", *flags, "--output", tmp_path / "cut"]
    process = subprocess.Popen(list(map(str, line)), env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for text in process.stderr:
        if text.startswith("epoch  2/60"):
            process.kill()
            break
    process.wait()
    process.stderr.close()
    done = len(load(tmp_path / "cut" / "model.pt").history)
    assert 2 <= done < 60
    assert cli("train", "--resume", tmp_path / "cut" / "model.pt", "--device", "cpu", "--threads", 1)[0] == 0
    whole, resumed = (load(tmp_path / part / "model.pt").state_dict for part in ("whole", "cut"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_demo_writes_model_curve_and_maps(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("demo", "--epochs", 1, "--limit", 100, "--output", tmp_path, "--threads", 1)
    assert code == 0
    assert "61,706 parameters" in out
    assert " s\n" in out
    assert "epoch 1/1" in err
    assert load(tmp_path / "model.pt").settings["augment"] is True
    for name in ("curve.png", "maps.png"):
        assert Image.open(tmp_path / name).size[0] >= 1000
        assert str(tmp_path / name) in out


@pytest.mark.slow
def test_the_demo_reaches_98_percent(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("demo", "--output", tmp_path, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["epochs"], result["test_total"]) == (20, 360)
    assert result["test_accuracy"] >= 0.98
    assert result["seconds"] < 120


@pytest.mark.slow
def test_mnist_learns_in_one_epoch(cli: Cli, mnist_dir: Path, tmp_path: Path) -> None:
    code, out, _ = cli("train", "--data", mnist_dir, "--epochs", 1, "--device", "cpu", "--output", tmp_path, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["test_total"] == 10000
    assert result["test_accuracy"] > 0.97
    _, out, _ = cli("evaluate", "--checkpoint", result["model"], "--device", "cpu", "--json")
    assert json.loads(out)["test_correct"] == result["test_correct"]


MISTAKES = {
    "a missing checkpoint": (("evaluate", "--checkpoint", "no.pt"), "no.pt: No such file or directory"),
    "a folder as checkpoint": (("evaluate", "--checkpoint", "."), "Is a directory|ermission denied"),
    "another model": (("evaluate", "--checkpoint", "gap.pt", "--model", "lenet"), "holds the model gap, not lenet"),
    "other classes": (("evaluate", "--checkpoint", "two.pt"), "digits has the classes .* the checkpoint's gap"),
    "a text as checkpoint": (("predict", "--checkpoint", "text.png", "text.png"), "text.png: (refused|not a check)"),
    "a missing image": (("predict", "--checkpoint", "gap.pt", "no.png"), "no.png: No such file"),
    "a text as image": (("predict", "--checkpoint", "gap.pt", "text.png"), "text.png: not an image"),
    "no image": (("predict", "--checkpoint", "gap.pt"), "name either images"),
    "two sources": (("predict", "--checkpoint", "gap.pt", "text.png", "--index", 1), "name either images"),
    "a place beyond": (("predict", "--checkpoint", "gap.pt", "--index", 360), "--index 360: .*places 0 to 359"),
    "topk 0": (("predict", "--checkpoint", "gap.pt", "--index", 1, "--topk", 0), "--topk must be at least 1, not 0"),
    "missing data": (("train", "--data", "nowhere"), "nowhere: no such directory"),
    "a file as data": (("train", "--data", "text.png"), "text.png: not a directory"),
    "MNIST from nowhere": (("train", "--data", "mnist"), "set MNIST_DIR"),
    "no CUDA": (
        ("train", "--device", "cuda:99"),
        "--device cuda:99: torch .* finds . CUDA devices here; use --device cpu",
    ),
    "an unknown device": (("train", "--device", "gpu"), "--device gpu: no such kind of device"),
    "no threads": (("train", "--threads", 0), "--threads must be at least 1, not 0"),
    "a limit of 0": (("train", "--limit", 0, "--device", "cpu"), "--limit must be at least 1, not 0"),
    "no epochs": (("train", "--epochs", 0), "--epochs must be at least 1, not 0"),
    "a word as number": (("train", "--epochs", "many"), "argument --epochs: invalid int value: 'many'"),
    "an exploding run": (
        ("train", "--lr", 1e9, "--limit", 90, "--device", "cpu", "--quiet", "--output", "x"),
        "the loss became .* try a lower --lr than 1e.09",
    ),
    "an output that is a file": (
        ("train", "--limit", 9, "--quiet", "--device", "cpu", "--output", "text.png"),
        "text.png: File exists|text.png: Not a directory",
    ),
    "an unknown command": (("fly",), "invalid choice: 'fly'"),
    "an unknown backend": (("train", "--backend", "magic"), "invalid choice: 'magic'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    case: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args, message = MISTAKES[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MNIST_DIR", raising=False)
    Path("text.png").write_text("hello")
    save(Checkpoint.of(GapCNN(), list("0123456789")), Path("gap.pt"))
    save(Checkpoint.of(GapCNN(2), ["a", "b"]), Path("two.pt"))
    code, out, err = cli(*args)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert re.search(message, err), err


def test_a_real_process_answers_and_fails_as_promised(tmp_path: Path) -> None:
    shown = command("--help")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("train", "evaluate", "predict", "demo"))
    failed = command("evaluate", "--checkpoint", tmp_path / "none.pt")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "Traceback" not in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_triton_asked_for_where_it_cannot_run_is_one_line(tmp_path: Path) -> None:
    flags = ("--backend", "triton", "--device", "cpu", "--limit", 9, "--quiet", "--output", tmp_path)
    failed = command("train", *flags, TRITON_INTERPRET="0")
    assert failed.returncode == 2
    assert "TRITON_INTERPRET=1" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_help_loads_no_heavy_library() -> None:
    code = "import sys; from cnn.__main__ import parser; parser().format_help(); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "sklearn", "matplotlib", "PIL"} & set(done.stdout.split())
