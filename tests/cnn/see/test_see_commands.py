"""The commands that show: what they print, write, and answer to mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from cnn.__main__ import main
from cnn.data import Dataset
from cnn.models import LeNet

OWN = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, wide=3):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, wide, 3), nn.Linear(wide, 4)

    def forward(self, x):
        return self.out(torch.relu(self.conv(x)).amax((2, 3)))

class Needy(nn.Module):
    def __init__(self, wide):
        super().__init__()
"""


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main([*words, "--json"]) == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def handwriting(tmp_path: Path, digits: Dataset) -> Path:
    """A seven in dark ink on light paper, 300 pixels wide."""
    paper = 250 - 200 * torch.nn.functional.interpolate(digits.test_images[:1], size=(300, 300), mode="bilinear")
    path = tmp_path / "seven.png"
    Image.fromarray(paper[0, 0].byte().numpy()).save(path)
    return path


def test_explain_ones_own_handwriting(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path, handwriting: Path
) -> None:
    page = tmp_path / "report.html"
    result = answer(capsys, "explain", str(handwriting), "--checkpoint", str(checkpoint), "--output", str(page))
    assert result["prediction"] == "7"
    assert any("inverted" in str(note) for note in result["notes"])  # type: ignore[union-attr]
    assert page.stat().st_size < 600_000
    text = page.read_text()
    assert "epochs 4" in text
    assert "As it was found: 300 × 300 pixels; inverted" in text
    assert str(tmp_path) not in text.split('id="again"')[0]


def test_explain_a_persons_own_class(capsys: pytest.CaptureFixture[str], tmp_path: Path, handwriting: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    state = tmp_path / "own.pt"
    torch.save({"conv.weight": torch.zeros(3, 1, 3, 3), "conv.bias": torch.zeros(3), "out.weight": torch.zeros(4, 3),
                "out.bias": torch.tensor([0.0, 0, 9, 0])}, state)  # fmt: skip
    page = tmp_path / "own.html"
    words = [str(handwriting), "--model", f"{file}:Own", "--checkpoint", str(state), "--size", "16x20"]
    assert answer(capsys, "explain", *words, "--output", str(page))["prediction"] == "2"
    assert "conv.relu" in page.read_text()
    summary = answer(capsys, "summary", "--model", f"{file}:Own", "--size", "16x20")
    assert summary["parameters"] == 30 + 16
    assert summary["connections"]["conv"]["shared"] == 30  # type: ignore[index]


def test_featuremaps_of_the_photo_and_of_a_trained_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path
) -> None:
    photo = answer(capsys, "featuremaps", "--output", str(tmp_path / "photo"))
    assert photo["shapes"] == {"conv.conv": [4, 597, 509], "conv.relu": [4, 597, 509], "conv.max": [4, 298, 254]}
    trained = answer(capsys, "featuremaps", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "trained"))
    assert list(trained["shapes"]) == ["conv1.conv", "conv1.relu", "conv1.max", "conv2.conv", "conv2.relu", "conv2.max"]  # type: ignore[call-overload]
    for pictures, count in ((photo["pictures"], 4), (trained["pictures"], 8)):
        assert len(pictures) == count  # type: ignore[arg-type]
        assert all(Path(p).stat().st_size > 3_000 for p in pictures)  # type: ignore[attr-defined]


def test_conv_and_pool(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    conv = answer(capsys, "conv", "--input", "1 2 3; 4 5 6; 7 8 9", "--kernel", "-1 1; 0 2", "--bias", "0.5",
                  "--output", str(tmp_path / "conv.svg"), "--windows", str(tmp_path / "windows.svg"))  # fmt: skip
    assert conv["output"] == [[11.5, 13.5], [17.5, 19.5]]
    assert (tmp_path / "windows.svg").exists()
    assert answer(capsys, "pool", "--output", str(tmp_path / "p.png"))["output"] == [[6, 5], [7, 9]]
    mean = answer(capsys, "pool", "--kind", "avg", "--output", str(tmp_path / "p.gif"))
    assert mean["output"] == [[3.5, 2], [2.5, 6]]
    with Image.open(tmp_path / "p.gif") as moving:
        assert moving.n_frames == 4  # type: ignore[attr-defined]
    assert main(["pool", "--output", str(tmp_path / "p.png")]) == 0
    assert "largest of 1, 3, 4, 6 is 6" in capsys.readouterr().out


def test_pixels_and_filter(capsys: pytest.CaptureFixture[str], tmp_path: Path, handwriting: Path) -> None:
    digit = answer(capsys, "pixels", "--digit", "3", "--output", str(tmp_path / "3.png"))
    assert (digit["shape"], digit["min"], digit["max"]) == ([1, 28, 28], 0, 1)
    own = answer(capsys, "pixels", str(handwriting), "--size", "20", "--output", str(tmp_path / "own.png"))
    assert own["shape"] == [1, 20, 20]
    filtered = answer(capsys, "filter", str(handwriting), "--matrix", "0 0; 0 2", "--output", str(tmp_path / "f.png"))
    assert filtered["max"] == pytest.approx(2 * 250 / 255, abs=0.01)
    assert answer(capsys, "filter", "--filter", "edge", "--output", str(tmp_path / "e.svg"))["min"] < -1  # type: ignore[operator]


def test_compare_writes_what_it_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--epochs", "1", "--seeds", "1", "--limit", "120", "--threads", "1", "--output", str(tmp_path)]
    result = answer(capsys, "compare", *words)
    assert len(result["groups"]) == 3 + 3 + 2  # type: ignore[arg-type]
    assert result["bird"]["weights"] == 187_786_260_000_000  # type: ignore[index]
    written = {p.name for p in tmp_path.iterdir()}
    names = ("models", "shift", "permuted", "augmentation", "variants", "overfitting")
    assert written == {f"{name}.png" for name in names} | {"results.json"}
    assert main(["compare", "bird", "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "18,778,626" in text
    assert "988,349" in text


MISTAKES = {
    "explain": "name a model: --checkpoint",
    "explain gone.png --checkpoint {lenet}": "gone.png: No such file",
    "explain {text} --checkpoint {lenet}": "not an image",
    "explain --checkpoint {text}": "not made of plain tensors",
    "explain --checkpoint {lenet} --model mlp": "holds the model lenet, not mlp",
    "explain --checkpoint {lenet} --index 360": "--index 360",
    "explain --checkpoint {lenet} --size 8x8": "--size and --colour belong to",
    "explain --model {own}:Nobody": "no torch.nn.Module class named 'Nobody'",
    "explain --model {own}:Needy": "cannot be built without arguments",
    "explain --model {text}:Own": "not a Python file",
    "explain --model {bad}:Own": "SyntaxError",
    "explain --model gone.py:Own": "gone.py: no such file",
    "explain --model {own}:Own --checkpoint {lenet}": "does not fit Own",
    "explain --model {own}:Own --checkpoint {text}": "not made of plain tensors",
    "explain --model {own}:Own --size 9": "write rows x columns",
    "summary --model vgg": "model 'vgg' is unknown",
    "conv --kernel x": "matrix: cannot read 'x'",
    "conv --kernel 1;2;3;4;5;6": "a window of 6 does not fit into 5",
    "conv --stride 0": "stride 0",
    "conv --output conv.bmp": "a picture ends in .png or .svg",
    "pool --kernel 5": "a window of 5 does not fit into 4",
    "pixels --digit x": "--digit x: digits has the classes 0, 1",
    "pixels {photo} --size 99": "too many to annotate",
    "pixels --channels": "--channels needs an IMAGE",
    "filter gone.png": "gone.png: No such file",
    "featuremaps --checkpoint gone.pt": "gone.pt: No such file",
    "compare speed": "experiment 'speed' is not known",
    "compare --seeds 0": "--seeds must be at least 1",
    "compare --epochs 0": "--epochs must be at least 1",
    "explain --checkpoint {lenet} --device warp": "no such kind of device",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "bad.py").write_text("class Own(")
    (tmp_path / "text.txt").write_text("certainly no picture")
    Image.new("L", (200, 100)).save(tmp_path / "photo.png")
    places = {"lenet": str(checkpoint), "own": "own.py", "bad": "bad.py", "text": "text.txt", "photo": "photo.png"}
    try:
        code = main([word.format(**places) for word in words.split()])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    printed = capsys.readouterr()
    assert code == 2, printed
    assert MISTAKES[words] in printed.err
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err


def test_a_state_dict_that_would_run_code_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, lenet: LeNet
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    torch.save(lenet, tmp_path / "whole.pt")
    assert main(["explain", "--model", f"{tmp_path}/own.py:Own", "--checkpoint", f"{tmp_path}/whole.pt"]) == 2
    assert "refused" in capsys.readouterr().err
