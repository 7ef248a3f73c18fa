"""How results are written: under the names and in the types of files of their pictures, where these can hold them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leafwing import fields
from leafwing.commands.writing import Origin, Writer, encode, safe_path
from leafwing.data.pictures import SUFFIXES


@pytest.mark.parametrize(
    ("suffix", "colours", "alpha", "keeps"),
    [
        (".gif", 64, 255, True),
        (".gif", 64, 128, False),
        (".gif", 4096, 255, False),
        (".bmp", 4096, 255, True),
        (".bmp", 4096, 128, False),
        (".dib", 4096, 128, False),
        (".tif", 4096, 128, True),
    ],
)
def test_a_type_of_file_that_would_lose_colours_or_alpha_is_not_written(
    suffix: str, colours: int, alpha: int, keeps: bool
) -> None:
    shades = np.linspace(0, 255, round(colours ** (1 / 3))).astype(np.uint8)
    image = Image.fromarray(np.stack(np.meshgrid(shades, shades, shades), -1).reshape(len(shades), -1, 3))
    if alpha < 255:
        image.putalpha(alpha)
    content = encode(image, suffix, lossy=True)
    assert (content is not None) == keeps
    if content:
        with Image.open(io.BytesIO(content)) as written:
            assert written.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


def test_label_maps_keep_their_classes_in_every_type_of_file(tmp_path: Path) -> None:
    sample = np.zeros((16, 16), np.uint8)
    sample[4:], sample[8:] = 3, 7
    names = [f"{suffix[1:]}{suffix}" for suffix in sorted(SUFFIXES)]
    writer = Writer(tmp_path, fields.Segmentation(16, 16, tuple("abcdefgh")), names, samples=2)
    for name in names:
        for number in range(2):
            writer.write(Origin(name, (16, 16), None), sample, number)
    written = [*tmp_path.iterdir()]
    assert len(written) == 2 * len(names)
    assert {"gif-1.gif", "bmp-1.bmp", "jpg-1.png", "webp-1.png"} <= {path.name for path in written}
    for path in written:
        with Image.open(path) as image:
            assert image.mode == "P", path
            assert np.array_equal(image, sample), path
    assert {"jpg.jpg", "webp.webp"} <= writer.replaced <= {*names}


def test_names_that_windows_refuses_are_changed_there() -> None:
    assert str(safe_path('what?/a<b>"c"|*.png', windows=True)) == "what_/a_b__c___.png"
    assert str(safe_path("tail. /b.", windows=True)) == "tail._/b_"
    assert str(safe_path("what?/a*.png", windows=False)) == "what?/a*.png"
    assert {str(safe_path("c:\\x.png", windows=windows)) for windows in (True, False)} == {"c__x.png"}
