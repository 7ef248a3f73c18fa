"""Sifting: a hand-made generator with wrong classes and dull images, and a critic and a reader that recognise them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import planted_critics as planted
import pytest
import torch
from torch import Tensor, nn

import leafwing
from leafwing import cli
from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.game import Batch, Clock, DataSpec, Nets
from leafwing.laboratory.reading import Reader
from leafwing.laboratory.sift import sift
from leafwing.metrics import own

NAMES = ("top", "middle", "bottom")
SPEC = DataSpec.images(12, 12, 1, labels=NAMES)
WRONG, DULL = -0.524, 0.0  # quantiles 0.3 and 0.5 of N(0, 1)


def painted(classes: Tensor, bright: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, 1, 12, 12) in [-1, 1] with random columns and noise; the third of the rows that is the class is brighter."""
    noise = 0.15 * torch.randn(len(classes), 1, 12, 12, generator=generator)
    rows = torch.arange(12).view(1, 1, 12, 1) // 4 == classes.view(-1, 1, 1, 1)
    light = 1.4 * torch.rand(len(classes), 1, 1, 12, generator=generator) - 0.9
    return (light + noise + rows * bright.view(-1, 1, 1, 1)).clamp(-1, 1)


def generate(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
    """The requested class, or the next one if the first component of a latent is small; dull if the second is."""
    z, label = inputs.latent, inputs.label
    classes = torch.where(z[:, 0] < WRONG, (label + 1) % 3, label)
    return painted(classes, torch.where(z[:, 1] < DULL, 0.25, 0.45), torch.Generator().manual_seed(len(z)))


def data(n: int = 300, seed: int = 0) -> Dataset:
    classes = torch.arange(n) % 3
    pictures = painted(classes, torch.full((n,), 0.45), torch.Generator().manual_seed(seed))
    array = pictures.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    return planted.data(array, classes.numpy(), NAMES)


def thirds(pictures: Tensor) -> Tensor:
    return pictures.unflatten(2, (3, 4)).mean((1, 3, 4))


def read(pictures: Tensor) -> dict[str, np.ndarray]:
    return {"where": np.asarray(NAMES)[thirds(pictures).argmax(1).numpy()]}


READER = Reader("classifier", {"where": NAMES}, read)


class Brightness(nn.Module):
    """The score is the difference between the brightest and the darkest third."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return thirds(x).amax(1) - thirds(x).amin(1)


def model(**abilities: Any) -> leafwing.Model:
    return planted.model(Brightness(), SPEC, generate, ("label",), **abilities)


OPTIONS: dict[str, Any] = {"n": 60, "shots": "2,6", "repeats": 3}


def test_the_classifier_keeps_samples_of_the_requested_class_and_they_help_as_training_data() -> None:
    gan, real = model(), data()
    finding = sift(gan, labelled=real, held_out=real, reader=READER, by="classifier", **OPTIONS)
    latents = gan.latents(180)
    is_right = (latents[:, 0] >= WRONG).numpy()
    assert finding.figures["generated"] == {"all": 180, "by_class": dict.fromkeys(NAMES, 60)}
    assert finding.figures["kept"]["all"] == is_right.sum()
    assert finding.figures["right"] == {"generated": pytest.approx(is_right.mean()), "kept": 1.0}
    classes = np.repeat([0, 1, 2], 60)
    assert np.array_equal(finding.arrays["labels"], classes[is_right])
    kept = torch.from_numpy(finding.arrays["samples"]).permute(0, 3, 1, 2).float()
    assert np.array_equal(thirds(kept).argmax(1).numpy(), classes[is_right])
    assert finding.figures["real_right"] == 1.0
    assert finding.figures["threshold"] is None
    assert finding.figures["tested"] == 150
    assert not finding.figures["test_held_out"]
    accuracy = {arm: by_n["2"]["mean"] for arm, by_n in finding.figures["accuracy"].items()}
    assert accuracy["sifted"] > accuracy["labels"] + 0.05
    assert accuracy["sifted"] >= max(accuracy["unsifted"], accuracy["as_many"])
    assert finding.figures["gains"]["labels"]["2"]["beats"]
    again = sift(gan, labelled=real, held_out=real, reader=READER, by="classifier", **OPTIONS)
    assert again.figures == finding.figures
    assert all(again.sheets[name].tobytes() == sheet.tobytes() for name, sheet in finding.sheets.items())


def test_the_critic_keeps_samples_with_high_scores_and_both_keep_what_both_accept() -> None:
    gan, real = model(), data()
    latents = gan.latents(180).numpy()
    train, held_out = real.split(100)
    by_critic = sift(gan, labelled=train, held_out=held_out, reader=READER, by="critic", quantile=0.02, **OPTIONS)
    assert by_critic.figures["kept"]["all"] == pytest.approx((latents[:, 1] >= DULL).sum(), abs=6)
    assert by_critic.figures["right"]["kept"] == pytest.approx((latents[latents[:, 1] >= DULL, 0] >= WRONG).mean(), abs=0.05)
    assert by_critic.figures["test_held_out"]
    assert "predicts the requested class" in " ".join(by_critic.words)
    both = sift(gan, labelled=train, held_out=held_out, reader=READER, quantile=0.02, **OPTIONS)
    assert both.figures["kept"]["all"] == pytest.approx(((latents[:, 0] >= WRONG) & (latents[:, 1] >= DULL)).sum(), abs=6)
    strict = sift(gan, labelled=train, held_out=held_out, reader=READER, by="critic", quantile=0.9, **OPTIONS)
    assert strict.figures["kept"]["all"] < by_critic.figures["kept"]["all"]
    assert strict.figures["threshold"] > by_critic.figures["threshold"]


def test_if_all_samples_are_rejected_accuracy_does_not_change() -> None:
    def generate_wrong(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return generate(nets, Batch(inputs, latent=inputs.latent - 100), clock)

    wrong = planted.model(Brightness(), SPEC, generate_wrong, ("label",))
    finding = sift(wrong, labelled=data(), held_out=data(), reader=READER, by="classifier", **OPTIONS)
    assert finding.figures["kept"]["all"] == 0
    assert finding.figures["right"] == {"generated": 0.0, "kept": None}
    assert finding.figures["accuracy"]["sifted"] == finding.figures["accuracy"]["labels"]
    assert finding.figures["accuracy"]["unsifted"]["2"]["mean"] < 0.25, "trained on wrong labels"
    assert finding.arrays["samples"].shape == (0, 12, 12, 1)
    assert "makes no difference beyond chance" in " ".join(finding.words)


def test_without_a_reader_of_the_classes_the_models_classifier_is_used() -> None:
    other = Reader("oracle", {"colour": ("red", "green")}, lambda pictures: {})
    gan = model(classify=lambda nets, x: 100 * thirds(x))
    for reader in (None, other):
        finding = sift(gan, labelled=data(), held_out=data(), reader=reader, by="classifier", **OPTIONS)
        assert finding.figures["right"]["kept"] == 1.0
        assert 0.6 < finding.figures["right"]["generated"] < 0.8
    unsure = model(classify=lambda nets, x: 0 * thirds(x))
    assert sift(unsure, labelled=data(), held_out=data(), by="classifier", **OPTIONS).figures["kept"]["all"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 10**8}, "at most"),
        ({"quantile": 1.0}, "quantile='?1.0"),
        ({"shots": "4,x"}, "shots='?'4,x'"),
        ({"shots": "99"}, r"shots='?99.*has only 4\d training images"),
        ({"repeats": 1}, "repeats='?1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    real = data()
    with pytest.raises(LeafwingError, match=message):
        sift(model(), labelled=real, held_out=real, reader=READER, **{**OPTIONS, **options})


def test_rows_are_named_by_classes_as_the_font_can_draw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("top", "\u72d7", "bottom")  # a Chinese character
    gan = planted.model(Brightness(), DataSpec.images(12, 12, 1, labels=names), generate, ("label",))
    real = planted.with_classes(data(), names)
    titles: list[str] = []
    monkeypatch.setattr(
        importlib.import_module("leafwing.laboratory.sift"),
        "sheet",
        lambda title, rows, **options: titles.extend(name for name, _ in rows),
    )
    sift(gan, labelled=real, held_out=real, by="critic", n=4, shots="2", repeats=2)
    assert [title.partition(":")[0] for title in titles] == ["top", "#1 \u72d7", "bottom"]


def test_runs_and_data_that_cannot_be_sifted_are_refused() -> None:
    real = data()
    plain = planted.model(Brightness(), SPEC)
    with pytest.raises(LeafwingError, match="sift needs samples of a given class, and this run is not class-conditional"):
        sift(plain, labelled=real, held_out=real)
    with pytest.raises(LeafwingError, match=r"no classifier.*--by critic"):
        sift(model(), labelled=real, held_out=real)
    with pytest.raises(LeafwingError, match=r"--by both needs a critic that .*, and this run has none: use --by classifier"):
        sift(model(judges=False), labelled=real, held_out=real, reader=READER)
    other = planted.with_classes(real, ("a", "b", "c"))
    with pytest.raises(LeafwingError, match="are not those of this run: top, middle, bottom"):
        sift(model(), labelled=other, held_out=other, reader=READER, **OPTIONS)
    bare = planted.without_labels(real)
    with pytest.raises(LeafwingError, match="has no labels"):
        sift(model(), labelled=bare, held_out=bare, reader=READER, **OPTIONS)
    with pytest.raises(LeafwingError, match="samples of all classes, so no label can be set"):
        sift(model(), labelled=real, held_out=real, reader=READER, conditions={"label": "top"}, **OPTIONS)


def test_the_command_writes_the_kept_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(own, "STEPS", 2)
    handmade.write_noise(tmp_path / "pictures")
    run = leafwing.train(tmp_path / "pictures", "cgan", out=tmp_path / "run", images=16, hold_out=8, **handmade.TINY_RUN)
    words = ["--shots", "2", "--repeats", "2", "-n", "6", "--by", "critic"]
    out = tmp_path / "out"
    assert cli.run(["explore", str(run.folder), "sift", *words, "--out", str(out)]) == 0
    files = ["figures.json", "labels.npy", "learning.png", "samples.npy", "sifted.png"]
    assert sorted(path.name for path in out.iterdir()) == files
    figures = json.loads((out / "figures.json").read_text())["figures"]
    assert figures["test_held_out"]
    assert figures["generated"]["by_class"] == {"cat": 6, "dog": 6}
    assert len(np.load(out / "samples.npy")) == len(np.load(out / "labels.npy")) == figures["kept"]["all"]
