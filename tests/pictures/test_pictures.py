"""The pictures of the documentation are those of the pages that there are."""

import re

import pytest
from PIL import Image

from tests.pictures.__main__ import ENGLISH, HEIGHT, IMAGES, PAGES, WIDTH
from tests.services import ROOT

NAMES = ["log-in", *PAGES]
MOST = 12 * 2**20  # bytes, all together


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_console_is_shown_page_by_page(theme: str) -> None:
    shown = re.findall(rf"\]\(images/([\w-]+)\.{theme}\.png\)", (ROOT / "docs" / "console.md").read_text())
    assert sorted(shown) == sorted(NAMES)


def test_there_is_a_picture_of_each_page_and_no_other() -> None:
    wanted = {f"{name}.{theme}.png" for name in NAMES for theme in ("light", "dark")}
    wanted |= {f"{name}.en.light.png" for name in ENGLISH}
    assert {path.name for path in IMAGES.iterdir()} == wanted


def test_pictures_are_of_one_size_and_small() -> None:
    total = 0
    for path in IMAGES.iterdir():
        with Image.open(path) as picture:
            assert (path.name, picture.size, picture.mode) == (path.name, (WIDTH, HEIGHT), "P")
        total += path.stat().st_size
    assert total < MOST
