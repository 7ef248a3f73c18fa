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

from leafwing.commands.evaluate import scale_of
from leafwing.commands.figures import is_on_scale
from leafwing.conditions import Examples
from leafwing.data import Dataset
from leafwing.data.stacked import digits_of
from leafwing.engine.processes import Processes
from leafwing.errors import LeafwingError
from leafwing.fields import Box, Caption, Clip, Image, Mask
from leafwing.game import Abilities, Batch, Clock, DataSpec, Game, Output
from leafwing.metrics.evidence import Evidence
from leafwing.metrics.features import Features, pixels
from leafwing.metrics.protocol import AS_REAL, DEFAULTS, Protocol
from leafwing.metrics.samples import RunEvidence, read_features, write_features
from leafwing.metrics.scale import NOISE
from leafwing.metrics.targets import enlargement
from leafwing.model import Model
from leafwing.parts.priors import Normal
from leafwing.pixels import images_to_tensor

N, M = 150, 100
SPEC = DataSpec.images(8, 8, 1, labels=("a", "b", "c"))
PLAIN = DataSpec.images(8, 8, 1)


def noise(n: int = N, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, channels), dtype=np.uint8)


def data(n: int = N, mirror: bool = False, labels: bool = True) -> Dataset:
    """Noise without symmetric or equal images; a tenth of class a, the rest of class b."""
    classes = {"label": np.where(np.arange(n) % 10 == 0, 0, 1)} if labels else {}
    spec = SPEC if labels else PLAIN
    return Dataset(spec, {"image": noise(n), **classes}, "ab" * 32, "noise", {"mirror": mirror})


def model_of(output: Output, spec: DataSpec, examples: Examples | None = None) -> Model:
    return Model(Game({}, [], Abilities([output])), spec, examples=examples)


def model(conditional: bool = True) -> Model:
    """An image shows its latent as pixels, and its class in the first column."""

    def make(nets: Any, inputs: Batch, clock: Clock) -> Tensor:
        image = inputs.latent.tanh().unflatten(1, (1, 8, 8))
        return torch.where(torch.arange(8) == 0, inputs.label.view(-1, 1, 1, 1) / 4, image) if conditional else image

    return model_of(Output("image", make, ("label",) if conditional else (), Normal(64)), SPEC)


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
        background="white", mirror=real.mirror, conditions=AS_REAL, features="pixels", network="cd" * 32, seed=2, precision="fp32",
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


def test_the_time_per_sample_is_that_of_the_second_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n_fake, seconds in ((M, 4 / 8), (5, 4 / 5)):
        times = iter([0.0, 100.0, 200.0, 204.0])  # the first batch also pays for the start
        monkeypatch.setattr("leafwing.metrics.samples.time.perf_counter", lambda times=times: next(times))
        assert open_samples(tmp_path, data(), n_fake=n_fake).seconds_per_sample() == seconds


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
    assert np.bincount(open_samples(tmp_path, real, conditions=DEFAULTS, n_fake=300).fake_labels()).tolist() == [100] * 3
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
    spec = DataSpec.vectors(2)
    array = np.random.default_rng(0).normal(0, 3, (N, 2)).astype(np.float32)
    real = Dataset(spec, {"image": array}, "ab" * 32, "ring", {})
    model = model_of(Output("image", lambda nets, inputs, clock: inputs.latent * 10, (), Normal(2)), spec)
    conditions = protocol(real, shape="points", features="", network="")
    evidence = RunEvidence(model, real, conditions, None, parts=lambda: real.split(0), cache=tmp_path, processes=Processes())
    assert evidence.built_in == "ring"
    assert evidence.fake_points().dtype == np.float64
    assert np.allclose(evidence.fake_points(), model_points := model.sample(M, 2).numpy())
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
    spec = DataSpec.images(8, 8)
    real = Dataset(spec, {"image": np.zeros((N, 8, 8, 3), np.uint8)}, "ab" * 32, "stacked:/my/digits", {})
    model = model_of(Output("image", lambda nets, inputs, clock: inputs.latent, (), Normal(2)), spec)
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
        make = evidence.output.make

        def broken(nets: Any, inputs: Batch, clock: Clock) -> Tensor:
            is_broken = (inputs.latent[:, 0] > 1).view(-1, 1, 1, 1) & (torch.arange(8) == 2)
            return torch.where(is_broken, torch.nan, make(nets, inputs, clock))

        evidence.model.game.abilities = Abilities([replace(evidence.output, make=broken)])
        expected = evidence.model.latents(M, evidence.seed)[:, 0] > 1
        images = joined(evidence.fake_pictures())
        assert 0 < expected.sum() < M
        assert torch.equal(images.isnan().flatten(1).all(1), expected)
        assert torch.equal(torch.from_numpy(evidence.fake_features()).isnan().all(1), expected)


def test_probabilities_require_a_classifier(evidence: RunEvidence) -> None:
    with pytest.raises(LeafwingError, match="not a classifier"):
        evidence.fake_probabilities()


# --- conditions ----------------------------------------------------------------------------------------------------------


def evidence_of(cache: Path, model: Model, real: Dataset, n_fake: int, held_out: int = 20, **how: Any) -> RunEvidence:
    parts, conditions = real.split(held_out), protocol(real, n_fake=n_fake, **how)
    network = Features("pixels", conditions.network, Network())
    return RunEvidence(model, real, conditions, network, parts=lambda: parts, cache=cache, processes=Processes())


def attributed(cache: Path, conditions: str = AS_REAL, values: tuple[list[int], ...] = ([1, 1],)) -> RunEvidence:
    """A model whose samples show their two attributes, and real noise of which a tenth has x and none has y.

    Args:
        values: the attributes of the model's examples.
    """
    spec = DataSpec.images(8, 8, 1, attributes=("x", "y"))

    def make(nets: Any, inputs: Batch, clock: Clock) -> Tensor:
        return inputs.attributes.repeat(1, 32).view(-1, 1, 8, 8)

    attributes = np.stack([np.arange(N) % 10 == 0, np.zeros(N, bool)], axis=1).astype(np.uint8)
    real = Dataset(spec, {"image": noise(), "attributes": attributes}, "ab" * 32, "noise", {})
    examples = Examples({"attributes": np.array(values, np.uint8)})
    model = model_of(Output("image", make, ("attributes",), Normal(64)), spec, examples)
    return evidence_of(cache, model, real, N + 50, conditions=conditions)


def test_samples_have_the_attributes_of_the_real_images(tmp_path: Path) -> None:
    with attributed(tmp_path) as evidence:
        attributes = joined(evidence.fake_pictures())[:, 0, 0, :2].round()
        order, _ = evidence.real.epoch(2, 0)
        assert evidence.real.attributes is not None
        real = torch.from_numpy(evidence.real.attributes[order]).float()
        assert torch.equal(attributes[:N], real)
        assert torch.equal(attributes[N:], real[:50])


def test_default_attributes_are_those_of_the_models_examples(tmp_path: Path) -> None:
    with attributed(tmp_path, DEFAULTS) as evidence:
        assert joined(evidence.fake_pictures())[:, 0, 0, :2].eq(1).all()


def test_generate_uses_the_same_attributes_for_all(tmp_path: Path) -> None:
    evidence = attributed(tmp_path, values=([1, 0], [0, 1]))
    assert len(evidence.generate(evidence.latents(20))[:, 0, 0, :2].unique(dim=0)) == 1


CAPTION = Caption(("red", "blue", "star", "disc"), 3)


@pytest.mark.parametrize("mirror", [False, True])
def test_samples_have_the_captions_and_boxes_of_the_real_images(tmp_path: Path, mirror: bool) -> None:
    """Each real image shows its own box in its first row, and its caption in the second, so that samples must be the same there."""
    random = np.random.default_rng(3)
    boxes = random.uniform(0.1, 0.4, (N, 4)).astype(np.float32)
    captions = np.array([[*CAPTION.encode(text), 0] for text in ("red star", "blue disc", "red disc")])[np.arange(N) % 3][
        :, None
    ]
    spec = DataSpec.images(8, 8, 1, caption=CAPTION, box=Box())
    real = Dataset(spec, {"image": noise(), "caption": captions, "box": boxes}, "ab" * 32, "noise", {"mirror": mirror})

    def make(nets: Any, inputs: Batch, clock: Clock) -> Tensor:
        rows = torch.zeros(len(inputs.box), 1, 8, 8)
        rows[:, 0, 0, :4], rows[:, 0, 1, :3] = inputs.box, inputs.caption / 4
        return rows

    model = model_of(Output("image", make, ("caption", "box"), Normal(4)), spec)
    with evidence_of(tmp_path, model, real, N) as evidence:
        images = joined(evidence.fake_pictures())[:, 0]
        batch = real.batch(2, 0, N)
        assert (images[:, 0, :4] - batch.box).abs().max() <= 0.5 / 127.5 + 1e-6
        assert torch.equal((images[:, 1, :3] * 4).round().long(), batch.caption)
        assert torch.equal(joined(evidence.inputs("box")), batch.box)
        order, flips = real.epoch(2, 0)
        left = boxes[order, 0] if flips is None else np.where(flips, 1 - boxes[order, 0] - boxes[order, 2], boxes[order, 0])
        assert np.allclose(batch.box[:, 0].numpy(), left)


def test_an_output_without_latents_or_targets(tmp_path: Path) -> None:
    with attributed(tmp_path) as evidence, pytest.raises(LeafwingError, match="has none"):
        evidence.pairs()
    with translator(tmp_path) as evidence, pytest.raises(LeafwingError, match="requires latents"):
        evidence.latents(3)


# --- images from images --------------------------------------------------------------------------------------------------


def translator(cache: Path, n_fake: int = N, output: str = "image", mirror: bool = False, **how: Any) -> RunEvidence:
    """Generates the input in half its contrast; the real target of an input is its negative. Also generates inputs from images."""
    spec = DataSpec.images(8, 8, 1, input=Image(8, 8, 1))
    images = noise()
    real = Dataset(spec, {"image": 255 - images, "input": images}, "ab" * 32, "noise", {"mirror": mirror})
    outputs = [
        Output("image", lambda nets, inputs, clock: inputs.input / 2, ("input",)),
        Output("input", lambda nets, inputs, clock: -inputs.image, ("image",)),
    ]
    model = Model(Game({}, [], Abilities(outputs)), spec)
    return evidence_of(cache, model, real, n_fake, output=output, **how)


@pytest.mark.parametrize("mirror", [False, True])
def test_pairs_are_samples_and_the_targets_of_their_inputs(tmp_path: Path, mirror: bool) -> None:
    with translator(tmp_path, N + 70, mirror=mirror) as evidence:
        fake, real = (torch.cat(side) for side in zip(*evidence.pairs(), strict=True))
        inputs = joined(evidence.inputs("input"))
        assert len(fake) == len(real) == len(inputs) == N + 70
        assert (fake - inputs / 2).abs().max() <= 0.5 / 127.5 + 1e-6
        assert torch.allclose(real, -inputs, atol=1e-6)
        assert torch.equal(inputs[N:], inputs[:70]), "there are only N real images"
        assert torch.equal(real[:N], joined(evidence.real_pictures()))
        assert torch.equal(fake, joined(evidence.fake_pictures()))


def test_another_output_is_compared_with_its_own_field(tmp_path: Path) -> None:
    with translator(tmp_path, output="input") as evidence:
        fake, real = (torch.cat(side) for side in zip(*evidence.pairs(), strict=True))
        assert torch.allclose(fake, real, atol=1e-6)
        assert not np.array_equal(evidence.real_features(), translator(tmp_path).real_features()), "the cache mixes fields"
        stored = images_to_tensor(evidence.real.stored("input", np.arange(N)))
        assert sum(len(chunk) for chunk in (evidence.train_pictures())) == N - 20
        held_out = joined(evidence.held_out_pictures())
        assert {image.tobytes() for image in held_out.numpy()} < {image.tobytes() for image in stored.numpy()}


def test_unpaired_inputs_come_from_their_own_source(tmp_path: Path) -> None:
    """The inputs are brighter than 0 and the images darker, and there are fewer inputs."""
    inputs = Dataset(PLAIN, {"image": noise(90) // 2 + 128}, "cd" * 32, "zebras", {})
    images = Dataset(PLAIN, {"image": noise(seed=1) // 2}, "ab" * 32, "horses", {})
    real = images.with_stream("input", inputs, {"image": "input"})
    outputs = [
        Output("image", lambda nets, inputs, clock: inputs.input, ("input",)),
        Output("input", lambda nets, inputs, clock: inputs.image, ("image",)),
    ]
    model = Model(Game({}, [], Abilities(outputs)), real.spec)
    with evidence_of(tmp_path, model, real, N) as evidence:
        assert (joined(evidence.fake_pictures()) > 0).all()
        assert (joined(evidence.real_pictures()) < 0).all()
        with pytest.raises(LeafwingError, match="has none"):
            evidence.pairs()
    with evidence_of(tmp_path, model, real, N, output="input", n_real=90) as evidence:
        assert (joined(evidence.fake_pictures()) < 0).all()
        real_inputs = joined(evidence.real_pictures())
        assert (real_inputs > 0).all()
        assert len(real_inputs.flatten(1).unique(dim=0)) == 90
        training, held_out = joined(evidence.train_pictures()), joined(evidence.held_out_pictures())
        assert 0 < len(held_out) < len(training)
        assert len(torch.cat([training, held_out]).flatten(1).unique(dim=0)) == 90, "every input is in one of the parts"
        assert len(joined(evidence.inputs("image")).flatten(1).unique(dim=0)) == N, (
            "as many as there are, not as real inputs"
        )
    few = replace(images, rows=np.arange(40)).with_stream("input", inputs, {"image": "input"})
    with evidence_of(tmp_path, model, few, N, n_real=40) as evidence:
        used = joined(evidence.inputs("input"))
        assert len(used.flatten(1).unique(dim=0)) == 90, "each input is used before one is used again"
        assert torch.equal(used[90:], used[: N - 90])


def test_clips_are_evaluated_as_their_frames(tmp_path: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (30, 4, 8, 8, 1), dtype=np.uint8)
    spec = DataSpec.images(8, 8, 1, clip=Clip(4, 8, 8, 1))
    real = Dataset(spec, {"image": clips[:, 0], "clip": clips}, "ab" * 32, "clips", {})

    def make(nets: Any, inputs: Batch, clock: Clock) -> Tensor:
        return inputs.latent[:, :1, None, None, None].tanh() * torch.linspace(0.1, 1, 4)[:, None, None].expand(1, 4, 8, 8)

    model = model_of(Output("clip", make, (), Normal(4)), spec)
    with evidence_of(tmp_path, model, real, 20, held_out=6, output="clip", n_real=20) as evidence:
        assert (evidence.n_real, evidence.n_fake, evidence.spec) == (80, 80, PLAIN)
        frames = joined(evidence.real_pictures())
        order, _ = real.epoch(2, 0, slice(0, 20))
        assert torch.equal(frames, images_to_tensor(clips[order].reshape(80, 8, 8, 1)))
        fakes = joined(evidence.fake_pictures()).view(20, 4, 8, 8)
        assert torch.allclose(fakes[:, 0, 0, 0] * 10, fakes[:, 3, 0, 0], atol=0.05)
        assert len(evidence.real_features()) == len(evidence.fake_features()) == 80
        assert sum(map(len, evidence.train_pictures())) + sum(map(len, evidence.held_out_pictures())) == 120


def test_clips_are_counted_as_clips_and_their_work_as_frames(tmp_path: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (60, 4, 8, 8, 1), dtype=np.uint8)
    spec = DataSpec.images(8, 8, 1, clip=Clip(4, 8, 8, 1))
    real = Dataset(spec, {"image": clips[:, 0], "clip": clips}, "ab" * 32, "clips", {})
    model = model_of(Output("clip", lambda nets, inputs, clock: inputs.latent, (), Normal(4)), spec)
    with evidence_of(tmp_path, model, real, 20, output="clip", n_real=20) as evidence:
        assert evidence.work(with_scale=True) == {
            "features of samples": 80,
            "features of real images": 80,
            "features of other real images": 80,
            "features of noise": NOISE,
        }
        scale = scale_of(evidence, "fid")["scale"]
        assert (scale["n_real"], scale["n_others"]) == (20, 20)
        assert is_on_scale({"metric": "fid", "n": 20, "scale": scale})


def test_samples_that_are_no_images_are_refused(tmp_path: Path) -> None:
    spec = DataSpec.images(8, 8, 1, hole=Mask(8, 8))
    real = Dataset(spec, {"image": noise(), "hole": noise() % 2}, "ab" * 32, "noise", {})
    model = model_of(Output("hole", lambda nets, inputs, clock: inputs.latent, (), Normal(4)), spec)
    with pytest.raises(LeafwingError, match="the output hole is a mask"):
        evidence_of(tmp_path, model, real, 20, output="hole")
    lacking = Dataset(PLAIN, {"image": noise()}, "ab" * 32, "noise", {})
    with pytest.raises(LeafwingError, match="noise has no field hole"):
        evidence_of(tmp_path, model, lacking, 20, output="hole")


def test_noise_inside_networks_is_that_of_the_same_samples_anywhere(tmp_path: Path) -> None:
    """Each pass has noise of its own, and evaluated samples are those of `Model.sample`."""

    def make(nets: Any, inputs: Batch, clock: Clock) -> Tensor:
        return torch.rand(len(inputs.latent), 1, 8, 8) - 0.5

    model = model_of(Output("image", make, (), Normal(4)), PLAIN)
    with evidence_of(tmp_path, model, data(labels=False), N) as evidence:
        images = joined(evidence.fake_pictures())
        assert (images - model.sample(N, 2)).abs().max() <= 0.5 / 127.5 + 1e-6
        assert len(images.flatten(1).unique(dim=0)) == N


@pytest.mark.parametrize(("height", "scale"), [(4, 4), (8, 2), (16, 1), (32, 1)])
def test_the_factor_of_enlargement_is_that_of_the_fields(height: int, scale: int) -> None:
    spec = DataSpec.images(16, 16, labels=("a", "b"), input=Image(height, height))
    assert enlargement(Output("image", lambda nets, inputs, clock: inputs.input, ("input", "label")), spec) == scale
    assert enlargement(Output("image", lambda nets, inputs, clock: inputs.input, ("label",)), spec) == 1


def test_cached_features_that_have_changed_are_not_used(tmp_path: Path) -> None:
    path, features = tmp_path / "cache" / "a.npy", np.arange(12, dtype=np.float32).reshape(3, 4)
    assert read_features(path) is None
    write_features(path, features)
    assert np.array_equal(read_features(path), features)  # type: ignore[arg-type]
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        assert read_features(path) is None, place
    np.save(path, features)  # as earlier versions wrote them
    assert read_features(path) is None
