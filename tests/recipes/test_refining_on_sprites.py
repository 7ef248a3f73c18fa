"""Do simgan and seuda learn? Sprites of 16 px, each compared with the same images as they were before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refine import MEASUREMENTS, Training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def measure(recipe: str, folder: Path, **settings: Any) -> dict[str, Any]:
    """The first row of the benchmark."""
    train = Training(recipe, folder, {"size": 16, "seed": 0, "threads": 1, "precision": "fp32", **settings})
    return next(MEASUREMENTS[recipe](train, 16, 0))


def test_refined_sprites_are_nearer_to_real_ones_and_keep_their_shapes(tmp_path: Path) -> None:
    """Shapes are as legible as in real sprites, whose noise the oracle does not read as well as that of the inputs."""
    row = measure("simgan", tmp_path, images=6_000, l1=0.05, width=16, batch=8, g_alone=0.3, lr_g=2e-3)
    before, after = row["before"], row["after"]
    assert after["kid"] < before["kid"] / 2, row
    assert after["accuracy"] < before["accuracy"], row
    assert after["shape"] > row["real"]["shape"] - 0.15, row


def test_a_segmenter_finds_more_in_translated_sprites_of_a_new_kind(tmp_path: Path) -> None:
    row = measure("seuda", tmp_path, images=8_000, width=8, blocks=2, batch=8, lr_g=1e-3)
    assert row["with"] > row["without"] + (row["source"] - row["without"]) / 4, row
