"""What a person can do with pixels and filters: rows 1 to 4, 8 to 18 of the list, each with its exact numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from cnn.data import Dataset, load_image
from cnn.data.mnist import scale
from cnn.data.photo import photo_path
from cnn.errors import UserError
from cnn.models import FilterNet, LeNet
from cnn.pictures.filters import annotate, draw_filters
from cnn.pictures.pixels import draw_channels, draw_pixels, pixel_labels, to_gray
from cnn.pictures.style import canvas
from cnn.pictures.walk import draw_walk, draw_windows
from cnn.see.arithmetic import Bird, connections, output_size, windows
from cnn.see.filters import FILTERS, apply_filter, named_filter, parse_matrix
from cnn.see.trace import Trace, trace
from cnn.see.walk import convolve, output, pool, products, sentence
from kernels import avg_pool2d, conv2d, max_pool2d

EDGE = [[-1.0, -1.0, 1.0, 1.0]] * 4
MAP = torch.tensor([[1.0, 3, 2, 1], [4, 6, 5, 0], [7, 2, 9, 8], [1, 0, 3, 4]])


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return load_image(photo_path())


@pytest.fixture(scope="module")
def seen(photo: torch.Tensor) -> Trace:
    return trace(FilterNet(), photo)


def test_row_1_an_image_is_numbers(digits: Dataset, tmp_path: Path) -> None:
    three = digits.test_images[digits.test_labels == 3][0, 0]
    labels = pixel_labels(three)
    assert len(labels) == 784
    for y, x, text, colour in labels:
        value = three[y, x].item()
        assert text == ("0" if value == 0 else f"{value:.2f}")
        assert colour == ("white" if value < three.max() / 2.5 else "black")
    assert {text for _, _, text, _ in labels} >= {"0", "1.00"}
    assert draw_pixels(three, tmp_path / "three.png").stat().st_size > 20_000
    text = draw_pixels(three, tmp_path / "three.svg").read_text()
    assert text.count("<text") == 784 + 1  # and the title


def test_row_2_bytes_become_shares() -> None:
    scaled = scale(torch.tensor([[[0, 255], [51, 128]]], dtype=torch.uint8))
    assert scaled.dtype == torch.float32
    assert scaled.shape == (1, 1, 2, 2)  # channel first
    assert scaled[0, 0, 0].tolist() == [0.0, 1.0]
    assert scaled[0, 0, 1].tolist() == pytest.approx([0.2, 128 / 255])


def test_row_3_gray_has_one_channel_and_colour_three(tmp_path: Path) -> None:
    gray, colour = load_image(photo_path()), load_image(photo_path(), colour=True)
    assert gray.shape == (1, 1, 600, 512)
    assert colour.shape == (1, 3, 600, 512)
    # Pillow rounds its gray to whole bytes.
    assert (to_gray(colour[0]) - gray[0, 0]).abs().max() <= 1 / 255
    assert draw_channels(colour[0], tmp_path / "channels.png").exists()


@pytest.mark.parametrize("name", FILTERS)
def test_row_4_a_classic_filter_is_scipys_correlation(photo: torch.Tensor, name: str) -> None:
    ours = apply_filter(photo[0], named_filter(name))
    wanted = ndimage.correlate(photo[0, 0].double().numpy(), np.array(FILTERS[name], float), mode="nearest")
    assert ours.shape == photo[0].shape
    np.testing.assert_allclose(ours[0].numpy(), wanted, atol=1e-5)


def test_row_4_the_negative_half_is_kept(photo: torch.Tensor) -> None:
    edges = apply_filter(photo[0], named_filter("sobel-x"))
    assert edges.min() < -3
    assert edges.max() > 3
    assert apply_filter(photo[0], named_filter("darken")).max() == photo.max() / 2


def test_row_4_a_persons_own_matrix() -> None:
    assert parse_matrix("0 1; 1.5 -2").tolist() == [[0, 1], [1.5, -2]]
    assert parse_matrix("[[1, 2, 3]]").tolist() == [[1, 2, 3]]
    even = apply_filter(torch.ones(1, 5, 6), parse_matrix("1 1; 1 1"))
    assert even.tolist() == torch.full((1, 5, 6), 4.0).tolist()
    for bad in ("", "1 2; 3", "1 x", "[[1], [2, 3]]", "nan", "[1, 2]"):
        with pytest.raises(UserError, match="matrix"):
            parse_matrix(bad)


def test_row_8_full_against_local_connections() -> None:
    step = trace(LeNet(), torch.zeros(1, 1, 28, 28))["conv1.conv"]
    counts = connections(step, (1, 28, 28))
    assert (counts.dense, counts.local, counts.shared) == (3_692_640, 122_304, 156)


def test_row_9_the_bird() -> None:
    bird = Bird()
    assert bird.inputs == 18_778_626
    assert bird.weights == 187_786_260_000_000
    assert round(bird.bytes / 1e12) == 751
    assert bird.conv_parameters == 1_792
    assert 0.98e6 < bird.weights / bird.claimed_weights < 1e6  # wrong by a million


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (3, 2)])
def test_row_10_a_convolution_step_by_step(stride: int, padding: int) -> None:
    image, kernel = torch.arange(30.0).reshape(5, 6) % 7, torch.tensor([[1.0, -2, 0], [3, 0.5, -1]])
    moves = convolve(image, kernel, bias=0.25, stride=stride, padding=padding)
    wanted = conv2d(image[None, None], kernel[None, None], torch.tensor([0.25]), stride, padding)[0, 0]
    assert output(moves) == wanted.tolist()
    assert [m.cell for m in moves] == [(p, q) for p in range(wanted.shape[0]) for q in range(wanted.shape[1])]
    for move in moves:
        assert move.first == (move.cell[0] * stride - padding, move.cell[1] * stride - padding)
        assert sum(map(sum, products(move.window, kernel.tolist()))) + 0.25 == move.result


def test_row_10_the_sum_is_written_out_and_drawn(tmp_path: Path) -> None:
    image, kernel = torch.tensor([[1.0, 2, 4], [3, 0, 5]]), torch.tensor([[1.0, -1], [0.5, 2]])
    moves = convolve(image, kernel)
    assert sentence(moves[0], kernel) == "1·1 + 2·(-1) + 3·0.5 + 0·2 = 0.5"
    text = draw_walk(image, moves, tmp_path / "walk.svg", "title", kernel).read_text()
    assert text.count("step ") == 2
    assert text.count(">×-1<") == 2


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_row_11_kernel_stride_padding(kernel: int, stride: int, padding: int, dilation: int) -> None:
    size = 13
    wanted = torch.nn.functional.conv2d(
        torch.zeros(1, 1, size, size), torch.zeros(1, 1, kernel, kernel), None, stride, padding, dilation
    ).shape[2]
    assert output_size(size, kernel, stride, padding, dilation) == wanted
    starts = windows(size, kernel, stride, padding, dilation)
    assert len(starts) == wanted
    assert starts[0] == -padding
    assert starts[-1] + dilation * (kernel - 1) <= size + padding - 1 < starts[-1] + stride + dilation * (kernel - 1)


def test_row_11_the_positions_are_drawn_and_a_window_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    text = draw_windows(7, 3, 2, 1, 1, tmp_path / "windows.svg").read_text()
    assert text.count(">output ") == 4
    with pytest.raises(UserError, match=r"window of 9 does not fit into 7 \+ 2 \* 0"):
        output_size(7, 5, d=2)


def test_row_12_filters_in_a_row(tmp_path: Path) -> None:
    weight = FilterNet().conv.weight[:, 0].detach()
    text = draw_filters(weight, tmp_path / "filters.svg").read_text()
    assert [f">Filter {i}<" in text for i in (1, 2, 3, 4, 5)] == [True, True, True, True, False]
    axes = canvas(2, 2).subplots()
    annotate(axes, weight[0], 1.0)
    assert [(t.get_text(), t.get_color()) for t in axes.texts] == [
        ("-1", "white"), ("-1", "white"), ("1", "black"), ("1", "black")
    ] * 4  # fmt: skip


def test_row_13_a_cnn_from_given_filters() -> None:
    net = FilterNet()
    first = torch.tensor(EDGE)
    assert torch.equal(net.conv.weight.detach()[:, 0], torch.stack([first, -first, first.T, -first.T]))
    assert net.conv.weight.shape == (4, 1, 4, 4)
    assert net.conv.bias is None
    own = FilterNet([[[0.0, 1.0], [2.0, 3.0]]])
    assert own.conv.weight.tolist() == [[[[0, 1], [2, 3]]]]


def test_row_14_maps_after_each_layer_of_a_photo(seen: Trace, photo: torch.Tensor) -> None:
    shapes = {step.name: tuple(step.output.shape[1:]) for step in seen.steps}
    assert shapes == {"conv.conv": (4, 597, 509), "conv.relu": (4, 597, 509), "conv.max": (4, 298, 254)}
    first = seen["conv.conv"].output[0]
    # Filter 2 is minus filter 1, and so are its answers, bit for bit.
    assert torch.equal(first[1], -first[0])
    assert torch.equal(first[3], -first[2])
    wanted = ndimage.correlate(photo[0, 0].double().numpy(), np.array(EDGE), mode="nearest", origin=0)
    np.testing.assert_allclose(first[0].numpy(), wanted[2:-1, 2:-1], atol=1e-5)


def test_row_15_relu(seen: Trace) -> None:
    before, after = seen["conv.conv"].output, seen["conv.relu"].output
    assert before.min() < 0
    assert torch.equal(after[before > 0], before[before > 0])
    assert not after[before <= 0].any()


def test_rows_16_and_17_pooling(tmp_path: Path) -> None:
    largest, means = pool(MAP), pool(MAP, kind="avg")
    assert output(largest) == [[6, 5], [7, 9]] == max_pool2d(MAP[None, None], 2)[0, 0].tolist()
    assert output(means) == [[3.5, 2], [2.5, 6]] == avg_pool2d(MAP[None, None], 2)[0, 0].tolist()
    assert draw_walk(MAP, largest, tmp_path / "pool.gif", "pool").exists()


def test_average_is_never_above_maximum(seen: Trace) -> None:
    maps = seen["conv.conv"].output
    assert (avg_pool2d(maps, 2) <= max_pool2d(maps, 2) + 1e-6).all()


def test_row_18_a_colour_filter_gives_one_map() -> None:
    colour = load_image(photo_path(), colour=True)
    sobel = named_filter("sobel-x")
    one = conv2d(colour, (sobel / 3).expand(1, 3, 3, 3).contiguous())
    assert one.shape == (1, 1, 598, 510)
    wanted = conv2d(colour.mean(1, keepdim=True), sobel[None, None])
    torch.testing.assert_close(one, wanted, atol=1e-5, rtol=0)
    assert LeNet().conv2.weight.shape == (16, 6, 5, 5)
