"""Write docs/how-a-cnn-reads-an-image.md and its pictures from real runs: `python docs/make_guide.py`.

Takes some minutes on a CPU. A Chromium is needed for the picture of the report; without one the old picture stays.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path
from string import Template
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cnn.__main__ import main as cnn  # noqa: E402

PICTURES = HERE / "pictures"
PAGE = HERE / "how-a-cnn-reads-an-image.md"
MODELS = {"mlp": "MLP", "lenet": "LeNet", "gap": "global max pool"}


def run(*words: str) -> dict[str, Any]:
    """One command of the package; its JSON answer."""
    print("cnn", *words, flush=True)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cnn([*words, "--json"])
    if code:
        raise SystemExit(f"cnn {' '.join(words)} ended with {code}")
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def keep(source: str | Path, name: str, every_colour: bool = False) -> None:
    """Copy a picture, with at most 256 colours (or all) and 1100 columns: small enough for a repository."""
    from PIL import Image

    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    if picture.width > 1100:
        picture = picture.resize((1100, round(picture.height * 1100 / picture.width)), Image.Resampling.LANCZOS)
    PICTURES.mkdir(exist_ok=True)
    if not every_colour:
        # This method keeps rare colours, such as thin coloured lines on white; the default drops them.
        picture = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(PICTURES / f"{name}.png", optimize=True)


def by_hand(folder: Path) -> dict[str, str]:
    """Pixels, filters, a convolution and a pool; no training."""
    from sklearn.datasets import __file__ as samples

    from cnn.pictures.walk import draw_windows

    flower = Path(samples).parent / "images" / "flower.jpg"
    run("pixels", "--digit", "3", "--output", f"{folder}/pixels.png")
    shape = run("pixels", str(flower), "--channels", "--output", f"{folder}/channels.png")["shape"]
    run("conv", "--output", f"{folder}/conv.png")
    run("pool", "--output", f"{folder}/pool.png")
    sobel = run("filter", "--filter", "sobel-x", "--output", f"{folder}/filter.png")
    maps = run("featuremaps", "--output", f"{folder}/photo")["pictures"]
    draw_windows(7, 3, 2, 1, 1, folder / "windows.png")
    for name in ("pixels", "channels", "conv", "windows", "pool", "filter"):
        keep(folder / f"{name}.png", name)
    for source, name in zip(maps, ("filternet-filters", "filternet-conv", None, "filternet-max"), strict=True):
        if name:
            keep(source, name)
    return {
        "photo_shape": " x ".join(map(str, shape)),
        "sobel_low": f"{sobel['min']:.2f}",
        "sobel_high": f"{sobel['max']:.2f}",
    }


def learned(folder: Path, epochs: int) -> dict[str, str]:
    """A trained LeNet: its filters, maps, costs and report."""
    trained = run(
        "train", "--augment", "--epochs", str(epochs), "--threads", "1", "--quiet", "--output", f"{folder}/lenet"
    )
    maps = run("featuremaps", "--checkpoint", trained["model"], "--output", f"{folder}/maps")["pictures"]
    wanted = {"01-conv1.conv-filters": "lenet-filters", "01-conv1.conv": "lenet-conv1", "05-conv2.relu": "lenet-conv2",
              "looks": "looks"}  # fmt: skip
    for source in maps:
        if Path(source).stem in wanted:
            keep(source, wanted[Path(source).stem])
    run("explain", "--checkpoint", trained["model"], "--output", f"{folder}/report.html")
    photograph(folder / "report.html", folder / "report.png")
    summary = run("summary")
    rows = [
        f"| {r['name']} | {' x '.join(map(str, r['shape']))} | {r['parameters']:,} | {r['multiply_adds']:,} | "
        f"{sees(r['receptive_field'])} |"
        for r in summary["layers"]
    ]
    shares = summary["connections"]["conv1.conv"]
    conv2 = next(r for r in summary["layers"] if r["name"] == "conv2.conv")
    return {
        "epochs": str(epochs),
        "train_count": f"{trained_on():,}",
        "accuracy": f"{trained['test_correct']} of {trained['test_total']}",
        "field": str(conv2["receptive_field"][0]),
        "summary_rows": "\n".join(rows),
        "parameters": f"{summary['parameters']:,}",
        "multiply_adds": f"{summary['multiply_adds']:,}",
        **{name: f"{shares[name]:,}" for name in ("dense", "local", "shared")},
    }


def trained_on() -> int:
    """Images in the training part of the digits."""
    from cnn.data import load_digits

    return len(load_digits().train_images)


def sees(field: list[int]) -> str:
    """A receptive field in pixels."""
    return "everything" if min(field) >= 28 else f"{field[0]} x {field[1]}"


def compared(folder: Path, epochs: int, seeds: int) -> dict[str, str]:
    """The experiments."""
    words = ["--epochs", str(epochs), "--seeds", str(seeds), "--threads", "1", "--output", str(folder / "compare")]
    result = run("compare", *words)
    for name in ("models", "shift", "permuted", "augmentation", "variants", "overfitting"):
        keep(folder / "compare" / f"{name}.png", name)
    base = {g["model"]: g for g in result["groups"] if not g["augment"] and not g["permuted"]}
    mixed = next(g for g in result["groups"] if g["model"] == "lenet" and g["permuted"])
    header = "| model | parameters | multiply-adds | right (lowest to highest) | moved 4 px sideways | up or down |"
    rows = [
        f"| {MODELS[n]} | {g['parameters']:,} | {g['multiply_adds']:,} | "
        f"{percent(g['mean'])} ({percent(g['lowest'])} to {percent(g['highest'])}) | "
        f"{percent(g['sideways'][-1])} | {percent(g['vertical'][-1])} |"
        for n, g in base.items()
    ]
    bird, curves = result["bird"], {d: e[-1] for d, e in result["overfitting"].items()}
    return {
        "seeds": str(seeds),
        "compare_epochs": str(epochs),
        "models_table": "\n".join([header, "|---|---|---|---|---|---|", *rows]),
        "fewer": f"{base['mlp']['parameters'] / base['lenet']['parameters']:.1f}",
        "mlp_shift": number(base["mlp"]["sideways"][-1]),
        "lenet_shift": number(base["lenet"]["sideways"][-1]),
        "gap_shift": number(base["gap"]["sideways"][-1]),
        "gap_vertical": number(base["gap"]["vertical"][-1]),
        "lenet_plain": number(base["lenet"]["mean"]),
        "lenet_scrambled": number(mixed["mean"]),
        "over_train": f"{curves['0.0']['loss']:.4f}",
        "over_test": f"{curves['0.0']['test_loss']:.4f}",
        "drop_train": f"{curves['0.2']['loss']:.4f}",
        "drop_test": f"{curves['0.2']['test_loss']:.4f}",
        "bird_inputs": f"{bird['inputs']:,}",
        "bird_weights": f"{bird['weights']:,}",
        "bird_factor": f"{bird['weights'] / 190e6:,.0f}",
        "bird_terabytes": f"{bird['bytes'] / 1e12:.0f}",
        "bird_conv": f"{bird['conv_parameters']:,}",
    }


def number(share: float) -> str:
    """A share as percent without the sign."""
    return f"{100 * share:.1f}"


def percent(share: float) -> str:
    """A share as percent."""
    return f"{100 * share:.2f} %"


def photograph(page: Path, picture: Path) -> None:
    """A picture of the report with one cell chosen, where Chromium and playwright are installed."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser = None
    if browser is None:
        print("no Chromium: the picture of the report stays as it is")
        return
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--headless", "--no-sandbox", "--disable-gpu"])
        tab = chromium.new_page(viewport={"width": 1100, "height": 800})
        tab.goto(page.as_uri())
        tab.evaluate("cnn.inspect(3, 2, 6, 5)")
        tab.evaluate("document.getElementById('layers').scrollIntoView({behavior: 'instant'})")
        tab.screenshot(path=str(picture))
        chromium.close()
    keep(picture, "report", every_colour=True)


def main() -> None:
    """Run everything, fill the template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40, help="of the LeNet that is shown")
    parser.add_argument("--compare-epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = by_hand(folder) | learned(folder, args.epochs) | compared(folder, args.compare_epochs, args.seeds)
    template = Template((HERE / "how-a-cnn-reads-an-image.template.md").read_text(encoding="utf-8"))
    PAGE.write_text(template.substitute(values), encoding="utf-8")
    print(f"wrote {PAGE} and {sum(p.stat().st_size for p in PICTURES.iterdir()):,} bytes of pictures")


if __name__ == "__main__":
    main()
