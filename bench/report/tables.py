"""Markdown tables: every case of a device, and the short one for the README."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatch

from bench.report.data import FUSED, NAMES, OURS, TORCH, Device, Timed, amount, versions
from bench.report.goals import table as goals

# The README's rows, chosen before anything was measured; losing cases are added to them.
CHIEF = (
    "lenet/inference/n1/fp32",
    "lenet/inference/n64/fp32",
    "lenet/inference/n1024/fp32",
    "lenet/inference/n65536/fp32",
    "lenet/training/n1/fp32",
    "lenet/training/n64/fp32",
    "lenet/training/n1024/fp32",
    "lenet/training/n65536/fp32",
    "lenet/conv1/conv2d_relu_pool2d/inference/*",
    "lenet/pool1/max_pool2d/training/*",
    "resnet50/layer3.1.conv2/conv2d_relu/inference/*",
    "vgg16/features.2/conv2d_relu_pool2d/inference/*",
    "mobilenetv2/features.5.conv.1.0/conv2d/inference/*",
    "vgg_like/training/*",
    "resnet_like/training/*",
)
MOST_LOSSES = 6
RIVALS = (
    TORCH,
    "compile",
    "compile_reduce",
    "compile_max",
    "eager_graph",
    "ours_graph",
    "cudnn_fused",
    "onnxruntime",
    "flaggems",
)


def time_of(timed: Timed, provider: str, layout: bool = True) -> str:
    """A cell: time, spread, memory format; a dash without a time."""
    row = timed.by_provider.get(provider)
    if row is None:
        return "–"
    where = f" {row['layout'].upper()}" if layout else ""
    return f"{amount(row['value'])} ±{100 * row['spread']:.0f} %{where}"


def ratio_of(timed: Timed, provider: str = OURS, base: str = TORCH) -> str:
    """A cell: how many times faster."""
    ratio = timed.ratio(provider, base)
    if ratio is None:
        return "–"
    if (provider, base) != (OURS, TORCH):
        return f"{ratio:.2f}x"
    low, high = timed.interval
    return f"**{ratio:.2f}x** ({low:.2f} to {high:.2f})"


def standing(device: Device) -> str:
    """One sentence on how the cases went."""
    counts = Counter(timed.standing for timed in device.timed())
    total = counts["faster"] + counts["equal"] + counts["slower"]
    missing = f"; {counts['missing']} have no time of both" if counts["missing"] else ""
    return (
        f"Of {total} cases this package is faster than torch's better layout in {counts['faster']}, "
        f"equal within 3 % or the spread in {counts['equal']}, slower in {counts['slower']}{missing}."
    )


def heading(device: Device) -> str:
    """The device in words: a CPU is called one."""
    about = device.about
    if about["kind"] == "cuda":
        return f"{about['device']} (GPU, device time)"
    threads = f"{device.threads} thread{'s' if device.threads != 1 else ''}"
    return f"{about['device']} (CPU, {threads}, wall time)"


def full(device: Device) -> str:
    """Every row of a device."""
    lines = [f"# {heading(device)}", "", standing(device), "", *provenance(device), ""]
    if device.about["kind"] == "cuda":
        lines += [goals(device), ""]
    present = [name for name in RIVALS if any(name in timed.by_provider for timed in device.timed())]
    lines += _limits(device)
    columns = ["case", "this package", *(NAMES[name] for name in present), "against torch", "share of limit"]
    lines += ["", *_table_head(columns)]
    for timed in device.timed():
        cells = [time_of(timed, name) for name in (OURS, *present)]
        ours = timed.by_provider.get(OURS, {})
        share = f"{100 * ours['share']:.0f} % {ours['bound']}" if "share" in ours else "–"
        lines.append("| " + " | ".join([timed.case, *cells, ratio_of(timed), share]) + " |")
    lines += ["", *_launches(device), *_others(device), *_faults(device)]
    return "\n".join(lines).rstrip() + "\n"


def provenance(device: Device) -> list[str]:
    """Commits, dates, driver and versions of the rows."""
    commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in device.rows))
    dates = sorted(str(row["date"])[:10] for row in device.rows)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return [
        "Medians; ± is half the distance from the 10th to the 90th percentile; a ratio is the median of the turns "
        f"that both took, with its 99 % interval. Measured {when} at {commits}; driver {device.about['driver']}; "
        f"{versions(device.about)}.",
        "The limit is the larger of FLOPs over the measured matrix rate and least bytes over the measured copy "
        "bandwidth; a case that fits in the caches can exceed it.",
    ]


def _table_head(columns: list[str]) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]


def _limits(device: Device) -> list[str]:
    cells = [f"{row['case'].removeprefix('limit/')} {row['value']:.3g} {row['unit']}" for row in device.of("limit")]
    return [f"Measured limits: {', '.join(cells)}."] if cells else []


def _launches(device: Device) -> list[str]:
    """What networks start on a card: the host's launches, the kernels, and the kernels' own time beside wall time."""
    networks = [timed for timed in device.timed() if timed.row["op"] == "network"]
    found = [(timed.case, row) for timed in networks for row in timed.by_provider.values() if "launches" in row]
    if not found:
        return []
    wall = {timed.case: timed.by_provider for timed in device.timed("wall")}
    lines = _table_head(["network", "provider", "launches a step", "kernels", "kernel time", "wall time"])
    for case, row in found:
        name = OURS if row["provider"] == FUSED else row["provider"]
        waited = wall.get(case, {}).get(name, {}).get("value")
        cells = [case, f"{NAMES.get(name, name)} {row['layout'].upper()}", row["launches"], row["kernels"]]
        cells += [amount(row["kernel_us"]), "–" if waited is None else amount(waited)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*lines, ""]


def _others(device: Device) -> list[str]:
    """Cold start, memory and host cost, and what other commands measured: rows of their own."""
    found = device.others()
    if not found:
        return []
    lines = _table_head(["cold start, memory, host cost and more", "provider", "value", "runs"])
    for row in found:
        who = " ".join(filter(None, [NAMES.get(row["provider"], row["provider"]), row["layout"].upper()]))
        value = f"{row['value']:.4g} {row['unit'].replace('us', 'µs')} ±{100 * row['spread']:.0f} %"
        note = " (host)" if row["metric"] == "host" else ""
        threads = "" if row["threads"] == device.threads else f", {row['threads']} threads"
        lines.append(f"| {row['case']}{note}{threads} | {who} | {value} | {row.get('runs', row.get('seeds', ''))} |")
    return [*lines, ""]


def _faults(device: Device) -> list[str]:
    faults = [f"- {timed.case}: {fault}" for timed in device.timed() for fault in timed.faults]
    return ["Not timed:", "", *faults] if faults else []


def chief(device: Device) -> str:
    """The README's table: the cases of CHIEF and the cases lost, worst first."""
    everything = device.timed()
    known = [t for t in everything if any(fnmatch(t.case, pattern) for pattern in CHIEF) and t.ratio() is not None]
    lost = sorted((t for t in everything if t.standing == "slower" and t not in known), key=lambda t: t.ratio() or 0)
    shown = known + lost[:MOST_LOSSES]
    rivals = [name for name in ("compile", "onnxruntime", "eager_graph") if any(name in t.by_provider for t in shown)]
    columns = ["case", "this package", "torch, better layout", "speed-up", *(f"over {NAMES[name]}" for name in rivals)]
    lines = [f"**{heading(device)}.** {standing(device)}", "", *_table_head(columns)]
    for timed in shown:
        cells = [time_of(timed, OURS, False), time_of(timed, TORCH, False), ratio_of(timed)]
        lines.append("| " + " | ".join([timed.case, *cells, *(ratio_of(timed, OURS, r) for r in rivals)]) + " |")
    if len(lost) > MOST_LOSSES:
        lines += ["", f"Cases lost beside these, in the full table: {len(lost) - MOST_LOSSES}."]
    return "\n".join(lines)
