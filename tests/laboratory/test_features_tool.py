"""The critic's feature maps: hand-made critics that are good or bad by construction, and disjoint training and test sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import planted_critics as planted
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from torch.nn import functional as F

import leafwing
from leafwing import cli
from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.laboratory import features as tool
from leafwing.laboratory.critics import critic_of
from leafwing.laboratory.features import features, linear_svm, pooled_maps
from leafwing.laboratory.labelled import paired_gain, split_labelled

SPEC = DataSpec.images(16, 16, 1, labels=("same", "other"))


def pairs(n: int = 400, seed: int = 0) -> Dataset:
    """Noise with a pair of pixels in every 8x8 block: equal (`same`) or different. No single pixel tells the classes apart."""
    random = np.random.default_rng(seed)
    array = random.integers(40, 216, (n, 16, 16, 1), dtype=np.uint8)
    labels = np.arange(n) % 2
    for i in range(0, 16, 8):
        for j in range(0, 16, 8):
            first = random.integers(0, 2, n)
            array[:, i, j, 0], array[:, i, j + 1, 0] = 255 * first, 255 * (first ^ labels)
    return planted.data(array, labels.astype(np.int64), SPEC.labels)


class PairCritic(nn.Module):
    """Its four maps detect the four states of a pair: both bright, both dark, only the first, only the second."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.bend, self.out = nn.Conv2d(1, 4, 8, 8), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(4, 1, 2)
        with torch.no_grad():
            self.look.weight.zero_()
            self.look.weight[:, 0, 0, :2] = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
            self.look.bias = nn.Parameter(torch.full((4,), -1.0))

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        return self.out(self.bend(self.look(x))).flatten()


def test_a_critic_that_separates_the_classes_beats_pixels_random_weights_and_supervision() -> None:
    model = planted.model(PairCritic(), SPEC)
    before = planted.weights(model.game.nets.D)
    options: dict[str, Any] = {
        "labelled": pairs(),
        "held_out": pairs(200, seed=1),
        "shots": "5,20",
        "repeats": 3,
        "steps": 30,
    }
    finding = features(model, **options)
    accuracy = {method: by_n["20"]["mean"] for method, by_n in finding.figures["accuracy"].items()}
    assert accuracy["critic"] > 0.99
    assert max(accuracy[method] for method in ("random", "pixels", "supervised")) < 0.75
    for method in ("random", "pixels", "supervised"):
        assert finding.figures["gains"][method]["20"]["beats"]
        assert not finding.figures["gains"][method]["20"]["loses"]
    assert finding.figures["size"] == 4 * 2 * 2, "maps smaller than 4x4 stay as they are"
    assert finding.figures["chance"] == 0.5
    assert finding.figures["test"].startswith("held out")
    assert not finding.figures["critic_saw_labels"]
    assert "raw pixels (at 5, 20 labels) and random weights (at 5, 20 labels)" in " ".join(finding.words)
    assert planted.same(before, planted.weights(model.game.nets.D))
    again = features(model, **options)
    assert again.figures == finding.figures
    assert again.sheets["learning"].tobytes() == finding.sheets["learning"].tobytes()


class RandomCritic(PairCritic):
    """The same architecture with random weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.look.reset_parameters()


def test_a_critic_with_random_weights_is_not_reported_as_better() -> None:
    finding = features(
        planted.model(RandomCritic(), SPEC), labelled=pairs(), held_out=pairs(200, 1), shots="20", repeats=3, steps=0
    )
    assert "supervised" not in finding.figures["accuracy"]
    assert finding.figures["accuracy"]["critic"]["20"]["mean"] < 0.65
    assert "not better than raw pixels or random weights" in " ".join(finding.words)


class ConditionalCritic(nn.Module):
    """A critic with the class as an additional channel."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.out = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 16)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        channel = (10.0 * label).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
        return self.out(self.look(torch.cat([x, channel], 1))).flatten()


def test_a_conditional_critic_does_not_get_the_label() -> None:
    model = planted.model(ConditionalCritic(), SPEC, conditions=("label",))
    data, held_out = (
        planted.with_classes(dataset, SPEC.labels, np.random.default_rng(len(dataset)).permutation(dataset.columns["label"]))
        for dataset in (pairs(), pairs(200))
    )
    finding = features(model, labelled=data, held_out=held_out, shots="20", repeats=3, steps=0)
    assert finding.figures["accuracy"]["critic"]["20"]["mean"] < 0.65
    assert finding.figures["critic_saw_labels"]
    assert any("trained with labels" in line for line in finding.words)


def test_large_maps_are_max_pooled_to_4x4_after_the_activation() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(True), nn.Conv2d(3, 2, 6, 5), nn.Conv2d(2, 1, 3)
    )
    with torch.no_grad():
        net[1].weight = nn.Parameter(torch.tensor([1.0, -1.0, 2.0]))
    model = planted.model(nn.Sequential(net, nn.Flatten(0)), SPEC)
    pictures = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = net[2](net[1](net[0](pictures)))
        expected = [F.max_pool2d(first, 4).flatten(1), net[3](first).flatten(1)]
        assert torch.equal(pooled_maps(critic_of(model), pictures), torch.cat(expected, 1))


def test_the_svm_in_the_span_of_the_training_data_equals_that_of_all_features() -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((3, 300)) * 0.5
    rows, labels = random.standard_normal((250, 300)).astype(np.float32), np.arange(250) % 3
    rows += centres[labels]
    scaler = StandardScaler().fit(rows[:50])
    x = scaler.transform(rows) / 300**0.5
    for c in (0.1, 10.0):
        expected = LinearSVC(C=c, random_state=0, max_iter=5000).fit(x[:50], labels[:50]).predict(x[50:])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tool, "C_VALUES", (c,))
            predictions = linear_svm(rows[:50], labels[:50], rows[50:], seed=0)
        assert (predictions == expected).mean() > 0.99
    assert (predictions == labels[50:]).mean() > 0.6


def test_training_and_test_sets_are_disjoint_and_draws_differ() -> None:
    data = pairs(100)
    split = split_labelled(data, data, 80, 0, [5, 10])
    assert not split.is_held_out
    assert len(split.test) == 50, "half of the data at most"
    assert sorted([*split.pool, *split.test]) == list(range(100))
    few, many, other = split.draw(0, 0, 5), split.draw(0, 0, 10), split.draw(0, 1, 10)
    assert many[:10].tolist() == few.tolist()
    assert split.labels(many).tolist() == [0, 1] * 10
    assert set(many) <= set(split.pool)
    assert len(set(many)) == 20
    assert set(many) != set(other)
    train, held_out = data.split(30)
    split = split_labelled(train, held_out, 80, 0, [5])
    assert split.is_held_out
    assert held_out.rows is not None
    assert train.rows is not None
    assert set(split.test) == set(held_out.rows)
    assert set(split.pool) == set(train.rows)
    assert 0 < len(split_labelled(train, held_out, 80, 0, [5], keep_rest=True).rest) < len(held_out)
    with pytest.raises(LeafwingError, match="1 image to test with, and at least 2 are needed"):
        split_labelled(*data.split(1), 80, 0, [5], keep_rest=True)


def test_a_gain_counts_if_it_exceeds_its_standard_deviation() -> None:
    assert paired_gain([0.5, 0.7], [0.4, 0.6]) == pytest.approx({"gain": 0.1, "sd": 0, "beats": True, "loses": False})
    noisy = paired_gain([0.4, 1.0], [0.4, 0.4])
    assert noisy["gain"] == pytest.approx(0.3)
    assert not noisy["beats"]
    assert paired_gain([0.1, 0.2], [0.5, 0.6])["loses"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": "ten"}, "shots=.ten."),
        ({"shots": "1"}, "shots=.1.: at least 2"),
        ({"shots": "150"}, "class other has only 94"),
        ({"repeats": 1}, "repeats=1"),
        ({"repeats": 50_001}, "repeats=50001: must be at most 50,000"),
        ({"steps": 50_001}, "steps=50001: must be at most 50,000"),
        ({"test": 0}, "test='?0"),
        ({"steps": -1}, "steps='?-1"),
        ({"seed": -1}, "seed='?-1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    data = pairs(400)
    with pytest.raises(LeafwingError, match=message):
        features(planted.model(PairCritic(), SPEC), labelled=data, held_out=data, **options)


def test_images_without_labels_and_too_large_features_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = pairs(100), planted.model(PairCritic(), SPEC)
    bare = planted.without_labels(data)
    with pytest.raises(LeafwingError, match=r"has no labels.*--data FOLDER"):
        features(model, labelled=bare, held_out=bare, shots="5")
    other = planted.with_classes(data, ("a", "b"))
    with pytest.raises(LeafwingError, match=r"the classes of .* differ"):
        features(model, labelled=data, held_out=other, shots="5")
    monkeypatch.setattr(tool, "LIMIT", 10_000)
    with pytest.raises(LeafwingError, match=r"need .* GB of memory"):
        features(model, labelled=data, held_out=data, shots="5")


def test_the_command_writes_the_learning_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))
    handmade.write_noise(tmp_path / "pictures")
    run = leafwing.train(tmp_path / "pictures", "dcgan", out=tmp_path / "run", images=16, **handmade.TINY_RUN)
    out = tmp_path / "out"
    words = ["--shots", "2,4", "--repeats", "2", "--steps", "2", "--out", str(out)]
    assert cli.run(["explore", str(run.folder), "features", *words]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["figures.json", "learning.png"]
    figures = json.loads((out / "figures.json").read_text())["figures"]
    assert figures["tested"] == 12
    assert figures["test"].startswith("split off")
