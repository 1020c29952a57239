"""The pictures of the pages are those that docs/pictures.py draws, and small."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = sorted((DOCS / "pictures").glob("*.png"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_a_picture_is_small_and_a_page_shows_it(picture):
    assert picture.stat().st_size < 60_000
    assert any(f"pictures/{picture.name}" in page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))


@pytest.mark.slow
def test_the_script_draws_each_picture_as_it_is(tmp_path):
    from matplotlib.image import imread

    script = runpy.run_path(str(DOCS / "pictures.py"))
    assert sorted(script["DRAWN"]) == [picture.stem for picture in PICTURES]
    for picture in PICTURES:
        drawn, kept = imread(script["draw"](picture.stem, tmp_path)), imread(picture)
        assert drawn.shape == kept.shape, picture.stem
        # Another processor, or other flags, may round otherwise: that moves dots, up to 1.1 % of all, and no line.
        assert np.mean(np.abs(drawn - kept).max(axis=-1) > 0.1) < 0.02, picture.stem
    assert sys.modules["matplotlib"].get_backend() == "agg"
