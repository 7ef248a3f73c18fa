"""Both sides of an evaluation: which pictures they are, that each is worked out once, in chunks, and what is kept in the cache."""

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
from leafwing.metrics import samples
from leafwing.metrics.evidence import Evidence
from leafwing.metrics.features import Features, pixels
from leafwing.metrics.protocol import Protocol
from leafwing.metrics.samples import AS_REAL, IN_TURN, Samples
from leafwing.model import Model
from leafwing.parts.priors import Normal

N, M = 150, 100
SPEC = DataSpec(8, 8, 1, labels=("a", "b", "c"), fields=("image", "label"))


def data(n: int = N, mirror: bool = False, labels: bool = True) -> Dataset:
    """Noise in which no picture is symmetric or there twice; of class a there is one in ten, of b the rest."""
    array = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
    classes = np.where(np.arange(n) % 10 == 0, 0, 1) if labels else None
    return Dataset(SPEC if labels else DataSpec(8, 8, 1), array, classes, "ab" * 32, "noise", {"mirror": mirror})


def model(told: bool = True) -> Model:
    """Paints the latent's numbers into the picture, and the class over them."""

    def generate(nets: Any, z: Tensor, label: Tensor | None) -> Tensor:
        painted = z.tanh().unflatten(1, (1, 8, 8))
        return painted if label is None else torch.where(torch.arange(8) == 0, label.view(-1, 1, 1, 1) / 4, painted)

    return Model(Game({}, [], Abilities(Normal(64), generate, ("label",) if told else ())), SPEC)


class Network:
    """A feature network that keeps count of the pictures it saw, and of how many at a time."""

    def __init__(self, classifies: bool = False) -> None:
        self.seen: list[int] = []
        self.classifies = classifies

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        self.seen.append(len(pictures))
        features, _ = pixels(pictures)
        return features, features[:, :3] if self.classifies else None


def protocol(real: Dataset, **more: Any) -> Protocol:
    about = Protocol(
        data=real.fingerprint, split="held-out", held_out=0, n_real=len(real), n_fake=M, shape="8x8x1", fit="crop",
        background="white", mirror=real.mirror, labels=AS_REAL, features="pixels", network="cd" * 32, seed=2, precision="fp32",
    )  # fmt: skip
    return replace(about, **more)


def open_samples(
    cache: Path, real: Dataset, counted: Network | None = None, told: bool = True, **conditions: Any
) -> Samples:
    about = protocol(real, **conditions)
    features = Features("pixels", about.network, counted or Network(), classifies=bool(counted and counted.classifies))
    parts = real.split(20)
    return Samples(model(told), real, about, features, parts=lambda: parts, cache=cache, processes=Processes())


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Samples]:
    with open_samples(tmp_path, data()) as opened:
        yield opened


def is_evidence(opened: Samples) -> Evidence:
    """mypy compares the class with the protocol here."""
    return opened


def joined(chunks: Iterator[Tensor]) -> Tensor:
    return torch.cat(list(chunks))


# --- which samples -------------------------------------------------------------------------------------------------------


def test_every_real_picture_is_shown_once(both: Samples) -> None:
    shown = {bytes(one.numpy().tobytes()) for one in joined(both.real_pictures())}
    known = {bytes(one.numpy().tobytes()) for one in samples.to_floats(data().array)}
    assert shown == known
    assert torch.equal(joined(both.real_pictures()), joined(both.real_pictures()))


def test_fewer_real_pictures_are_a_choice_of_the_seed(tmp_path: Path) -> None:
    some = [joined(open_samples(tmp_path, data(), n_real=40, seed=seed).real_pictures()) for seed in (0, 0, 1)]
    assert some[0].shape == (40, 1, 8, 8)
    assert torch.equal(some[0], some[1])
    assert not torch.equal(some[0], some[2])


def test_of_mirrored_data_half_are_shown_mirrored(tmp_path: Path) -> None:
    plain, mirrored = (joined(open_samples(tmp_path, data(mirror=mirror)).real_pictures()) for mirror in (False, True))
    turned = (mirrored == plain.flip(3)).flatten(1).all(1)
    assert ((mirrored == plain).flatten(1).all(1) | turned).all()
    assert 0.35 < turned.float().mean() < 0.65  # of 150, four standard deviations are 0.16


def test_samples_are_those_of_the_model_rounded_to_8_bits(both: Samples) -> None:
    exact = model().sample(M, seed=2, label=both.fake_labels())
    made = joined(both.fake_pictures())
    assert made.dtype == torch.float32
    assert (made - exact).abs().max() <= 0.5 / 127.5 + 1e-6
    assert torch.equal(made, (exact * 127.5 + 127.5).round() / 127.5 - 1)


def test_classes_are_asked_for_in_the_shares_of_the_real_pictures(tmp_path: Path) -> None:
    real = data()
    labels = open_samples(tmp_path, real, n_fake=300).fake_labels()
    assert np.bincount(labels, minlength=3).tolist() == [30, 270, 0]
    assert np.bincount(open_samples(tmp_path, real, labels=IN_TURN, n_fake=300).fake_labels()).tolist() == [100] * 3
    assert open_samples(tmp_path, real, told=False).fake_labels() is None


def test_labels_of_real_pictures_are_in_their_order(both: Samples) -> None:
    real = data()
    by_picture = {
        one.tobytes(): label for one, label in zip(samples.to_floats(real.array).numpy(), real.labels, strict=True)
    }
    assert [by_picture[one.tobytes()] for one in joined(both.real_pictures()).numpy()] == both.real_labels().tolist()


def test_training_and_held_out_pictures_are_in_the_order_of_the_data(tmp_path: Path) -> None:
    opened = open_samples(tmp_path, data(mirror=True))
    train, held = (joined(chunks) for chunks in (opened.train_pictures(), opened.held_pictures()))
    assert (len(train), len(held)) == (N - 20, 20)
    places = {one.tobytes(): i for i, one in enumerate(samples.to_floats(data().array).numpy())}
    for part in (train, held):
        order = [places[one.tobytes()] for one in part.numpy()]
        assert order == sorted(order)


def test_made_of_latents_of_ones_own(both: Samples) -> None:
    latents = both.latents(5)
    assert torch.equal(latents, model().latents(5, 2))
    made = both.made_of(latents)
    assert (made[:, :, :, 0] == 0).all(), "of class 0"
    assert torch.equal(made[..., 1:], latents.tanh().view(5, 1, 8, 8)[..., 1:])


def test_points_are_in_the_datas_units(tmp_path: Path) -> None:
    spec = DataSpec(0, 0, 2)
    array = np.random.default_rng(0).normal(0, 3, (N, 2)).astype(np.float32)
    real = Dataset(spec, array, None, "ab" * 32, "ring", {})
    game = Game({}, [], Abilities(Normal(2), lambda nets, z, label: z * 10))
    about = protocol(real, shape="points", features="", network="")
    opened = Samples(
        Model(game, spec), real, about, None, parts=lambda: real.split(0), cache=tmp_path, processes=Processes()
    )
    assert opened.world == "ring"
    assert opened.fake_points().dtype == np.float64
    assert np.allclose(opened.fake_points(), model_points := Model(game, spec).sample(M, 2).numpy())
    assert np.abs(model_points).max() > 10
    with pytest.raises(LeafwingError, match="this metric requires pictures"):
        opened.fake_pictures()
    with pytest.raises(LeafwingError, match="requires a feature network"):
        opened.features(torch.zeros(1, 1, 8, 8))


def test_pictures_are_no_points(both: Samples) -> None:
    assert both.world == ""
    with pytest.raises(LeafwingError, match="this metric requires points"):
        both.fake_points()


def test_digits_of_ones_own_are_read_by_a_reader_of_their_own(tmp_path: Path) -> None:
    spec = DataSpec(8, 8, 3)
    real = Dataset(spec, np.zeros((N, 8, 8, 3), np.uint8), None, "ab" * 32, "stacked:/my/digits", {})
    model = Model(Game({}, [], Abilities(Normal(2), lambda nets, z, label: z)), spec)
    opened = Samples(model, real, protocol(real), None, parts=lambda: real.split(0), cache=tmp_path, processes=Processes())
    assert digits_of(opened.world) == "/my/digits"


# --- features ------------------------------------------------------------------------------------------------------------


def test_features_are_worked_out_once_and_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, passes = Network(classifies=True), []
    with open_samples(tmp_path, data(), network) as opened:
        stream = opened.model.stream
        monkeypatch.setattr(opened.model, "stream", lambda z, **how: passes.append(len(z)) or stream(z, **how))
        for _ in range(2):
            real, fake, sure = opened.real_features(), opened.fake_features(), opened.fake_probabilities()
            assert len(list(opened.fake_pictures())) == 2
    assert (real.shape, fake.shape, sure.shape) == ((N, 64), (M, 64), (M, 3))
    assert (real.dtype, fake.dtype, sure.dtype) == (np.float32, np.float32, np.float64)
    assert np.allclose(sure.sum(1), 1, atol=1e-12)
    assert network.seen == [64, 64, 22, 64, 36], "real, then fake pictures"
    assert passes == [64, 36]
    assert np.array_equal(fake, joined(opened.fake_pictures()).flatten(1).numpy())


def test_features_of_real_pictures_are_kept_in_the_cache(tmp_path: Path) -> None:
    first, second = Network(), Network()
    known = open_samples(tmp_path, data(), first).real_features()
    assert np.array_equal(open_samples(tmp_path, data(), second, n_fake=7, precision="bf16").real_features(), known)
    assert (sum(first.seen), second.seen) == (N, [])
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
        assert sum(third.seen) == other.get("n_real", N), other
    for path in (tmp_path / "features").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    fourth = Network()
    assert np.array_equal(open_samples(tmp_path, data(), fourth).real_features(), known)
    assert sum(fourth.seen) == N, "a damaged file was believed"


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("in the way")
    assert open_samples(tmp_path, data()).real_features().shape == (N, 64)


def test_samples_on_the_disk_end_with_the_evaluation(tmp_path: Path) -> None:
    with open_samples(tmp_path, data()) as opened:
        list(opened.fake_pictures())
        assert isinstance(opened._made[0], np.memmap), "samples are held in memory"
    assert list((tmp_path / "samples").iterdir()) == []


def test_samples_that_are_not_finite_stay_so(tmp_path: Path) -> None:
    """A byte has no way to say nan: a diverged generator must not pass for one that paints grey."""
    with open_samples(tmp_path, data(), told=False) as opened:
        whole = opened.model.game.abilities.generate
        assert whole is not None

        def broken(nets: Any, z: Tensor, label: Tensor | None) -> Tensor:
            made = whole(nets, z, label)
            return torch.where((z[:, 0] > 1).view(-1, 1, 1, 1) & (torch.arange(8) == 2), torch.nan, made)

        opened.model.game.abilities = replace(opened.model.game.abilities, generate=broken)
        ill = opened.model.latents(M, opened.seed)[:, 0] > 1
        shown = joined(opened.fake_pictures())
        assert 0 < ill.sum() < M
        assert torch.equal(shown.isnan().flatten(1).all(1), ill)
        assert torch.equal(torch.from_numpy(opened.fake_features()).isnan().all(1), ill)


def test_a_network_that_is_no_classifier_gives_no_probabilities(both: Samples) -> None:
    with pytest.raises(LeafwingError, match="not a classifier"):
        both.fake_probabilities()


# --- attributes ----------------------------------------------------------------------------------------------------------


def attributed(cache: Path, names: tuple[str, ...] = ("x", "y"), labels: str = AS_REAL) -> Samples:
    """A model whose samples are their two attributes, beside noise of which one in ten has x and none has y."""
    spec = DataSpec(8, 8, 1, fields=("image", "attributes"), attributes=("x", "y"))

    def generate(nets: Any, z: Tensor, attributes: Tensor) -> Tensor:
        return attributes.repeat(1, 32).view(-1, 1, 8, 8)

    real = data(labels=False)
    real.attributes = np.stack([np.arange(N) % 10 == 0, np.zeros(N, bool)], axis=1).astype(np.uint8)
    real.spec = replace(spec, attributes=names)
    told = Model(Game({}, [], Abilities(Normal(64), generate, ("attributes",))), spec, combinations=[[-1, 1, 1]])
    parts = real.split(20)
    about = protocol(real, labels=labels, n_fake=N + 50)
    return Samples(told, real, about, None, parts=lambda: parts, cache=cache, processes=Processes())


def test_samples_have_the_attributes_of_the_real_ones_in_their_shares(tmp_path: Path) -> None:
    with attributed(tmp_path) as opened:
        made = joined(opened.fake_pictures())[:, 0, 0, :2].round()
        order, _ = opened.real.epoch(2, 0)
        assert opened.real.attributes is not None
        real = torch.from_numpy(opened.real.attributes[order]).float()
        assert torch.equal(made[:N], real)
        assert torch.equal(made[N:], real[:50])


@pytest.mark.parametrize("how", [{"names": ("x", "z")}, {"labels": IN_TURN}])
def test_where_the_real_ones_have_others_they_are_those_that_the_run_knows(tmp_path: Path, how: dict[str, Any]) -> None:
    with attributed(tmp_path, **how) as opened:
        assert joined(opened.fake_pictures())[:, 0, 0, :2].eq(1).all()


def test_what_is_made_of_latents_has_one_and_the_same_attributes(tmp_path: Path) -> None:
    opened = attributed(tmp_path)
    opened.model.combinations = np.array([[-1, 1, 0], [-1, 0, 1]])
    assert len(opened.made_of(opened.latents(20))[:, 0, 0, :2].unique(dim=0)) == 1
