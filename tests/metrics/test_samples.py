"""Both sides of an evaluation: which images they contain, and that results are computed once, in chunks, and cached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leafwing.data import Dataset
from leafwing.data.stacked import digits_of
from leafwing.engine.processes import Processes
from leafwing.errors import LeafwingError
from leafwing.game import Abilities, DataSpec, Game
from leafwing.metrics.evidence import Evidence
from leafwing.metrics.features import Features, pixels
from leafwing.metrics.protocol import AS_REAL, IN_TURN, Protocol
from leafwing.metrics.samples import RunEvidence
from leafwing.model import Model
from leafwing.parts.priors import Normal
from leafwing.pixels import images_to_tensor

N, M = 150, 100
SPEC = DataSpec(8, 8, 1, labels=("a", "b", "c"), fields=("image", "label"))


def data(n: int = N, mirror: bool = False, labels: bool = True) -> Dataset:
    """Noise without symmetric or equal images; a tenth of class a, the rest of class b."""
    array = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
    classes = np.where(np.arange(n) % 10 == 0, 0, 1) if labels else None
    return Dataset(SPEC if labels else DataSpec(8, 8, 1), array, classes, "ab" * 32, "noise", {"mirror": mirror})


def model(conditional: bool = True) -> Model:
    """An image shows its latent as pixels, and its class in the first column."""

    def generate(nets: Any, z: Tensor, label: Tensor | None) -> Tensor:
        image = z.tanh().unflatten(1, (1, 8, 8))
        return image if label is None else torch.where(torch.arange(8) == 0, label.view(-1, 1, 1, 1) / 4, image)

    return Model(Game({}, [], Abilities(Normal(64), generate, ("label",) if conditional else ())), SPEC)


class Network:
    """A feature network that records its batch sizes."""

    def __init__(self, classifies: bool = False) -> None:
        self.batches: list[int] = []
        self.classifies = classifies

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        self.batches.append(len(images))
        features, _ = pixels(images)
        return features, features[:, :3] if self.classifies else None


def protocol(real: Dataset, **changes: Any) -> Protocol:
    result = Protocol(
        data=real.fingerprint, split="held-out", held_out=0, n_real=len(real), n_fake=M, shape="8x8x1", fit="crop",
        background="white", mirror=real.mirror, labels=AS_REAL, features="pixels", network="cd" * 32, seed=2, precision="fp32",
    )  # fmt: skip
    return replace(result, **changes)


def open_samples(
    cache: Path, real: Dataset, net: Network | None = None, conditional: bool = True, **conditions: Any
) -> RunEvidence:
    about = protocol(real, **conditions)
    features = Features("pixels", about.network, net or Network(), classifies=bool(net and net.classifies))
    parts = real.split(20)
    return RunEvidence(model(conditional), real, about, features, parts=lambda: parts, cache=cache, processes=Processes())


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[RunEvidence]:
    with open_samples(tmp_path, data()) as evidence:
        yield evidence


def is_evidence(evidence: RunEvidence) -> Evidence:
    """mypy compares the class with the protocol here."""
    return evidence


def joined(chunks: Iterator[Tensor]) -> Tensor:
    return torch.cat(list(chunks))


# --- which samples -------------------------------------------------------------------------------------------------------


def test_every_real_image_appears_once(evidence: RunEvidence) -> None:
    streamed = {bytes(image.numpy().tobytes()) for image in joined(evidence.real_pictures())}
    stored = {bytes(image.numpy().tobytes()) for image in images_to_tensor(data().array)}
    assert streamed == stored
    assert torch.equal(joined(evidence.real_pictures()), joined(evidence.real_pictures()))


def test_the_seed_selects_the_real_images(tmp_path: Path) -> None:
    streams = [joined(open_samples(tmp_path, data(), n_real=40, seed=seed).real_pictures()) for seed in (0, 0, 1)]
    assert streams[0].shape == (40, 1, 8, 8)
    assert torch.equal(streams[0], streams[1])
    assert not torch.equal(streams[0], streams[2])


def test_half_of_mirrored_data_are_mirrored(tmp_path: Path) -> None:
    plain, mirrored = (joined(open_samples(tmp_path, data(mirror=mirror)).real_pictures()) for mirror in (False, True))
    flipped = (mirrored == plain.flip(3)).flatten(1).all(1)
    assert ((mirrored == plain).flatten(1).all(1) | flipped).all()
    assert 0.35 < flipped.float().mean() < 0.65  # four standard deviations of 150 are 0.16


def test_samples_are_rounded_to_8_bits(evidence: RunEvidence) -> None:
    exact = model().sample(M, seed=2, label=evidence.fake_labels())
    images = joined(evidence.fake_pictures())
    assert images.dtype == torch.float32
    assert (images - exact).abs().max() <= 0.5 / 127.5 + 1e-6
    assert torch.equal(images, (exact * 127.5 + 127.5).round() / 127.5 - 1)


def test_classes_have_the_distribution_of_the_real_images(tmp_path: Path) -> None:
    real = data()
    labels = open_samples(tmp_path, real, n_fake=300).fake_labels()
    assert np.bincount(labels, minlength=3).tolist() == [30, 270, 0]
    assert np.bincount(open_samples(tmp_path, real, labels=IN_TURN, n_fake=300).fake_labels()).tolist() == [100] * 3
    assert open_samples(tmp_path, real, conditional=False).fake_labels() is None


def test_real_labels_match_the_real_images(evidence: RunEvidence) -> None:
    real = data()
    by_image = {
        image.tobytes(): label for image, label in zip(images_to_tensor(real.array).numpy(), real.labels, strict=True)
    }
    assert [
        by_image[image.tobytes()] for image in joined(evidence.real_pictures()).numpy()
    ] == evidence.real_labels().tolist()


def test_training_and_held_out_images_are_in_the_order_of_the_data(tmp_path: Path) -> None:
    evidence = open_samples(tmp_path, data(mirror=True))
    train, held_out = (joined(chunks) for chunks in (evidence.train_pictures(), evidence.held_out_pictures()))
    assert (len(train), len(held_out)) == (N - 20, 20)
    indices = {image.tobytes(): i for i, image in enumerate(images_to_tensor(data().array).numpy())}
    for part in (train, held_out):
        order = [indices[image.tobytes()] for image in part.numpy()]
        assert order == sorted(order)


def test_generate_takes_latents(evidence: RunEvidence) -> None:
    latents = evidence.latents(5)
    assert torch.equal(latents, model().latents(5, 2))
    images = evidence.generate(latents)
    assert (images[:, :, :, 0] == 0).all(), "of class 0"
    assert torch.equal(images[..., 1:], latents.tanh().view(5, 1, 8, 8)[..., 1:])


def test_points_are_in_the_units_of_the_data(tmp_path: Path) -> None:
    spec = DataSpec(0, 0, 2)
    array = np.random.default_rng(0).normal(0, 3, (N, 2)).astype(np.float32)
    real = Dataset(spec, array, None, "ab" * 32, "ring", {})
    game = Game({}, [], Abilities(Normal(2), lambda nets, z, label: z * 10))
    conditions = protocol(real, shape="points", features="", network="")
    evidence = RunEvidence(
        Model(game, spec), real, conditions, None, parts=lambda: real.split(0), cache=tmp_path, processes=Processes()
    )
    assert evidence.built_in == "ring"
    assert evidence.fake_points().dtype == np.float64
    assert np.allclose(evidence.fake_points(), model_points := Model(game, spec).sample(M, 2).numpy())
    assert np.abs(model_points).max() > 10
    with pytest.raises(LeafwingError, match="this metric requires images"):
        evidence.fake_pictures()
    with pytest.raises(LeafwingError, match="requires a feature network"):
        evidence.features(torch.zeros(1, 1, 8, 8))


def test_images_are_not_points(evidence: RunEvidence) -> None:
    assert evidence.built_in == ""
    with pytest.raises(LeafwingError, match="this metric requires points"):
        evidence.fake_points()


def test_the_world_names_the_users_digits(tmp_path: Path) -> None:
    spec = DataSpec(8, 8, 3)
    real = Dataset(spec, np.zeros((N, 8, 8, 3), np.uint8), None, "ab" * 32, "stacked:/my/digits", {})
    model = Model(Game({}, [], Abilities(Normal(2), lambda nets, z, label: z)), spec)
    evidence = RunEvidence(
        model, real, protocol(real), None, parts=lambda: real.split(0), cache=tmp_path, processes=Processes()
    )
    assert digits_of(evidence.built_in) == "/my/digits"


# --- features ------------------------------------------------------------------------------------------------------------


def test_features_are_computed_once_and_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, passes = Network(classifies=True), []
    with open_samples(tmp_path, data(), network) as evidence:
        stream = evidence.model.stream
        monkeypatch.setattr(evidence.model, "stream", lambda z, **how: passes.append(len(z)) or stream(z, **how))
        for _ in range(2):
            real, fake, probabilities = evidence.real_features(), evidence.fake_features(), evidence.fake_probabilities()
            assert len(list(evidence.fake_pictures())) == 2
    assert (real.shape, fake.shape, probabilities.shape) == ((N, 64), (M, 64), (M, 3))
    assert (real.dtype, fake.dtype, probabilities.dtype) == (np.float32, np.float32, np.float64)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-12)
    assert network.batches == [64, 64, 22, 64, 36], "real, then fake images"
    assert passes == [64, 36]
    assert np.array_equal(fake, joined(evidence.fake_pictures()).flatten(1).numpy())


def test_features_of_real_images_are_cached(tmp_path: Path) -> None:
    first, second = Network(), Network()
    cached = open_samples(tmp_path, data(), first).real_features()
    assert np.array_equal(open_samples(tmp_path, data(), second, n_fake=7, precision="bf16").real_features(), cached)
    assert (sum(first.batches), second.batches) == (N, [])
    for other in (
        {"n_real": 70},
        {"network": "ef" * 32},
        {"split": "train"},
        {"held_out": 5},
        {"seed": 3},
        {"data": "12" * 32},
    ):
        third = Network()
        open_samples(tmp_path, data(), third, **other).real_features()
        assert sum(third.batches) == other.get("n_real", N), other
    for path in (tmp_path / "features").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    fourth = Network()
    assert np.array_equal(open_samples(tmp_path, data(), fourth).real_features(), cached)
    assert sum(fourth.batches) == N, "a damaged file was used"


def test_an_unwritable_cache_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("not a folder")
    assert open_samples(tmp_path, data()).real_features().shape == (N, 64)


def test_samples_on_disk_are_deleted_after_the_evaluation(tmp_path: Path) -> None:
    with open_samples(tmp_path, data()) as evidence:
        list(evidence.fake_pictures())
        assert isinstance(evidence._fake_images[0], np.memmap), "samples are kept in memory"
    assert list((tmp_path / "samples").iterdir()) == []


def test_non_finite_samples_become_nan(tmp_path: Path) -> None:
    """NaN has no 8-bit value: samples of a diverged generator must not turn grey."""
    with open_samples(tmp_path, data(), conditional=False) as evidence:
        generate = evidence.model.game.abilities.generate
        assert generate is not None

        def broken(nets: Any, z: Tensor, label: Tensor | None) -> Tensor:
            images = generate(nets, z, label)
            return torch.where((z[:, 0] > 1).view(-1, 1, 1, 1) & (torch.arange(8) == 2), torch.nan, images)

        evidence.model.game.abilities = replace(evidence.model.game.abilities, generate=broken)
        expected = evidence.model.latents(M, evidence.seed)[:, 0] > 1
        images = joined(evidence.fake_pictures())
        assert 0 < expected.sum() < M
        assert torch.equal(images.isnan().flatten(1).all(1), expected)
        assert torch.equal(torch.from_numpy(evidence.fake_features()).isnan().all(1), expected)


def test_probabilities_require_a_classifier(evidence: RunEvidence) -> None:
    with pytest.raises(LeafwingError, match="not a classifier"):
        evidence.fake_probabilities()


# --- attributes ----------------------------------------------------------------------------------------------------------


def attributed(cache: Path, names: tuple[str, ...] = ("x", "y"), labels: str = AS_REAL) -> RunEvidence:
    """A model whose samples show their two attributes, and real noise of which a tenth has x and none has y."""
    spec = DataSpec(8, 8, 1, fields=("image", "attributes"), attributes=("x", "y"))

    def generate(nets: Any, z: Tensor, attributes: Tensor) -> Tensor:
        return attributes.repeat(1, 32).view(-1, 1, 8, 8)

    real = data(labels=False)
    real.attributes = np.stack([np.arange(N) % 10 == 0, np.zeros(N, bool)], axis=1).astype(np.uint8)
    real.spec = replace(spec, attributes=names)
    model = Model(Game({}, [], Abilities(Normal(64), generate, ("attributes",))), spec, combinations=[[-1, 1, 1]])
    parts = real.split(20)
    conditions = protocol(real, labels=labels, n_fake=N + 50)
    return RunEvidence(model, real, conditions, None, parts=lambda: parts, cache=cache, processes=Processes())


def test_samples_have_the_attributes_of_the_real_images(tmp_path: Path) -> None:
    with attributed(tmp_path) as evidence:
        attributes = joined(evidence.fake_pictures())[:, 0, 0, :2].round()
        order, _ = evidence.real.epoch(2, 0)
        assert evidence.real.attributes is not None
        real = torch.from_numpy(evidence.real.attributes[order]).float()
        assert torch.equal(attributes[:N], real)
        assert torch.equal(attributes[N:], real[:50])


@pytest.mark.parametrize("how", [{"names": ("x", "z")}, {"labels": IN_TURN}])
def test_otherwise_attributes_are_combinations_of_the_run(tmp_path: Path, how: dict[str, Any]) -> None:
    with attributed(tmp_path, **how) as evidence:
        assert joined(evidence.fake_pictures())[:, 0, 0, :2].eq(1).all()


def test_generate_uses_the_same_attributes_for_all(tmp_path: Path) -> None:
    evidence = attributed(tmp_path)
    evidence.model.combinations = np.array([[-1, 1, 0], [-1, 0, 1]])
    assert len(evidence.generate(evidence.latents(20))[:, 0, 0, :2].unique(dim=0)) == 1
