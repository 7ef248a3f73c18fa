"""Inversion: with a linear generator the latents of images are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from linear_world import dataset, generate, pixels, shuffle, train_run, world
from PIL import Image
from torch import Tensor

from leafwing import cli
from leafwing.data import load
from leafwing.errors import LeafwingError
from leafwing.game import Abilities, DataSpec, Game, Output
from leafwing.laboratory.fitting import Box, fit, load_targets
from leafwing.laboratory.invert import invert
from leafwing.model import Model
from leafwing.parts import priors
from leafwing.pictures import png, to_image, to_pixels
from leafwing.pixels import images_to_tensor

pytestmark = pytest.mark.machine


def wide_box(size: int) -> Box:
    return Box(torch.full((size,), -1e3), torch.full((size,), 1e3))


def valley(latents: Tensor, targets: Tensor) -> Tensor:
    """A narrow valley with its minimum at 1, 2, 3 and so on, plus the index of the target."""
    minimum = torch.arange(1.0, latents.shape[1] + 1) + targets[:, None]
    return ((latents - minimum).square() * torch.logspace(0, 3, latents.shape[1])).sum(1)


def test_lbfgs_finds_the_minimum_of_a_narrow_valley_in_fewer_steps_than_adam() -> None:
    starts, targets = torch.zeros(3, 6), torch.tensor([0, 1, 5])
    latents, losses = fit(valley, starts, targets, wide_box(6), steps=40, method="lbfgs")
    assert torch.allclose(latents, torch.arange(1.0, 7) + targets[:, None], atol=1e-2)
    assert (losses < 1e-4).all()
    _, slower = fit(valley, starts, targets, wide_box(6), steps=40)
    assert (slower > 1).all()


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_the_progress_ends_at_the_last_step(method: Literal["adam", "lbfgs"]) -> None:
    """Also where the search converges earlier."""
    counts: list[tuple[int, int]] = []
    starts, targets = torch.ones(2, 3), torch.arange(2)
    fit(
        lambda z, indices: z.abs().sum(1), starts, targets, wide_box(3), steps=40, method=method,
        report_progress=lambda what, done, total: counts.append((done, total)),
    )  # fmt: skip
    assert counts[-1] == (40, 40)


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_the_result_for_an_image_does_not_depend_on_others(method: Literal["adam", "lbfgs"]) -> None:
    starts = torch.randn(70, 6, generator=torch.Generator().manual_seed(0))
    targets, reports = torch.arange(70), []
    together, _ = fit(
        valley,
        starts,
        targets,
        wide_box(6),
        steps=8,
        method=method,
        report_progress=lambda what, done, total: reports.append((done, total)),
    )
    alone, _ = fit(valley, starts[69:], targets[69:], wide_box(6), steps=8, method=method)
    assert torch.allclose(together[69], alone[0], rtol=1e-3, atol=1e-3)
    assert reports[-1] == (16, 16)
    assert [done for done, _ in reports] == list(range(1, 17))


def test_the_loss_never_rises_and_latents_stay_in_their_box() -> None:
    box = Box(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0]))
    start = torch.tensor([[0.5, 1.0]])
    before = valley(start, torch.zeros(1))
    for method in ("adam", "lbfgs"):
        latents, losses = fit(
            lambda z, targets: valley(z, targets) * 1e3, start, torch.zeros(1), box, steps=60, method=method
        )
        assert losses[0] <= before[0] * 1e3
        assert torch.allclose(latents, torch.tensor([[1.0, 2.0]]), atol=0.06)
        assert latents[0, 0] <= 1
    start, targets = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    _, losses = fit(valley, start, targets, wide_box(6), steps=3, rate=1000)
    assert torch.allclose(losses, valley(start, targets))  # the start is the best point


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_the_latents_of_samples_are_recovered(prior: str) -> None:
    model = world(prior=prior)
    truth = model.latents(4, seed=7)
    data = dataset(model, model.generate(truth))
    finding = invert(model, held_out=data, features=pixels(), pictures="0:4", starts=2, steps=60)
    error = finding.figures["error"]
    assert error["lbfgs"] < 1e-4 < error["random"] / 20
    assert error["adam"] < error["random"] / 20
    assert np.allclose(finding.arrays["latents"], shuffle(data, truth).numpy(), atol=0.03)
    assert np.abs(finding.arrays["latents"]).max() <= (1 if prior == "uniform" else 5)
    assert "encoder" not in error
    again = invert(model, held_out=data, features=pixels(), pictures="0:4", starts=2, steps=60)
    assert again.figures == finding.figures


def test_an_exact_encoder_has_the_lowest_error() -> None:
    model = world(encodes=True)
    truth = model.latents(3, seed=7)
    data = dataset(model, model.generate(truth))
    finding = invert(model, held_out=data, features=pixels(), pictures="0:3", starts=1, steps=1)
    error = finding.figures["error"]
    assert error["encoder"] < min(error["adam"], error["lbfgs"]) / 2
    assert error["hybrid"] <= error["encoder"] * 1.01
    assert np.allclose(finding.arrays["latents_encoder"], shuffle(data, truth).numpy(), atol=0.03)
    assert set(finding.arrays) == {"latents", *(f"latents_{name}" for name in ("adam", "lbfgs", "encoder", "hybrid"))}


def test_images_are_inverted_with_their_class() -> None:
    model = world(labels=("dim", "bright"))
    data = dataset(model, model.sample(4, seed=7, label=[0, 1, 0, 1]), [0, 1, 0, 1])
    with_own = invert(model, held_out=data, features=pixels(), pictures="0:4", starts=1, steps=40, method="lbfgs")
    assert max(with_own.figures["errors"]["lbfgs"]) < 1e-3
    with_other = invert(
        model,
        held_out=data,
        features=pixels(),
        conditions={"label": "dim"},
        pictures="0:4",
        starts=1,
        steps=40,
        method="lbfgs",
        weight=0,
    )
    # The latent must add the brightness that the class does not.
    assert with_other.figures["length"]["lbfgs"] > with_own.figures["length"]["lbfgs"]


def test_image_files_are_resized_like_the_training_data(tmp_path: Path) -> None:
    model = world()
    samples = model.sample(3, seed=7)
    data = dataset(model, samples)
    for i in range(2):
        (tmp_path / f"p{i}.png").write_bytes(png(to_image(to_pixels(samples)[i]).resize((32, 32), 0)))
    (tmp_path / "notes.txt").write_text("no image")
    folder = invert(model, held_out=data, features=pixels(), file=tmp_path, starts=1, steps=30, method="lbfgs")
    assert folder.figures["pictures"] == 2
    single = invert(model, held_out=data, features=pixels(), file=tmp_path / "p1.png", starts=1, steps=30, method="lbfgs")
    assert single.figures["error"]["lbfgs"] < 0.01
    assert np.allclose(single.arrays["latents"][0], model.latents(2, seed=7)[1].numpy(), atol=0.3)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("L", {"fit": "pad", "background": "black"}),
        ("L", {"crop_from": 24}),
        ("I;16", {}),
        ("I;16", {"levels": "0:4095"}),
        ("I;16", {"levels": "1%:99%", "bits": 16}),
        ("I;16", {"bits": 16, "crop_from": "20x28"}),
    ],
)
def test_a_file_of_the_data_is_the_same_picture_as_in_the_data(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (5, 40, 48), dtype=np.uint8)):
        Image.fromarray(image * np.uint16(16) if mode == "I;16" else image).save(folder / f"{i}.png")
    data = load(folder, size=16, channels=1, cache=tmp_path / "cache", **options)
    targets = load_targets(world(channels=1), data, "", file=folder)
    assert torch.equal(targets.images, images_to_tensor(data.array))


def test_a_folder_with_more_images_than_are_inverted_says_so(tmp_path: Path) -> None:
    model = world()
    data = dataset(model, model.sample(1))
    for i in range(70):
        Image.new("RGB", (16, 16), (i, 0, 0)).save(tmp_path / f"{i:02d}.png")
    finding = invert(model, held_out=data, features=pixels(), file=tmp_path, starts=1, steps=1, method="lbfgs", weight=0)
    assert finding.figures["pictures"] == 64
    assert any("has 70 images, and these are the first 64 by name" in line for line in finding.words)


def test_invalid_input_is_refused(tmp_path: Path) -> None:
    plain, conditional = world(), world(labels=("dim", "bright"))
    data, space = dataset(plain, plain.sample(3)), pixels()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    for message, options in [
        ("does not generate its image from 'label'", {"conditions": {"label": "dim"}}),
        ("pictures=.3.: there are 3 images, 0 to 2", {"pictures": "3"}),
        ("pictures=.x.", {"pictures": "x"}),
        ("--method hybrid needs an encoder, and this run has none", {"method": "hybrid"}),
        ("starts='?0", {"starts": 0}),
        ("steps=-3", {"steps": -3}),
        ("weight='?-1", {"weight": -1}),
        ("weight='?nan", {"weight": float("nan")}),
        ("no such file", {"file": tmp_path / "none.png"}),
        ("broken.png.: truncated or corrupt", {"file": tmp_path / "broken.png"}),
        ("seed=-1", {"seed": -1}),
    ]:
        with pytest.raises(LeafwingError, match=message):
            invert(plain, held_out=data, features=space, **options)  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match="--label dim"):
        invert(conditional, held_out=data, features=space)
    with pytest.raises(LeafwingError, match="no class 'bleak'"):
        invert(conditional, held_out=data, features=space, conditions={"label": "bleak"})


def test_real_images_keep_their_attributes() -> None:
    output = Output("image", generate, ("attributes",), priors.by_name("normal", 9))
    spec = DataSpec.images(16, 16, attributes=("smiling", "old"))
    model = Model(Game({"G": world().game.players["G"]}, [], Abilities([output])), spec)
    attributes = np.array([[0, 1], [1, 0], [1, 1], [0, 0]], np.uint8)
    data = dataset(model, model.sample(4))
    data = replace(data, columns={**data.columns, "attributes": attributes})
    targets = load_targets(model, data, "0:2,3")
    assert targets.names == ["0", "1", "3"]
    expected = shuffle(data, torch.from_numpy(attributes).float())[[0, 1, 3]]
    assert torch.equal(targets.conditions["attributes"], expected)
    expected[:, 1] = 1
    changed = load_targets(model, data, "0:2,3", {"attributes": {"old": "yes"}})
    assert torch.equal(changed.conditions["attributes"], expected)


def test_a_run_is_inverted_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(train_run(tmp_path))
    words = ["explore", run, "invert", "--features", "pixels", "--pictures", "0,1", "--steps", "3", "--starts", "2"]
    assert cli.run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["figures"]["error"]["lbfgs"] <= document["figures"]["error"]["random"]
    assert {Path(file).name for file in document["written"]} >= {"inversion.png", "latents.npy"}
    latents = str(Path(document["written"][0]).with_name("latents.npy"))
    words = ["explore", run, "interpolate", "--features", "pixels", "--latents", latents, "--samples", "0,1"]
    assert cli.run(words) == 0
    assert cli.run(["explore", run, "invert", "--seed", "many"]) == 2
    assert "many" in capsys.readouterr().err
