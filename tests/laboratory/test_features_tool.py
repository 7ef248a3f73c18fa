"""The critic's maps as features: planted critics whose worth is known, and test pictures that nobody was taught."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted_critics as planted
import pytest
import torch
from PIL import Image
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from torch.nn import functional as F

import leafwing
from leafwing import cli
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.laboratory import features as tool
from leafwing.laboratory.critics import critic_of
from leafwing.laboratory.features import features, linear, pooled
from leafwing.laboratory.labelled import parted, versus

SPEC = DataSpec(16, 16, 1, ("same", "other"), ("image", "label"))


def pairs(n: int = 400, seed: int = 0) -> planted.Dataset:
    """Noise in which two pixels of every corner of 8x8 are both bright or both dark (`same`), or one each: linear in no pixel."""
    random = np.random.default_rng(seed)
    array = random.integers(40, 216, (n, 16, 16, 1), dtype=np.uint8)
    labels = np.arange(n) % 2
    for i in range(0, 16, 8):
        for j in range(0, 16, 8):
            first = random.integers(0, 2, n)
            array[:, i, j, 0], array[:, i, j + 1, 0] = 255 * first, 255 * (first ^ labels)
    return planted.data(array, labels.astype(np.int64), SPEC.labels)


class Knows(nn.Module):
    """Its four maps look at those two pixels: both bright, both dark, one, the other."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.bend, self.out = nn.Conv2d(1, 4, 8, 8), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(4, 1, 2)
        with torch.no_grad():
            self.look.weight.zero_()
            self.look.weight[:, 0, 0, :2] = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
            self.look.bias.fill_(-1.0)

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        return self.out(self.bend(self.look(x))).flatten()


def test_a_critic_that_knows_what_tells_classes_apart_beats_pixels_random_weights_and_supervision() -> None:
    one = planted.model(Knows(), SPEC)
    before = planted.weights(one.game.nets.D)
    given: dict[str, Any] = {"data": pairs(), "held": pairs(200, seed=1), "labels": "5,20", "draws": 3, "steps": 30}
    found = features(one, **given)
    accuracy = {way: by["20"]["mean"] for way, by in found.figures["accuracy"].items()}
    assert accuracy["critic"] > 0.99
    assert max(accuracy[way] for way in ("random", "pixels", "supervised")) < 0.75
    for way in ("random", "pixels", "supervised"):
        assert found.figures["gains"][way]["20"]["beats"]
        assert not found.figures["gains"][way]["20"]["loses"]
    assert found.figures["size"] == 4 * 2 * 2, "maps smaller than 4x4 stay as they are"
    assert found.figures["chance"] == 0.5
    assert found.figures["test"].startswith("held out")
    assert not found.figures["critic_saw_labels"]
    assert "raw pixels (at 5, 20 labels) and random weights (at 5, 20 labels)" in " ".join(found.words)
    assert planted.same(before, planted.weights(one.game.nets.D))
    again = features(one, **given)
    assert again.figures == found.figures
    assert again.sheets["learning"].tobytes() == found.sheets["learning"].tobytes()


class Random(Knows):
    """The same shape, as torch draws it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.look.reset_parameters()


def test_a_critic_with_random_weights_is_not_said_to_be_better() -> None:
    found = features(planted.model(Random(), SPEC), data=pairs(), held=pairs(200, 1), labels="20", draws=3, steps=0)
    assert "supervised" not in found.figures["accuracy"]
    assert found.figures["accuracy"]["critic"]["20"]["mean"] < 0.65
    assert "not better than raw pixels or random weights" in " ".join(found.words)


class Told(nn.Module):
    """A critic that writes the class it is told over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.out = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 16)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        beside = (10.0 * label).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
        return self.out(self.look(torch.cat([x, beside], 1))).flatten()


def test_a_critic_that_takes_labels_is_not_told_the_answer() -> None:
    one = planted.model(Told(), SPEC, conditions=("label",))
    data, held = (
        replace(some, labels=np.random.default_rng(len(some)).permutation(some.labels)) for some in (pairs(), pairs(200))
    )
    found = features(one, data=data, held=held, labels="20", draws=3, steps=0)
    assert found.figures["accuracy"]["critic"]["20"]["mean"] < 0.65
    assert found.figures["critic_saw_labels"]
    assert "trained with labels" in found.words[-1]


def test_large_maps_are_pooled_to_4x4_by_their_maxima_after_what_bends_them() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(True), nn.Conv2d(3, 2, 6, 5), nn.Conv2d(2, 1, 3)
    )
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([1.0, -1.0, 2.0]))
    one = planted.model(nn.Sequential(net, nn.Flatten(0)), SPEC)
    pictures = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = net[2](net[1](net[0](pictures)))
        expected = [F.max_pool2d(first, 4).flatten(1), net[3](first).flatten(1)]
        assert torch.equal(pooled(critic_of(one), pictures), torch.cat(expected, 1))


def test_the_linear_machine_is_the_one_of_all_features() -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((3, 300)) * 0.5
    rows, answers = random.standard_normal((250, 300)).astype(np.float32), np.arange(250) % 3
    rows += centres[answers]
    scaler = StandardScaler().fit(rows[:50])
    x = scaler.transform(rows) / 300**0.5
    for price in (0.1, 10.0):
        plain = LinearSVC(C=price, random_state=0, max_iter=5000).fit(x[:50], answers[:50]).predict(x[50:])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tool, "PRICES", (price,))
            said = linear(rows[:50], answers[:50], rows[50:], seed=0)
        assert (said == plain).mean() > 0.99
    assert (said == answers[50:]).mean() > 0.6


def test_what_is_taught_and_what_is_tested_never_overlap_and_draws_differ() -> None:
    data = pairs(100)
    parts = parted(data, data, 80, 0, [5, 10])
    assert not parts.apart
    assert len(parts.test) == 50, "half of the data at most"
    assert sorted([*parts.pool, *parts.test]) == list(range(100))
    few, many, other = parts.draw(0, 0, 5), parts.draw(0, 0, 10), parts.draw(0, 1, 10)
    assert many[:10].tolist() == few.tolist()
    assert parts.told(many).tolist() == [0, 1] * 10
    assert set(many) <= set(parts.pool)
    assert len(set(many)) == 20
    assert set(many) != set(other)
    kept, away = data.split(30)
    parts = parted(kept, away, 80, 0, [5])
    assert parts.apart
    assert set(parts.test) == set(away.rows)
    assert set(parts.pool) == set(kept.rows)
    assert 0 < len(parted(kept, away, 80, 0, [5], rest=True).rest) < len(away)


def test_a_gain_counts_when_it_is_larger_than_its_spread() -> None:
    assert versus([0.5, 0.7], [0.4, 0.6]) == pytest.approx({"gain": 0.1, "sd": 0, "beats": True, "loses": False})
    noisy = versus([0.4, 1.0], [0.4, 0.4])
    assert noisy["gain"] == pytest.approx(0.3)
    assert not noisy["beats"]
    assert versus([0.1, 0.2], [0.5, 0.6])["loses"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"labels": "ten"}, "--labels 'ten'"),
        ({"labels": "1"}, "two labels per class"),
        ({"labels": "150"}, "class other has only 94 pictures"),
        ({"draws": 1}, "--draws 1"),
        ({"test": 0}, "--test 0"),
        ({"steps": -1}, "--steps -1"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_bad_options_are_refused(asked: dict[str, Any], message: str) -> None:
    data = pairs(400)
    with pytest.raises(LeafwingError, match=message):
        features(planted.model(Knows(), SPEC), data=data, held=data, **asked)


def test_pictures_without_labels_and_features_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data, one = pairs(100), planted.model(Knows(), SPEC)
    bare = replace(data, labels=None)
    with pytest.raises(LeafwingError, match=r"has no labels.*--data FOLDER"):
        features(one, data=bare, held=bare, labels="5")
    other = replace(data, spec=replace(SPEC, labels=("a", "b")))
    with pytest.raises(LeafwingError, match=r"the classes of .* differ"):
        features(one, data=data, held=other, labels="5")
    monkeypatch.setattr(tool, "LIMIT", 10_000)
    with pytest.raises(LeafwingError, match=r"need .* GB of memory"):
        features(one, data=data, held=data, labels="5")


def test_the_command_writes_the_learning_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))
    noise = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / "pictures" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    tiny = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32"}
    run = leafwing.train(tmp_path / "pictures", "dcgan", out=tmp_path / "run", images=16, **tiny)
    out = tmp_path / "found"
    words = ["--labels", "2,4", "--draws", "2", "--steps", "2", "--out", str(out)]
    assert cli.run(["explore", str(run.folder), "features", *words]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["figures.json", "learning.png"]
    figures = json.loads((out / "figures.json").read_text())["figures"]
    assert figures["tested"] == 12
    assert figures["test"].startswith("split off")
