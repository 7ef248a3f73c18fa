"""What figures do not say is said wherever they are shown."""

from __future__ import annotations

from typing import Any

import pytest

from leafwing.commands import figures
from leafwing.commands.comparison.report import as_text, key_figures
from leafwing.metrics import caveats
from leafwing.metrics.table import RunResult, tabulate

PROTOCOL = {
    "n_real": 2_000, "n_fake": 2_000, "split": "held-out", "shape": "64x64x3", "fit": "crop", "resize": "lanczos", "mirror": False,
    "output": "image", "conditions": "defaults", "features": "own", "network": "0" * 16, "data": "0" * 16, "seed": 0,
    "precision": "fp32", "version": 2,
}  # fmt: skip


def row(metric: str, **protocol: Any) -> dict[str, Any]:
    """A row of `commands.evaluate`."""
    better = "lower" if metric == "fid" else "higher"
    return {
        "metric": metric, "value": 0.5, "low": None, "high": None, "better": better, "images": 100,
        "protocol": PROTOCOL | protocol, "fingerprint": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "features", "is_low"), [(0.01, "lite0", True), (0.5, "lite0", False), (0.01, "own", False)]
)
def test_a_recall_near_zero_by_lite0_says_little(value: float, features: str, is_low: bool) -> None:
    text = figures.as_text([row("recall", features=features) | {"value": value}])
    assert (caveats.LOW_RECALL in text) == is_low
    assert (caveats.LOW_RECALL in caveats.of_rows([row("recall", features=features) | {"value": value}])) == is_low


def test_the_closest_pairs_are_named() -> None:
    rows = [row("copied") | {"words": "No copies.", "page": "memorisation-000000100.png"}, row("copied")]
    assert figures.as_text(rows).count("The closest pairs are in memorisation-000000100.png, in the folder of the run.") == 1


@pytest.mark.parametrize(
    ("metric", "protocol", "is_marked"),
    [
        ("precision", {}, True),
        ("density", {"shape": "32x32x4"}, True),
        ("recall", {}, False),
        ("precision", {"features": "lite0"}, False),
        ("precision", {"shape": "64x64x1"}, False),
    ],
)
def test_precision_by_the_own_features_in_colour_is_marked(metric: str, protocol: dict[str, Any], is_marked: bool) -> None:
    rows = [row("fid", **protocol), row(metric, **protocol)]
    table = tabulate([RunResult("a", 0, "finished", images=100, steps=1000, rows=rows)])
    text = as_text(table.as_dict() | {"report": "report.html"})
    for shown in (figures.as_text(rows), text):
        assert (f"{metric} *" in shown) == is_marked
        assert (caveats.FLATTERY in shown) == is_marked
    assert table.marked == ((metric,) if is_marked else ())
    assert not any("*" in figure.label for figure in key_figures(table)), "the first measure is FID"
    ranked = tabulate([RunResult("a", 0, "finished", images=100, steps=1000, rows=rows[1:])])
    assert (key_figures(ranked)[0].label == f"final {metric} * of a") == is_marked


def test_few_images_and_training_images_are_named() -> None:
    assert caveats.of_rows([row("fid"), row("kid"), row("kid", n_fake=20, split="other")]) == []
    few, *others = caveats.of_rows([row("fid", n_real=999), row("recall", n_real=999)])
    assert few.startswith("with only 999 real images, FID is biased")
    (few,) = caveats.of_rows([row("fid", n_fake=999)])
    assert few.startswith("with only 999 samples, FID is biased")
    assert others == []
    (everything,) = caveats.of_rows([row("kid", split="all", held_out=500), row("recall", split="all", held_out=500)])
    assert "of which 500 were held out of training: a model that copies the others looks" in everything
    assert everything.endswith("Without --data, only the held-out ones are used")
    (training, *others) = caveats.of_rows([row("kid", split="train"), row("recall", split="train")])
    assert "--hold-out auto, some" in training
    assert others == []
    assert caveats.of_rows([row("kid", held_out=945), row("copied", split="train", held_out=945)]) == [], "of memorisation"
    (training,) = caveats.of_rows([row("kid", split="train", n_real=40)])
    assert "--hold-out auto, or a tenth of the images if there are fewer than 500, some" in training, "40 of how many?"
    (score,) = caveats.of_rows([row("inception_score", n_fake=999)])
    assert score.startswith("with only 999 samples, the inception score is too low")
    assert caveats.of_rows([row("inception_score", n_real=9)]) == []
    assert caveats.of_rows([row("modes", split="train", shape="points")]) == []
