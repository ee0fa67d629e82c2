"""Figures of a device, one message each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.report.data import NAMES, OURS, TORCH, Device, Timed
from bench.report.tables import heading

COLOURS = {
    "ours": "#d1495b",
    "eager": "#30638e",
    "compile": "#edae49",
    "onnxruntime": "#66a182",
    "eager_graph": "#8d96a3",
    "ours_graph": "#e08d9a",
    "compile_max": "#b07d2b",
    "compile_reduce": "#c9a227",
    "cudnn_fused": "#2e4057",
    "flaggems": "#7b5ea7",
}
MARKS = {
    "compile": "D",
    "onnxruntime": "s",
    "eager_graph": "^",
    "compile_max": "v",
    "compile_reduce": "<",
    "cudnn_fused": "P",
    "flaggems": "X",
}


def _axes(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)
    for ax in axes[0]:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    return figure, axes[0]


SHORT = {
    "conv2d_relu_pool2d": "conv+ReLU+pool",
    "conv2d_relu": "conv+ReLU",
    "conv2d": "conv",
    "max_pool2d": "max pool",
    "avg_pool2d": "average pool",
}


def _short(timed: Timed, with_work: bool = False) -> str:
    """The case in words: network, layer, function, batch; the pass only where a figure has several."""
    row = timed.row
    parts = str(row["case"]).split("/")
    layer = parts[1] if row["op"] != "network" else ""
    batch = f"batch {row['batch']}"
    work = row["work"] if with_work else ""
    precision = row["precision"] if row["precision"] != "fp32" else ""
    return " ".join(filter(None, [parts[0], layer, SHORT.get(str(row["op"]), ""), work, batch, precision]))


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path


def _ratio_axis(ax: Any, values: Sequence[float]) -> None:
    """A logarithmic axis of ratios with plain labels around the line of 1.0."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    low, high = min([*values, 0.9]), max([*values, 1.1])
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if low / 1.6 < t < high * 1.6]
    ax.set_xscale("log")
    ax.set_xlim(low / 1.25, high * 1.35)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xticklabels([f"{tick:g}x" for tick in ticks])
    ax.axvline(1.0, color="black", linewidth=1.2, zorder=3)


def _plain_ticks(axis: Any, marks: Sequence[int] = (1, 2, 5)) -> None:
    """These multiples of every power of ten on a logarithmic axis, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))


def speed_up(device: Device, works: Sequence[str], what: str) -> Any:
    """Bars: how many times faster than torch's better layout; marks: what the rivals reach."""
    shown = [t for t in device.timed() if t.row.get("work") in works and t.ratio() and t.row.get("network") != "sweep"]
    if not shown:
        return None
    figure, (ax,) = _axes(9, 1.6 + 0.26 * len(shown))
    places = range(len(shown) - 1, -1, -1)
    ratios = [t.ratio() or 1.0 for t in shown]
    ax.barh(places, [r - 1 for r in ratios], left=1.0, color=[_colour(t) for t in shown], height=0.66, zorder=2)
    lows, highs = zip(*(t.interval for t in shown), strict=True)
    ax.hlines(places, lows, highs, color="#444444", linewidth=0.9, zorder=4)
    # A very uncertain ratio must not squeeze the others together.
    values = [*ratios, *(max(low, r / 2) for low, r in zip(lows, ratios, strict=True))]
    values += [min(high, 2 * r) for high, r in zip(highs, ratios, strict=True)]
    for name, mark in MARKS.items():
        points = [(t.ratio(name), y) for t, y in zip(shown, places, strict=True)]
        known = [(ratio, y) for ratio, y in points if ratio]
        if known:
            style = {"marker": mark, "color": COLOURS[name], "edgecolor": "white", "linewidth": 0.5, "s": 34}
            ax.scatter(*zip(*known, strict=True), label=NAMES[name], zorder=5, **style)
            values += [ratio for ratio, _ in known]
    ax.set_yticks(list(places), [_short(t, len(works) > 1) for t in shown], fontsize=8)
    ax.set_ylim(-0.7, len(shown) - 0.3)
    _ratio_axis(ax, values)
    ax.set_xlabel("times as fast as torch eager in its better layout (line: 99 % interval)")
    ax.set_title(f"{what}: speed-up over torch\n{heading(device)}", fontsize=10)
    handles, labels = ax.get_legend_handles_labels()
    _standing_legend(ax, handles, labels)
    return figure


def _colour(timed: Timed) -> str:
    return {"faster": "#d1495b", "equal": "#bbbbbb", "slower": "#4a4e69"}[timed.standing]


def _standing_legend(ax: Any, handles: list[Any], labels: list[str]) -> None:
    from matplotlib.patches import Patch

    kinds = {"this package, faster": "#d1495b", "equal within the spread": "#bbbbbb", "slower": "#4a4e69"}
    patches = [Patch(color=colour) for colour in kinds.values()]
    ax.legend([*patches, *handles], [*kinds, *labels], fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def roofline(device: Device) -> Any:
    """FLOP/s against FLOPs a byte, under the measured limits: how far each convolution is from what is possible."""
    limits = {row["case"].removeprefix("limit/"): row["value"] for row in device.of("limit")}
    points = [t for t in device.timed() if t.by_provider.get(OURS, {}).get("flops") and t.row["op"] != "network"]
    if not points or "copy" not in limits:
        return None
    figure, (ax,) = _axes(8, 5)
    precisions = [p for p in ("fp32", "tf32", "fp16", "bf16") if any(t.row["precision"] == p for t in points)]
    intensities = [t.row["flops"] / t.row["bytes"] for t in points]
    span = [min(intensities) / 1.5, max(intensities) * 1.5]
    xs = [span[0] * (span[1] / span[0]) ** (i / 200) for i in range(201)]
    for name, marker, shown in ((OURS, "D", "this package"), (TORCH, "o", "torch")):
        rows = [t.by_provider[name] for t in points if name in t.by_provider]
        flops = [row["flops"] / row["value"] / 1e3 for row in rows]
        where = [row["flops"] / row["bytes"] for row in rows]
        ax.scatter(where, flops, s=26, marker=marker, color=COLOURS[name], alpha=0.8, label=shown, zorder=3)
    for precision in precisions:
        rate = limits[f"compute {precision}"] * 1e3
        ax.plot(xs, [min(rate, limits["copy"] * x) for x in xs], color="black", linewidth=1.2, zorder=2)
        ax.annotate(f"{precision} limit {rate:,.0f} GFLOP/s", (span[1], rate), ha="right", va="bottom", fontsize=8)
    # Above the middle of the slope, where no point can be.
    ridge = min(span[1], max(limits[f"compute {p}"] for p in precisions) * 1e3 / limits["copy"])
    middle = (span[0] * ridge) ** 0.5
    place = (middle / 1.1, limits["copy"] * middle * 1.15)
    ax.annotate(f"copy {limits['copy']:,.0f} GB/s", place, fontsize=8, ha="right", va="bottom")
    ax.set(xscale="log", yscale="log", xlabel="FLOPs per byte that must be moved", ylabel="GFLOP/s reached")
    ax.set_title(f"Convolutions under the measured roofline\n{heading(device)}", fontsize=10)
    ax.legend(fontsize=8, loc="lower right")
    return figure


def throughput(device: Device) -> Any:
    """LeNet: images a second against the batch."""
    panels = [
        (
            work,
            [
                t
                for t in device.timed("wall")
                if t.row["network"] == "lenet"
                and t.row["op"] == "network"
                and t.row["work"] == work
                and t.row["precision"] == "fp32"
            ],
        )
        for work in ("inference", "training")
    ]
    panels = [(work, sorted(found, key=lambda t: int(t.row["batch"]))) for work, found in panels if len(found) > 1]
    if not panels:
        return None
    figure, axes = _axes(5.2 * len(panels), 4, len(panels))
    for ax, (work, found) in zip(axes, panels, strict=True):
        for name in NAMES:
            rows = [t.by_provider[name] for t in found if name in t.by_provider]
            if rows:
                rate = [row["batch"] / row["value"] * 1e6 for row in rows]
                ax.plot(
                    [row["batch"] for row in rows], rate, "o-", color=COLOURS[name], label=NAMES[name], markersize=4
                )
        batches = [t.row["batch"] for t in found]
        ax.set(xscale="log", yscale="log", xlabel="images a batch", ylabel="images a second", title=f"LeNet {work}")
        ax.set_xticks(batches, [str(batch) for batch in batches])
        ax.minorticks_off()
        _plain_ticks(ax.yaxis)
        ax.legend(fontsize=8)
    figure.suptitle(f"{heading(device).replace('device time', 'wall time')}, float32", fontsize=10)
    return figure


def cost(device: Device) -> Any:
    """Time of a 3x3 convolution and ReLU against image size, and against channels."""
    found = [t for t in device.timed() if t.row.get("network") == "sweep" and t.by_provider]
    panels = [("size", "image side in pixels (32 channels)"), ("channels", "channels in and out (32x32 pixels)")]
    if len(found) < 4:
        return None
    figure, axes = _axes(10.4, 4, 2)
    for ax, (kind, label) in zip(axes, panels, strict=True):
        part = [t for t in found if f"/{kind}-" in t.case]
        xs = [int(t.case.split(f"/{kind}-")[1].split("/")[0]) for t in part]
        for name in NAMES:
            pairs = [(x, t.by_provider[name]["value"]) for x, t in zip(xs, part, strict=True) if name in t.by_provider]
            if pairs:
                ax.plot(*zip(*pairs, strict=True), "o-", color=COLOURS[name], label=NAMES[name], markersize=4)
        ax.plot(xs, [t.row["limit"] for t in part if "limit" in t.row], "--", color="black", label="measured limit")
        ax.set(xscale="log", yscale="log", xlabel=label, ylabel="µs a call")
        ax.set_xticks(xs, [str(x) for x in xs])
        ax.minorticks_off()
        _plain_ticks(ax.yaxis, (1,))
        ax.legend(fontsize=8)
    batch = found[0].row["batch"]
    figure.suptitle(f"3x3 convolution and ReLU, batch {batch}: cost against size\n{heading(device)}", fontsize=10)
    return figure


def against_onnx(device: Device) -> Any:
    """Bars: the CPU path's speed over ONNX Runtime's, inference."""
    shown = [t for t in device.timed("wall") if t.ratio(OURS, "onnxruntime") and t.row.get("network") != "sweep"]
    if not shown:
        return None
    figure, (ax,) = _axes(9, 1.4 + 0.26 * len(shown))
    places = list(range(len(shown) - 1, -1, -1))
    ratios = [t.ratio(OURS, "onnxruntime") or 1.0 for t in shown]
    colours = ["#d1495b" if r > 1 else "#4a4e69" for r in ratios]
    ax.barh(places, [r - 1 for r in ratios], left=1.0, color=colours, height=0.66, zorder=2)
    ax.set_yticks(places, [_short(t) for t in shown], fontsize=8)
    ax.set_ylim(-0.7, len(shown) - 0.3)
    _ratio_axis(ax, ratios)
    ax.set_xlabel("times as fast as ONNX Runtime (1x = equal)")
    ax.set_title(f"Inference: speed-up over ONNX Runtime\n{heading(device)}", fontsize=10)
    return figure


FIGURES: dict[str, Callable[[Device], Any]] = {
    "speed-up-inference": lambda device: speed_up(device, ("inference",), "Inference"),
    "speed-up-training": lambda device: speed_up(device, ("training", "fprop", "dgrad", "wgrad"), "Training"),
    "roofline": roofline,
    "lenet-throughput": throughput,
    "cost": cost,
    "onnxruntime": against_onnx,
}


def draw(device: Device, folder: Path) -> list[Path]:
    """Every figure that the device's rows can fill: folder/<device>-<figure>.png."""
    made = []
    for name, make in FIGURES.items():
        figure = make(device)
        if figure is not None:
            made.append(_save(figure, folder / f"{device.folder}-{name}.png"))
    return made
