"""`python -m bench compare`: a planted slow-down of 20 % is flagged, and the same code is not."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from math import comb

import pytest

from bench.facts import ROOT
from bench.ratio import interval_rank, ratio

# Appended to the package: every convolution takes 1.2 times as long as it would, on any machine at any load.
SLOWER = """

import time as _time

_plain = conv2d


def conv2d(*args, **kwargs):
    start = _time.perf_counter()
    y = _plain(*args, **kwargs)
    end = start + 1.2 * (_time.perf_counter() - start)
    while _time.perf_counter() < end:
        pass
    return y
"""


def noisy(random_numbers, factor, count=30):
    """Pairs on a machine whose speed wanders by 30 % and jumps now and then."""
    pairs = []
    for _ in range(count):
        speed = 1 + 0.3 * random_numbers.random()
        jump = [3.0 if random_numbers.random() < 0.1 else 1.0 for _ in range(2)]
        one, two = (random_numbers.gauss(1, 0.04) for _ in range(2))
        pairs.append((speed * one * jump[0], speed * two * factor * jump[1]))
    return pairs


def test_a_change_of_20_percent_is_found_on_a_noisy_machine_and_none_where_none_is():
    numbers = random.Random(1)
    assert [ratio(noisy(numbers, 1.2)).verdict for _ in range(50)].count("larger") >= 45
    assert [ratio(noisy(numbers, 1 / 1.2)).verdict for _ in range(50)].count("smaller") >= 45
    assert [ratio(noisy(numbers, 1.0)).verdict for _ in range(200)].count("same") >= 197


@pytest.mark.parametrize("count", [5, 8, 11, 22, 30, 45, 101])
def test_the_interval_s_rank_is_the_sign_test_s(count):
    k = interval_rank(count)
    risk = 2 * sum(comb(count, i) for i in range(k)) / 2**count
    wider = 2 * sum(comb(count, i) for i in range(k + 1)) / 2**count
    assert wider > 0.01
    assert risk <= 0.01 or k == 1


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with one commit: the packages as they are here."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("kernels", "cnn", "bench"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results", "*.so"))
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "base"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return folder


def compare(folder, *more):
    command = [sys.executable, "-m", "bench", "compare", "HEAD", "--set", "smoke", "--threads", "1", *more]
    case = ["--cases", "lenet/conv2/conv2d/fprop/*"]
    return subprocess.run([*command, *case], cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_planted_slow_down_is_flagged_and_the_worktree_goes_away(repository):
    same = compare(repository)
    assert same.returncode == 0, same.stdout + same.stderr
    assert "0 of 1 worse than HEAD" in same.stdout and "SLOWER" not in same.stdout
    package = repository / "kernels" / "__init__.py"
    text = package.read_text()
    package.write_text(text + SLOWER)
    try:
        for rounds in ("21", "63", "189"):  # a busy machine needs more pairs to be sure
            slower = compare(repository, "--rounds", rounds)
            if slower.returncode:
                break
    finally:
        package.write_text(text)
    assert slower.returncode == 1, slower.stdout + slower.stderr
    assert "SLOWER" in slower.stdout
    listed = subprocess.run(
        ["git", "-C", str(repository), "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(listed.stdout.splitlines()) == 1


def test_an_unknown_commit_is_one_line(repository):
    command = [sys.executable, "-m", "bench", "compare", "no-such-commit", "--set", "smoke"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "no-such-commit" in done.stderr and "Traceback" not in done.stderr
