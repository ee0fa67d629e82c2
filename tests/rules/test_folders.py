"""The READMEs of folders: every file that one names is there, and those that are maps name every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = ("bench", "cnn", "docs", "kernels", "tests")
MADE = ("bench/figures", "bench/machine_code/tables", "docs/api", "runs")
"""What programs write."""
MAPS = {"kernels/README.md": ("kernels", "kernels/common"), "cnn/README.md": ("cnn",), "bench/README.md": ("bench",)}
UNTOLD = {"__init__.py", "__main__.py", "conftest.py", "namesake.py"}
"""What a map need not name."""


def pages() -> list[str]:
    found = [*ROOT.glob("*.md"), *(p for top in TOP for p in (ROOT / top).rglob("*.md"))]
    names = (str(path.relative_to(ROOT)) for path in found)
    return sorted(name for name in names if not name.startswith(MADE))


def tokens(text: str) -> set[str]:
    """Files and folders in inline code, and where links lead."""
    code = (word for span in re.findall(r"`([^`\n]+)`", text) for word in span.replace(",", " ").split())
    named = {word for word in code if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(\.(py|md|cpp|h|js|html)|/)", word)}
    return named | set(re.findall(r"\]\(([^)#:]+)", text))


@pytest.mark.parametrize("page", pages())
def test_what_a_page_names_is_there(page: str) -> None:
    """From the page's folder or one above it, else below them by the end of its path."""
    folder = (ROOT / page).parent
    homes = [folder, *(p for p in folder.parents if p.is_relative_to(ROOT))]
    below = {
        str(path.relative_to(folder))
        for top in ((folder,) if folder != ROOT else (ROOT / top for top in TOP))
        for path in top.rglob("*")
    }

    def is_there(token: str) -> bool:
        end = "/" + token.rstrip("/")
        return any((home / token).exists() for home in homes) or any(f"/{path}".endswith(end) for path in below)

    missing = [t for t in sorted(tokens((ROOT / page).read_text())) if not t.startswith(MADE) and not is_there(t)]
    assert not missing, f"{page} names {missing}"


@pytest.mark.parametrize("page", MAPS)
def test_a_map_names_every_room(page: str) -> None:
    text = (ROOT / page).read_text()
    named = {token.rstrip("/").rsplit("/")[-1] for token in tokens(text)}
    for folder in MAPS[page]:
        rooms = {p.name for p in (ROOT / folder).iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
        assert not rooms - named - UNTOLD, f"{page} says nothing of {sorted(rooms - named - UNTOLD)}"
