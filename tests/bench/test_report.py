"""Tables say what the rows say, losing rows among them; the README's block equals the committed rows."""

from __future__ import annotations

import json
import subprocess
import sys
from fnmatch import fnmatch

import pytest

from bench import rows
from bench.cases.sets import cases
from bench.facts import RESULTS, ROOT
from bench.report import goals, readme
from bench.report.data import Device, amount, devices
from bench.report.figures import FIGURES, draw
from bench.report.tables import chief, full
from cnn.errors import UserError


def row(case, provider, value, layout="nchw", **more):
    network, *_ = case.split("/")
    known = {"network": network, "op": "network", "work": case.split("/")[-3], "batch": 1, "precision": "fp32"}
    about = {
        "device": "A CPU",
        "kind": "cpu",
        "threads": 2,
        "driver": "Linux",
        "commit": "abc",
        "versions": {"torch": "2"},
    }
    timing = {
        "metric": "wall",
        "status": "ok",
        "value": value,
        "unit": "us",
        "low": value,
        "high": value,
        "spread": 0.02,
    }
    made = {"case": case, "provider": provider, "layout": layout, "path": "", "date": "2026-01-01T00:00:00Z"}
    return {**known, **about, **timing, **made, **more}


def device(*found):
    """Rows as a run writes them: each with its ratio to torch's best of the same case and run, known to 1 %."""

    def complete(made):
        base = [
            r["value"]
            for r in found
            if r["provider"] == "eager" and (r["case"], r["date"]) == (made["case"], made["date"])
        ]
        if not base or "value" not in made:
            return made
        ratio = min(base) / made["value"]
        return {**made, "ratio": ratio, "ratio_low": ratio * 0.99, "ratio_high": ratio * 1.01}

    return Device("a-cpu", rows.newest([complete(made) for made in found]))


FAST, SLOW = "lenet/inference/n1/fp32", "alexnet/features.0/conv2d/inference/n1/fp32"


def test_the_better_layout_of_each_is_compared():
    made = device(
        row(FAST, "ours", 30.0),
        row(FAST, "ours", 20.0, "nhwc"),
        row(FAST, "eager", 50.0),
        row(FAST, "eager", 40.0, "nhwc"),
    )
    (timed,) = made.timed()
    assert timed.ratio() == 2.0 and timed.standing == "faster"
    assert timed.by_provider["ours"]["layout"] == "nhwc"


@pytest.mark.parametrize(
    ("value", "standing"), [(80.0, "faster"), (97.0, "equal"), (103.0, "equal"), (120.0, "slower")]
)
def test_standing_is_judged_beyond_both_spreads(value, standing):
    assert device(row(FAST, "ours", value), row(FAST, "eager", 100.0)).timed()[0].standing == standing


def test_losing_rows_are_in_the_readme_s_table():
    found = chief(
        device(row(FAST, "ours", 10.0), row(FAST, "eager", 20.0), row(SLOW, "ours", 30.0), row(SLOW, "eager", 20.0))
    )
    assert f"| {FAST} | 10 µs ±2 % | 20 µs ±2 % | **2.00x** (1.98 to 2.02) |" in found
    assert f"| {SLOW} | 30 µs ±2 % | 20 µs ±2 % | **0.67x** (0.66 to 0.67) |" in found
    assert "faster than torch's better layout in 1, equal within 3 % or the spread in 0, slower in 1" in found


def test_ratios_of_different_runs_meet_through_torch_of_each_run():
    """The machine was twice as fast on the second day; that must not look like a faster rival."""
    later = {"date": "2026-01-02T00:00:00Z"}
    made = device(
        row(FAST, "compile", 80.0),
        row(FAST, "eager", 100.0),
        row(FAST, "ours", 50.0, **later),
        row(FAST, "eager", 50.0, **later),
    )
    (timed,) = made.timed()
    assert timed.ratio() == 1.0 and timed.standing == "equal"
    assert timed.ratio("ours", "compile") == pytest.approx(0.8)


def test_wrong_providers_are_printed_and_have_no_time():
    wrong = row(FAST, "compile", 1.0, status="wrong", reason="weight gradient has relative error 1")
    del wrong["value"]
    text = full(device(row(FAST, "ours", 10.0), row(FAST, "eager", 20.0), wrong))
    assert f"- {FAST}: compile/nchw wrong: weight gradient has relative error 1" in text


def test_a_cpu_is_called_a_cpu_and_never_shares_a_folder_with_a_card(tmp_path):
    assert "(CPU, 2 threads, wall time)" in full(device(row(FAST, "ours", 10.0), row(FAST, "eager", 20.0)))
    folder = tmp_path / "a-cpu"
    rows.append(folder / "rows.jsonl", row(FAST, "ours", 10.0))
    rows.append(folder / "rows.jsonl", row(FAST, "eager", 10.0, kind="cuda", device="A card"))
    with pytest.raises(UserError, match="different devices"):
        devices(tmp_path)


def test_newer_rows_replace_older_ones_and_a_cut_line_is_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows.append(path, row(FAST, "ours", 10.0))
    rows.append(path, row(FAST, "ours", 12.0, date="2026-01-02T00:00:00Z"))
    with path.open("a") as file:
        file.write('{"case": "cut')
    assert [r["value"] for r in rows.read(path)] == [12.0]
    with path.open("a") as file:
        file.write("\n" + json.dumps(row(FAST, "eager", 1.0)) + "\n")
    with pytest.raises(UserError, match="line 3 is not JSON"):
        rows.read(path)


def test_amounts_have_three_digits():
    assert [amount(v) for v in (0.5, 12.345, 1234.5, 5e6)] == ["0.5 µs", "12.3 µs", "1.23 ms", "5 s"]


def test_readme_block_is_replaced_and_nothing_else(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    made = [device(row(FAST, "ours", 10.0), row(FAST, "eager", 20.0))]
    assert readme.rewrite(path, readme.block(made)) and not readme.rewrite(path, readme.block(made))
    head, middle, foot = readme.between(path.read_text(), path)
    assert (head, foot) == ("before\n", "\nafter\n") and middle == readme.block(made)
    path.write_text("no markers")
    with pytest.raises(UserError, match="expected one line"):
        readme.rewrite(path, readme.block(made))


def test_the_cpu_path_s_goals_are_the_committed_rows():
    path = ROOT / readme.GOALS_README
    assert readme.between(path.read_text(), path)[1] == readme.goals(devices(RESULTS))


def test_a_goal_compares_like_with_like_and_names_what_is_below():
    pool, deep = "lenet/pool1/max_pool2d/inference/n16/fp32", "mobilenetv2/features.8.conv.1.0/conv2d/inference/n1/fp32"
    made = device(
        row(pool, "ours", 10.0), row(pool, "eager", 90.0), row(pool, "eager", 20.0, "nhwc"),
        row(deep, "ours", 10.0, share=0.5, bound="memory"), row(deep, "eager", 12.0),
        row("lenet/inference/n1/fp32", "ours_fused", 10.0), row("lenet/inference/n1/fp32", "eager", 120.0),
        row("lenet/inference/n1/fp32", "onnxruntime", 13.0),
    )  # fmt: skip
    lines = goals.table(made).splitlines()
    assert "| 2x2 max pool | 5x torch | 9.00x | – |" in lines
    assert f"| depthwise 3x3 | 1.4x torch | 1.20x | {deep} 1.20x (50 % of memory) |" in lines
    assert "| LeNet inference, one image | 11x torch | 12.00x | – |" in lines
    assert "1.30x |" in next(line for line in lines if "ONNX Runtime |" in line and "1.4x" in line)
    assert "1.20x to 12.00x (3 cases) | – |" in lines[-1]


def test_every_goal_has_cases_in_the_cpu_set():
    names = [case.name for case in cases("cpu")]
    for goal in goals.GOALS:
        for pattern in goal.cases:
            assert any(fnmatch(name, pattern.removeprefix("-")) for name in names), pattern


def test_every_goal_of_a_card_has_cases_in_its_set_and_every_case_a_goal():
    names, narrow = [case.name for case in cases("goals")], [goal for goal in goals.CARD if goal.cases != ("*",)]
    for goal in narrow:
        for pattern in goal.cases:
            assert any(fnmatch(name, pattern) for name in names), pattern
    assert all(any(goals.fits(name, goal.cases) for goal in narrow) for name in names)
    assert cases("headline")[: len(names)] == cases("goals"), "the goals are what a card is asked first"
    dense = [case.layer for case in cases("goals") if goals.fits(case.name, goals.CARD[0].cases)]
    assert len(dense) == 12 and all(x.kernel == (3, 3) and min(x.c, x.k) >= 128 for x in dense)


def test_a_card_s_goals_are_means_shares_and_what_has_no_time():
    card = {"kind": "cuda", "metric": "device"}
    first, second = "vgg16/features.7/conv2d/inference/n64/fp16", "vgg16/features.12/conv2d/inference/n64/fp16"
    pool = "resnet50/maxpool/max_pool2d/training/n256/fp16"
    made = device(
        row(first, "ours", 10.0, **card, share=0.6, bound="compute"), row(first, "eager", 8.0, **card),
        row(second, "ours", 10.0, **card, share=0.7, bound="compute"), row(second, "eager", 18.0, **card),
        row(pool, "ours", 10.0, "nhwc", **card, share=0.9, bound="memory"), row(pool, "eager", 19.0, **card),
    )  # fmt: skip
    lines = goals.table(made).splitlines()
    dense, better = "3x3 of 128 channels and more", "torch, better layout"
    spread = f"1.20x; 0.80x to 1.80x (2 cases); 10 without a time | {first} 0.80x (60 % of compute) |"
    assert f"| {dense} | 1.0x {better} in the geometric mean, each 0.85x | {spread}" in lines
    assert (
        f"| pools, forward and backward | 2x {better} | 1.90x; 2 without a time | {pool} 1.90x (90 % of memory) |"
        in lines
    )
    assert "| the same, of copy bandwidth | 88 % | 90 %; 2 without a time | – |" in lines
    assert (
        "| their weight gradients | 0.95x torch, better layout in the geometric mean | 12 without a time | – |" in lines
    )
    assert goals.table(made) in full(made) and not any("MNIST" in line for line in lines)


def test_the_readme_s_tables_are_the_committed_rows():
    path = ROOT / "README.md"
    if not path.exists() or readme.BEGIN not in path.read_text():
        pytest.skip("README.md has no benchmark block")
    _, middle, _ = readme.between(path.read_text(), path)
    assert middle == readme.block(devices(RESULTS)), "run `python -m bench report --readme`"


def test_the_committed_tables_are_the_committed_rows():
    if not RESULTS.exists():
        pytest.skip("no rows are committed")
    for made in devices(RESULTS):
        assert (ROOT / "bench" / "figures" / f"{made.folder}.md").read_text() == full(made), (
            "run `python -m bench report`"
        )


def test_every_figure_is_drawn_from_rows_of_the_smallest_kind(tmp_path):
    found = []
    for work in ("inference", "training"):
        for batch in (1, 16):
            case = f"lenet/{work}/n{batch}/fp32"
            more = {
                "work": work,
                "batch": batch,
                "flops": 1e6,
                "bytes": 1e5,
                "limit": 5.0,
                "share": 0.5,
                "bound": "compute",
            }
            found += [row(case, name, 10.0 * batch, **more) for name in ("ours", "eager", "onnxruntime")]
    for kind in ("size", "channels"):
        for n in (8, 16):
            more = {"network": "sweep", "op": "conv2d_relu", "flops": 1e6 * n, "bytes": 1e5, "limit": 5.0}
            case = f"sweep/{kind}-{n}/conv2d_relu/inference/n1/fp32"
            found += [row(case, name, 10.0 * n, **more) for name in ("ours", "eager")]
    for name, value in (("copy", 100.0), ("compute fp32", 1.0)):
        found.append(
            row("limit/x/n1/fp32", "machine", value, metric="limit") | {"case": f"limit/{name}", "unit": "GB/s"}
        )
    made = draw(device(*found), tmp_path)
    assert {path.name for path in made} == {f"a-cpu-{name}.png" for name in FIGURES}
    assert all(path.stat().st_size > 5000 for path in made)


def test_the_command_writes_tables_and_says_when_there_are_no_rows(tmp_path):
    for made in device(row(FAST, "ours", 10.0), row(FAST, "eager", 10.0)).rows:
        rows.append(tmp_path / "results" / "a-cpu" / "rows.jsonl", made)
    command = [sys.executable, "-m", "bench", "report", "--out", str(tmp_path / "out"), "--results"]
    done = subprocess.run([*command, str(tmp_path / "results")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a-cpu.md").exists() and (tmp_path / "out" / "a-cpu-speed-up-inference.png").exists()
    empty = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert empty.returncode == 2 and "has no rows" in empty.stderr and "Traceback" not in empty.stderr


def test_a_fresh_run_leaves_the_rows_of_other_commands(tmp_path):
    path = tmp_path / "rows.jsonl"
    for metric in ("wall", "cold", "limit"):
        rows.append(path, row(FAST, "ours", 10.0, metric=metric))
    rows.append(path, {"case": "speedrun.mnist", "provider": "ours", "value": 9.5, "unit": "s"})
    rows.drop(path, ("wall", "limit"))
    assert [r.get("metric") for r in rows.lines(path)] == ["cold", None]


def test_what_other_commands_measured_is_in_the_full_table(tmp_path):
    of_its_own = row("speedrun.mnist/x/n1/fp32", "ours", 9.5, unit="s", threads=2, spread=0.1)
    of_its_own["case"] = "speedrun.mnist"
    for name in ("metric", "layout", "status"):
        del of_its_own[name]
    for made in [*device(row(FAST, "ours", 10.0), row(FAST, "eager", 20.0)).rows, of_its_own]:
        rows.append(tmp_path / "a-cpu" / "rows.jsonl", made)
    assert "| speedrun.mnist | this package | 9.5 s ±10 % |" in full(devices(tmp_path)[0])


def test_the_fused_form_stands_for_the_package_where_it_is_faster():
    made = device(row(FAST, "ours", 30.0), row(FAST, "ours_fused", 10.0), row(FAST, "eager", 50.0))
    assert made.timed()[0].ratio() == 5.0
    assert "| 10 µs ±2 % FUSED |" in full(made)
