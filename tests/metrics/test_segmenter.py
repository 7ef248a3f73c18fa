"""The segmenter: colours of label maps, its accuracies against their definitions, and that it reads what is there."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, pictures
from PIL import Image as Pillow
from torch import Tensor

from leafwing.data.dataset import Dataset
from leafwing.errors import LeafwingError
from leafwing.fields import Image, Segmentation
from leafwing.game import DataSpec, Output
from leafwing.metrics import segmenter
from leafwing.metrics.segmenter import (
    IGNORED,
    Segmenter,
    assign,
    confusion,
    find_colours,
    jackknife,
    load_segmenter,
    reading_size,
    scores,
    to_pixels,
)
from leafwing.metrics.targets import suits
from leafwing.pixels import images_to_tensor

COLOURS = np.array([(0, 0, 222), (0, 48, 255), (254, 80, 0), (174, 0, 0), (112, 255, 142)], np.uint8)


def label_maps(n: int = 24, side: int = 32, classes: int = 5, seed: int = 0) -> np.ndarray:
    """Class 0 with a rectangle of each other class: uint8 (n, side, side)."""
    random = np.random.default_rng(seed)
    maps = np.zeros((n, side, side), np.uint8)
    for one in maps:
        for label in range(1, classes):
            top, left = random.integers(0, side - 12, 2)
            one[top : top + 12, left : left + 12] = label
    return maps


def pairs(n: int = 24, *, as_images: bool) -> Dataset:
    """Label maps, and images that show them: stripes of another direction and brightness for each class."""
    maps = label_maps(n)
    rows, columns = np.mgrid[:32, :32]
    textures = [
        np.full((32, 32), 30),
        128 + 90 * (rows % 4 < 2),
        120 * (columns % 4 < 2),
        np.full((32, 32), 220),
        60 + 0 * rows,
    ]
    images = np.choose(maps, [texture.astype(np.uint8) for texture in textures])[..., None].repeat(3, 3)
    kind = Image(32, 32) if as_images else Segmentation(32, 32, tuple("abcde"))
    spec = DataSpec.images(32, 32, input=kind)
    columns_ = {"image": images, "input": COLOURS[maps] if as_images else maps}
    return Dataset(spec, columns_, "ab" * 32, "/maps", {})


def jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    result = []
    for image in images:
        buffer = io.BytesIO()
        Pillow.fromarray(image).save(buffer, "JPEG", quality=quality)
        result.append(np.asarray(Pillow.open(buffer)))
    return np.stack(result)


@pytest.mark.parametrize("quality", [0, 75, 92])
def test_the_colours_of_label_maps_survive_jpeg(quality: int) -> None:
    maps = label_maps(side=64)
    images = COLOURS[maps]
    found = find_colours(images_to_tensor(jpeg(images, quality) if quality else images))
    assert found is not None
    assert len(found) == 5
    nearest = torch.cdist(torch.tensor(COLOURS).float(), found).min(1)
    assert sorted(nearest.indices.tolist()) == [0, 1, 2, 3, 4]
    assert nearest.values.max() < 8
    classes = assign(to_pixels(images_to_tensor(jpeg(images, quality) if quality else images)), found)
    expected = nearest.indices[torch.tensor(maps).long()]
    assert ((classes == expected) | (classes == IGNORED)).double().mean() > 0.97
    assert (classes == expected).double().mean() > 0.85


def test_photographs_are_no_label_maps() -> None:
    gradients = torch.linspace(-1, 1, 64).expand(8, 1, 64, 64)
    assert find_colours(gradients) is None
    assert find_colours(pictures(0, 8, channels=1)) is None
    assert find_colours(pictures(0, 8)) is None
    assert find_colours(torch.zeros(8, 3, 32, 32)) is None, "a single colour"
    many = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert find_colours(torch.nn.functional.interpolate(many, scale_factor=8)) is None, "512 flat colours"


def test_scores_equal_their_definitions() -> None:
    counts = np.array([[50, 10, 0], [5, 30, 5], [0, 0, 0]])
    assert scores(counts) == pytest.approx([80 / 100, (50 / 60 + 30 / 40) / 2, (50 / 65 + 30 / 50) / 2])
    assert np.isnan(scores(np.zeros((2, 2)))).all()


def test_confusion_counts_pixels_and_skips_ignored_ones() -> None:
    maps = torch.tensor([[[0, 1], [IGNORED, 1]]])
    read = torch.tensor([[[0, 0], [1, 1]]])
    assert confusion(maps, read, 2).tolist() == [[[1, 0], [1, 1]]]


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """Images of equal size and a single class: pixel accuracy is a plain mean."""
    random = np.random.default_rng(0)
    correct = random.integers(20, 100, 30)
    counts = np.zeros((30, 2, 2), np.int64)
    counts[:, 0, 0], counts[:, 0, 1] = correct, 100 - correct
    assert jackknife(counts)[0] == pytest.approx((correct / 100).std(ddof=1) / np.sqrt(30))
    assert np.isnan(jackknife(counts[:1])).all()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter, "STEPS", 40)
        return load_segmenter(pairs(as_images=True), "image", "input", cache=tmp_path_factory.mktemp("cache"))


def evidence(reader: Segmenter, fake: Tensor | None = None) -> FakeEvidence:
    data = pairs(14, as_images=True)
    batch = data.to_network(data.batch(0, 0, 14))
    return FakeEvidence(batch.image, batch.image if fake is None else fake, sources={"input": batch.input}, segmenter=reader)


def test_real_images_are_read_and_noise_is_not(reader: Segmenter) -> None:
    values = {measure.name: measure for measure in segmenter.measure(evidence(reader))}
    assert list(values) == [
        "pixel_accuracy", "class_accuracy", "class_iou", "real_pixel_accuracy", "real_class_accuracy", "real_class_iou",
    ]  # fmt: skip
    assert values["pixel_accuracy"].value == values["real_pixel_accuracy"].value > 0.8
    assert [measure.better for measure in values.values()] == ["higher"] * 3 + [""] * 3
    noise = torch.rand(14, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    worse = {measure.name: measure.value for measure in segmenter.measure(evidence(reader, noise))}
    assert worse["class_iou"] < 0.5 * worse["real_class_iou"]
    shuffled = evidence(reader).real.roll(1, 0)
    assert segmenter.measure(evidence(reader, shuffled))[2].value < 0.7 * values["class_iou"].value


def test_it_is_trained_once(reader: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "STEPS", 2)
    data, steps = pairs(as_images=False), []
    first = load_segmenter(
        data, "image", "input", cache=tmp_path, report_progress=lambda what, done, total: steps.append(done)
    )
    second = load_segmenter(data, "image", "input", cache=tmp_path, report_progress=lambda *_: pytest.fail("trained again"))
    assert (steps, first.classes) == ([1, 2], 5)
    assert first.digest == second.digest != reader.digest
    network = data.to_network(data.batch(0, 0, 4))
    assert torch.equal(first.maps(network.input), data.batch(0, 0, 4).input.long())


def test_inputs_that_are_no_maps_are_refused() -> None:
    data = pairs(as_images=True)
    photographs = (np.random.default_rng(0).random((24, 32, 32, 3)) * 255).astype(np.uint8)
    data.columns["input"] = photographs  # type: ignore[index]
    with pytest.raises(
        LeafwingError, match="the field input of /maps is none: it needs a field of classes, or paired images"
    ):
        load_segmenter(data, "image", "input")


def test_the_size_at_which_it_reads() -> None:
    assert reading_size(256, 512) == (64, 128)
    assert reading_size(32, 32) == (32, 32)
    assert reading_size(100, 60) == (96, 64)
    assert reading_size(16, 4) == (16, 8)


def test_it_is_for_images_that_belong_to_maps() -> None:
    fields = {"image": Image(16, 16), "input": Segmentation(16, 16, ("sky", "sea"))}
    to_image = Output("image", lambda nets, inputs, clock: inputs.input, ("input",))
    to_map = Output("input", lambda nets, inputs, clock: inputs.image, ("image",))
    paired, unpaired = DataSpec(fields), DataSpec(fields, unpaired=("input",))
    assert suits("segmenter", [to_image], to_image, paired)
    assert not suits("segmenter", [to_image], to_image, unpaired), "there is no map of a real image"
    assert not suits("segmenter", [to_map], to_map, paired), "a map is not read as a map"
