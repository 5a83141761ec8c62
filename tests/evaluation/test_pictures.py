"""Pictures of clips, and what is said without what draws them."""

import sys

import numpy as np
import pytest

from codax.errors import CodaxError
from codax.evaluation.pictures import draw_comparison

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("num_samples", [1, 7, 1000, 5000])
def test_clips_of_any_length_are_drawn(tmp_path, num_samples):
    pytest.importorskip("matplotlib")
    clip = np.zeros((2, num_samples), np.float32)
    draw_comparison(tmp_path / "picture", clip, clip, 8000, "eval")
    assert (tmp_path / "picture").read_bytes().startswith(PNG)


def test_the_extra_that_draws_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    clip = np.zeros((1, 100), np.float32)
    with pytest.raises(CodaxError, match=r'pip install "codax\[demo\]"'):
        draw_comparison(tmp_path / "picture.png", clip, clip, 8000, "demo")
    assert not [*tmp_path.iterdir()]
