"""A LeNet that has learned a little, its report, and a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cnn.data import Dataset, load_data
from cnn.learn.checkpoint import Checkpoint, save
from cnn.learn.session import learn
from cnn.learn.settings import Settings
from cnn.models import LeNet
from cnn.report import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_data("digits")


@pytest.fixture(scope="session")
def lenet(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> LeNet:
    """Four epochs: about 95 % right, in under a second."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("lenet")
    outcome = learn(digits, Settings(epochs=4, augment=True), folder, torch.device("cpu"), shown=False)
    assert isinstance(outcome.model, LeNet)
    return outcome.model.eval()


@pytest.fixture(scope="session")
def checkpoint(lenet: LeNet, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    save(Checkpoint.of(lenet, list(digits.classes), settings=Settings(epochs=4).as_dict()), path)
    return path


@pytest.fixture(scope="session")
def report(lenet: LeNet, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(lenet, digits.test_images[:1], path, classes=digits.classes, label="7").path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make test-browser)")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium on this machine (make test-browser installs it on Debian)")
    with api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """open_page(path, **context options) -> page; afterwards no page may have logged an error or asked for more."""
    contexts, problems, requests = [], [], []

    def opened(path: Path, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.on("request", lambda r: requests.append(r.url) if not r.url.startswith("data:") else None)
        page.goto(path.as_uri())
        page.requests = requests
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []
    assert len(requests) == len(contexts), requests
