"""Tables of measured plans: read, believed or refused, and asked by plan() before its heuristic."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kernels.common.device import H100, Card
from kernels.common.precision import precision_of
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.choose import is_legal, plan
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.plans.tiles import Tile
from kernels.tuned.bucket import Bucket
from kernels.tuned.table import Entry, Table, Times, read, slug, table_of, tables_in, write

CARD = Card(H100.shared, True, "Synthetic H100")
DENSE = Conv2dGeometry(32, 96, 56, 56, 128, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1), 1)
DEEP = replace(DENSE, n=256, c=256, k=256, h=14, w=14)
MEASURED = Plan("gemm", Tile(64, 32, 64, 2, 4), True)
PASSES = ("fprop", "fprop_pool", "dgrad", "wgrad")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with tables_in(tmp_path):
        yield tmp_path


def entry(chosen: Plan) -> Entry:
    return Entry(asdict(chosen), {"nhwc": {"conv2d": Times(10.0, 12.5)}}, {"shape": "any", "commit": "abc"})


def save(folder: Path, which: str, g: Conv2dGeometry, chosen: Plan, card: str = CARD.name) -> Path:
    path = folder / f"{slug(CARD.name)}.json"
    write(path, Table(card, {Bucket.of(which, g, "half"): entry(chosen)}, {"commit": "abc"}))
    return path


def test_what_is_written_is_read_again(folder: Path) -> None:
    path = save(folder, "fprop", DENSE, MEASURED)
    found = read(path, CARD.name)
    assert found.entries == {Bucket.of("fprop", DENSE, "half"): entry(MEASURED)}
    assert found.about == {"commit": "abc"}


@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("g", [DENSE, DEEP, replace(DENSE, groups=2, stride=(2, 1), dilation=(1, 2))])
def test_a_key_names_its_bucket(which: str, g: Conv2dGeometry) -> None:
    bucket = Bucket.of(which, g, "tf32")
    assert Bucket.parse(bucket.key) == bucket


@pytest.mark.parametrize("key", ["", "fprop", "fprop double c1 k1 g1 1x1 s1x1 d1x1 pixels1 batch1", "fprop half c1"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is no bucket"):
        Bucket.parse(key)


def test_a_bucket_holds_problems_that_are_alike() -> None:
    home = Bucket.of("fprop", DENSE, "half")
    assert Bucket.of("fprop", replace(DENSE, n=36, h=54), "half") == home
    for other in (replace(DENSE, n=64), replace(DENSE, h=112), replace(DENSE, c=32), replace(DENSE, stride=(2, 2))):
        assert Bucket.of("fprop", other, "half") != home
    assert home.distance(home) == 0
    assert home.distance(Bucket.of("fprop", replace(DENSE, c=48), "half")) == 1
    assert home.distance(Bucket.of("fprop", replace(DENSE, r=1, s=1), "half")) == float("inf")
    assert home.distance(Bucket.of("dgrad", DENSE, "half")) == float("inf")
    assert home.distance(Bucket.of("fprop", DENSE, "tf32")) == float("inf")


def test_the_table_goes_before_the_heuristic(folder: Path) -> None:
    save(folder, "fprop", DENSE, MEASURED)
    assert plan("fprop", DENSE, 2, CARD) == MEASURED
    assert plan("fprop", replace(DENSE, n=33), 2, CARD) == MEASURED
    usual = plan("fprop", DENSE, 2, H100)
    assert usual != MEASURED
    assert plan("fprop", DENSE, 4, CARD) == plan("fprop", DENSE, 4, H100), "another element size"
    assert plan("dgrad", DENSE, 2, CARD) == plan("dgrad", DENSE, 2, H100), "another pass"
    assert plan("fprop", DENSE, 2, Card(H100.shared, True, "Other")) == usual, "another card"


def test_a_nearby_tile_is_used_and_a_distant_one_is_not(folder: Path) -> None:
    save(folder, "fprop", DENSE, MEASURED)
    near, far = replace(DENSE, n=64), replace(DENSE, c=512)
    assert plan("fprop", near, 2, CARD) == MEASURED
    assert plan("fprop", far, 2, CARD) == plan("fprop", far, 2, H100)


def test_a_measured_plan_must_be_legal_where_it_is_used(folder: Path) -> None:
    """The bucket of 3x3 64 channels, but grouped so thin that no matrix product is left."""
    thin = replace(DENSE, groups=64, k=64)
    save(folder, "fprop", thin, MEASURED)
    assert plan("fprop", thin, 2, CARD).algorithm == "direct"
    for wrong in (
        replace(MEASURED, tile=Tile(63, 32, 32, 4, 3)),
        replace(MEASURED, tile=Tile(64, 32, 32, 3, 3)),
        replace(MEASURED, tile=Tile(128, 128, 64, 8, 9)),
        replace(MEASURED, packed=False),
        replace(MEASURED, algorithm="batch"),
        Plan("direct", None),
        Plan("unheard", Tile(64, 32, 32, 4, 3), True),
    ):
        assert not is_legal(wrong, "fprop", DENSE, 2, CARD), wrong
    assert is_legal(Plan("batch", Tile(128, 128, 64, 8, 3), True), "fprop", DEEP, 2, CARD)
    assert not is_legal(Plan("batch", Tile(128, 128, 64, 8, 3), True), "fprop", DEEP, 2, replace(CARD, tma=False))


@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("itemsize", [2, 4, 8])
@pytest.mark.parametrize("g", [DENSE, DEEP, replace(DENSE, groups=64, k=64), replace(DENSE, c=3)])
def test_every_plan_of_the_heuristic_is_legal(which: str, itemsize: int, g: Conv2dGeometry) -> None:
    assert is_legal(plan(which, g, itemsize, H100), which, g, itemsize, H100)


def test_splits_never_exceed_the_sum(folder: Path) -> None:
    save(folder, "wgrad", DENSE, Plan("gemm", Tile(64, 64, 64, 4, 3), True, splits=10**9))
    assert 1 <= plan("wgrad", DENSE, 2, CARD).splits < 1000


DAMAGE = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "list": lambda text: "[]",
    "format": lambda text: text.replace('"format": 1', '"format": 99'),
    "no entries": lambda text: text.replace('"entries"', '"something"'),
    "key": lambda text: text.replace("pixels", "pixies"),
    "time": lambda text: text.replace("12.5", "-1"),
    "not a number": lambda text: text.replace("12.5", "NaN"),
    "words": lambda text: text.replace("12.5", '"fast"'),
    "plan": lambda text: text.replace('"plan": {', '"plan": [], "was": {'),
    "layout": lambda text: text.replace('"nhwc"', '"nhcw"'),
    "entry": lambda text: text.replace('"us"', '"them"'),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_table_is_a_warning_and_the_heuristic(folder: Path, how: str) -> None:
    path = save(folder, "fprop", DENSE, MEASURED)
    before = path.read_text()
    path.write_text(DAMAGE[how](before))
    assert path.read_text() != before
    with pytest.warns(RuntimeWarning, match=r"synthetic-h100\.json is not used .* come from the heuristic"):
        assert plan("fprop", DENSE, 2, CARD) == plan("fprop", DENSE, 2, H100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plan("fprop", DENSE, 2, CARD) == plan("fprop", DENSE, 2, H100), "said once"


@pytest.mark.parametrize(
    "old, new", [("block_m", "block_q"), ('"block_k": 64', '"block_k": "wide"'), ('"num_stages": 4', '"stages": 4')]
)
def test_fields_that_no_plan_has_are_a_warning_and_the_heuristic(folder: Path, old: str, new: str) -> None:
    path = save(folder, "fprop", DENSE, MEASURED)
    path.write_text(path.read_text().replace(old, new))
    with pytest.warns(RuntimeWarning, match="in a measured table is no plan"):
        assert plan("fprop", DENSE, 2, CARD) == plan("fprop", DENSE, 2, H100)


def test_another_card_s_table_is_refused(folder: Path) -> None:
    save(folder, "fprop", DENSE, MEASURED, card="Synthetic A100")
    with pytest.warns(RuntimeWarning, match="it was measured on Synthetic A100"):
        assert plan("fprop", DENSE, 2, CARD) == plan("fprop", DENSE, 2, H100)


def test_the_tables_that_are_shipped_are_whole() -> None:
    """Every file beside the code: readable, under its card's name, every plan one that can ship somewhere."""
    import kernels.tuned

    for path in Path(kernels.tuned.__file__).parent.glob("*.json"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            card = next(line.split('"')[3] for line in path.read_text().splitlines() if '"card"' in line)
            assert path.stem == slug(card) and table_of(card) is not None


def test_precisions() -> None:
    assert [precision_of(size) for size in (2, 8)] == ["half", "float64"]
    assert precision_of(4) in ("tf32", "float32")
