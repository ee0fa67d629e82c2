"""The report in a real headless Chromium: what a person clicks, hovers, types and draws."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnn.data import Dataset
from cnn.models import MLP, GapCNN, LeNet
from cnn.report import write_report
from cnn.see.trace import trace

Open = Callable[..., Any]


def clicked(page: Any, step: int, channel: int, row: int, column: int) -> dict[str, str]:
    """Click the middle of one cell of a small map, as a person does; what the panel then says."""
    image = page.locator(f'button.map[data-step="{step}"][data-channel="{channel}"] img')
    button = page.locator(f'button.map[data-step="{step}"][data-channel="{channel}"]')
    rows, columns = int(button.get_attribute("data-rows")), int(button.get_attribute("data-columns"))
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    x, y = (column + 0.5) * box["width"] / columns, (row + 0.5) * box["height"] / rows
    image.click(position={"x": x, "y": y})
    shown: dict[str, str] = page.evaluate("cnn.shown()")
    return shown


def test_it_opens_without_an_error_and_with_one_request(open_page: Open, report: Path) -> None:
    page = open_page(report)
    assert page.requests == [report.as_uri()]
    assert page.locator("button.map").count() == 6 * 3 + 16 * 3 + 6
    assert report.stat().st_size < 600_000


def test_a_hovered_value_is_the_tensors(open_page: Open, report: Path, lenet: LeNet, digits: Dataset) -> None:
    page = open_page(report)
    seen = trace(lenet, digits.test_images[:1])
    for step, channel, row, column in ((0, 2, 13, 9), (2, 5, 6, 6), (3, 11, 4, 7), (5, 1, 2, 3)):
        image = page.locator(f'button.map[data-step="{step}"][data-channel="{channel}"] img')
        image.scroll_into_view_if_needed()
        box, side = image.bounding_box(), seen.steps[step].output.shape[-1]
        image.hover(position={"x": (column + 0.5) * box["width"] / side, "y": (row + 0.5) * box["height"] / side})
        wanted = seen.steps[step].output[0, channel, row, column].item()
        assert float(page.locator("#tip").get_attribute("data-value")) == wanted
        assert f"row {row}, column {column}" in page.locator("#tip").inner_text()


def test_a_clicked_window_adds_up_to_the_stored_map_in_every_layer(
    open_page: Open, report: Path, lenet: LeNet, digits: Dataset
) -> None:
    page = open_page(report)
    seen = trace(lenet, digits.test_images[:1])
    pick = random.Random(0)
    for i, step in enumerate(seen.steps):
        for _ in range(3):
            if step.output.dim() == 4:
                c, row, column = (pick.randrange(n) for n in step.output.shape[1:])
                wanted = step.output[0, c, row, column].item()
            else:
                button = page.locator(f'button.map[data-step="{i}"]')
                c, unit = 0, pick.randrange(step.output.shape[1])
                row, column = divmod(unit, int(button.get_attribute("data-columns")))
                wanted = step.output[0, unit].item()
            shown = clicked(page, i, c, row, column)
            assert float(shown["stored"]) == wanted, step.name
            assert float(shown["result"]) == pytest.approx(wanted, rel=1e-5, abs=1e-5), step.name
            assert shown["same"] == "true"
    assert "✓" in page.locator("#total").inner_text()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "lenet": LeNet,
    "tanh": lambda: LeNet("avg", "tanh"),
    "gap": GapCNN,
    "mlp": MLP,
}


@pytest.mark.parametrize("name", MODELS)
def test_every_cell_of_every_layer_is_redone(open_page: Open, tmp_path: Path, digits: Dataset, name: str) -> None:
    torch.manual_seed(1)
    page = open_page(write_report(MODELS[name]().eval(), digits.test_images[5:6], tmp_path / "r.html").path)
    worst = page.evaluate(
        """() => { const again = cnn.forward(cnn.original.image); let worst = 0;
        again.outputs.forEach((o, i) => o.forEach((v, j) => {
            worst = Math.max(worst, Math.abs(v - cnn.original.outputs[i][j])); }));
        return worst; }"""
    )
    assert worst < 1e-5


def test_the_receptive_field_is_the_one_that_pixels_have(
    open_page: Open, report: Path, lenet: LeNet, digits: Dataset
) -> None:
    """Judged by the gradient: the pixels that a cell of conv2 depends on."""
    page = open_page(report)
    image = digits.test_images[:1].clone().requires_grad_()
    convolved = nn.functional.conv2d(image, torch.ones(1, 1, 5, 5), padding=2)
    pooled = nn.functional.avg_pool2d(convolved, 2)
    cell = nn.functional.conv2d(pooled, torch.ones(1, 1, 5, 5))[0, 0, 0, 6]
    (gradient,) = torch.autograd.grad(cell, image)
    rows, columns = (gradient[0, 0] != 0).nonzero().unbind(1)
    assert page.evaluate("cnn.receptiveField(3, 4, 0, 6)") == {
        "top": int(rows.min()),
        "bottom": int(rows.max()),
        "left": int(columns.min()),
        "right": int(columns.max()),
    }
    assert page.evaluate("cnn.receptiveField(11, 7, 0, 0)") == {"top": 0, "bottom": 27, "left": 0, "right": 27}


def test_the_keyboard_reaches_and_explains_a_cell(open_page: Open, report: Path) -> None:
    page = open_page(report)
    button = page.locator('button.map[data-step="0"][data-channel="3"]')
    assert "conv1.conv, map 4 of 6, 28 by 28" in button.get_attribute("aria-label")
    button.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert "row 16, column 15" in page.locator("#live").inner_text()
    page.keyboard.press("Enter")
    assert page.evaluate("cnn.shown().title") == "conv1.conv, map 4, row 16, column 15"
    page.locator("#big").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("cnn.shown().title") == "conv1.conv, map 4, row 16, column 14"
    assert page.evaluate("cnn.shown().same") == "true"
    page.locator('button.map[data-step="0"][data-channel="5"]').focus()
    page.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert "conv1.relu, map 1 of 6" in page.evaluate(focused)


def test_every_map_and_control_has_a_name(open_page: Open, report: Path) -> None:
    page = open_page(report)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, canvas, img')].filter((e) =>
        !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label') || e.alt
          || e.closest('button'))).map((e) => e.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_in_both_modes(open_page: Open, report: Path, scheme: str) -> None:
    page = open_page(report, viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    clicked(page, 3, 7, 5, 5)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    outside = page.evaluate(
        """() => [...document.querySelectorAll('button.map, #inspector, #inspector *, #pad, p')].filter((e) => {
        const b = e.getBoundingClientRect();
        return b.width && (b.right > 361 || b.left < -1); }).map((e) => e.outerHTML)"""
    )
    assert outside == []
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    brightness = [sum(map(int, c[4:-1].split(","))) / 3 for c in (ground, ink)]
    assert (brightness[0] < 60 and brightness[1] > 200) if scheme == "dark" else (brightness[0] > 200 > brightness[1])


def test_without_javascript_the_pictures_are_there(open_page: Open, report: Path) -> None:
    page = open_page(report, java_script_enabled=False)
    images = page.locator("button.map img")
    assert images.count() == 6 * 3 + 16 * 3 + 6
    assert images.first.bounding_box()["width"] == 84
    assert page.locator(".grid i").count() == 784
    assert "It reads 7" in page.locator("#prediction").inner_text()
    assert not page.locator("#inspector").is_visible()
    assert page.locator("noscript p").is_visible()


def test_a_drawing_is_read_as_python_reads_it(open_page: Open, report: Path, lenet: LeNet) -> None:
    page = open_page(report)
    pad = page.locator("#pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    # A seven: a bar, then a slanted stroke.
    strokes = [(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]
    page.mouse.move(box["x"] + strokes[0][0] * box["width"], box["y"] + strokes[0][1] * box["height"])
    page.mouse.down()
    for x, y in strokes[1:]:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=12)
    page.mouse.up()
    page.locator("#pad-look").click()
    pixels = torch.tensor(page.evaluate("Array.from(cnn.state().image)")).reshape(1, 1, 28, 28)
    scores = torch.tensor(page.evaluate("Array.from(cnn.state().outputs.at(-1))"))
    with torch.no_grad():
        wanted = lenet(pixels)[0]
    assert pixels.max() > 0.9
    rows = (pixels[0, 0] > 0.1).nonzero()[:, 0]
    # MNIST's layout: 20 pixels high, the centre of mass in the middle.
    assert 19 <= int(rows.max() - rows.min()) + 1 <= 22
    mass = pixels[0, 0] / pixels.sum()
    assert abs(float((mass.sum(1) * torch.arange(28)).sum()) - 13.5) <= 0.6
    assert abs(float((mass.sum(0) * torch.arange(28)).sum()) - 13.5) <= 0.6
    torch.testing.assert_close(scores, wanted, atol=1e-4, rtol=0)
    answer = page.locator("#pad-answer strong").inner_text()
    assert answer == str(int(wanted.argmax()))
    # The maps now show the drawing; a cell still adds up; and the way back works.
    assert clicked(page, 3, 2, 4, 4)["same"] == "true"
    page.locator("#back").click()
    assert page.evaluate("cnn.state() === cnn.original")


def test_the_pad_draws_by_keyboard_and_clears(open_page: Open, report: Path) -> None:
    page = open_page(report)
    page.locator("#pad").focus()
    page.keyboard.press("Space")
    for _ in range(8):
        page.keyboard.press("ArrowDown")
    assert "It reads" in page.locator("#pad-answer").inner_text()
    page.locator("#pad-clear").click()
    assert page.locator("#pad-answer").inner_text() == "Draw a digit."


def test_the_playground_follows_the_formula(open_page: Open, report: Path) -> None:
    page = open_page(report)

    def set_to(**sizes: int) -> str | None:
        for name, value in sizes.items():
            slider = page.locator(f"#play-{name}")
            slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", value)
        output: str | None = page.locator("#play-formula").get_attribute("data-output")
        return output

    assert set_to(i=7, k=3, s=1, p=0, d=1) == "5"
    assert set_to(k=2, s=2) == "3"
    assert set_to(k=5, s=3, p=2) == "3"
    assert set_to(k=3, s=1, p=1, d=2) == "5"
    assert set_to(i=3, k=5, p=0) is None
    assert "does not fit" in page.locator("#play-formula").inner_text()
    set_to(i=6, k=3, p=0, d=1, step=5)
    assert page.locator("#play-sentence").inner_text().startswith("Step 6 of 16")
    assert page.locator("#play-result td.marked").count() == 1
    assert page.locator("#play-board td.marked").count() == 9


def test_hostile_text_stays_text(open_page: Open, tmp_path: Path, lenet: LeNet, digits: Dataset) -> None:
    hostile = '</script><script>document.title="gone"</script><img src=x onerror=alert(1)>'
    names = [hostile, *map(str, range(1, 10))]
    path = write_report(
        lenet, digits.test_images[:1], tmp_path / "r.html", classes=names, title=hostile, label=hostile, command=hostile
    ).path
    page = open_page(path)
    assert page.title() == hostile
    assert page.evaluate("cnn.model.classes[0]") == hostile


class Coloured(nn.Module):
    """Three channels, groups, stride, and a step that the page has no rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 4, 3, groups=2)
        self.out = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.second(nn.functional.leaky_relu(self.first(x))).amax((2, 3)))


def test_a_step_without_a_rule_is_shown_and_said(open_page: Open, tmp_path: Path) -> None:
    torch.manual_seed(0)
    page = open_page(write_report(Coloured().eval(), torch.rand(1, 3, 12, 16), tmp_path / "r.html").path)
    assert page.locator("#pad").count() == 0
    assert clicked(page, 0, 1, 3, 4)["same"] == "true"
    assert "result" not in clicked(page, 1, 1, 3, 4)
    assert "no rule for this step" in page.locator("#total").inner_text()
    # The step after it starts from stored values, so it can be redone.
    assert clicked(page, 2, 3, 1, 2)["same"] == "true"
    assert "not known" in page.locator("#field-words").inner_text()
