"""Inversion: in a linear world the latents of pictures are known, and are found."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_world import held, pixels, stream, trained, world
from torch import Tensor

from leafwing import cli, laboratory
from leafwing.errors import LeafwingError
from leafwing.game import Abilities, DataSpec, Game
from leafwing.laboratory.fitting import Box, fit, real
from leafwing.laboratory.invert import invert
from leafwing.model import Model
from leafwing.parts import priors
from leafwing.pictures import png, to_image, to_pixels

pytestmark = pytest.mark.machine


def wide(size: int) -> Box:
    return Box(torch.full((size,), -1e3), torch.full((size,), 1e3))


def bent(latents: Tensor, which: Tensor) -> Tensor:
    """A narrow valley whose floor is at 1, 2, 3 and so on, plus the picture's number."""
    there = torch.arange(1.0, latents.shape[1] + 1) + which[:, None]
    return ((latents - there).square() * torch.logspace(0, 3, latents.shape[1])).sum(1)


def test_lbfgs_finds_the_floor_of_a_narrow_valley_where_adam_is_still_on_its_way() -> None:
    starts, whose = torch.zeros(3, 6), torch.tensor([0, 1, 5])
    found, costs = fit(bent, starts, whose, wide(6), steps=40, method="lbfgs")
    assert torch.allclose(found, torch.arange(1.0, 7) + whose[:, None], atol=1e-2)
    assert (costs < 1e-4).all()
    _, slower = fit(bent, starts, whose, wide(6), steps=40)
    assert (slower > 1).all()


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_what_is_found_for_a_picture_does_not_depend_on_its_neighbours(method: str) -> None:
    starts = torch.randn(70, 6, generator=torch.Generator().manual_seed(0))
    whose, told = torch.arange(70), []
    together, _ = fit(
        bent,
        starts,
        whose,
        wide(6),
        steps=8,
        method=method,
        report_progress=lambda what, done, total: told.append((done, total)),
    )
    alone, _ = fit(bent, starts[69:], whose[69:], wide(6), steps=8, method=method)
    assert torch.allclose(together[69], alone[0], rtol=1e-3, atol=1e-3)
    assert told[-1] == (16, 16)
    assert [done for done, _ in told] == list(range(1, 17))


def test_steps_never_make_it_worse_and_latents_stay_in_their_box() -> None:
    box = Box(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0]))
    start = torch.tensor([[0.5, 1.0]])
    before = bent(start, torch.zeros(1))
    for method in ("adam", "lbfgs"):
        found, costs = fit(lambda z, which: bent(z, which) * 1e3, start, torch.zeros(1), box, steps=60, method=method)
        assert costs[0] <= before[0] * 1e3
        assert torch.allclose(found, torch.tensor([[1.0, 2.0]]), atol=0.06)
        assert found[0, 0] <= 1
    start, whose = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    _, costs = fit(bent, start, whose, wide(6), steps=3, rate=1000)
    assert torch.allclose(costs, bent(start, whose))  # each step was one too far


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_the_latents_of_a_models_own_samples_are_found(prior: str) -> None:
    model = world(prior=prior)
    truth = model.latents(4, seed=7)
    data = held(model, model.generate(truth))
    found = invert(model, held=data, features=pixels(), pictures="0:4", starts=2, steps=60)
    error = found.figures["error"]
    assert error["lbfgs"] < 1e-4 < error["random"] / 20
    assert error["adam"] < error["random"] / 20
    assert np.allclose(found.arrays["latents"], stream(data, truth).numpy(), atol=0.03)
    assert np.abs(found.arrays["latents"]).max() <= (1 if prior == "uniform" else 5)
    assert "encoder" not in error
    again = invert(model, held=data, features=pixels(), pictures="0:4", starts=2, steps=60)
    assert again.figures == found.figures


def test_an_encoder_that_undoes_the_generator_wins() -> None:
    model = world(encodes=True)
    truth = model.latents(3, seed=7)
    data = held(model, model.generate(truth))
    found = invert(model, held=data, features=pixels(), pictures="0:3", starts=1, steps=1)
    error = found.figures["error"]
    assert error["encoder"] < min(error["adam"], error["lbfgs"]) / 2
    assert error["hybrid"] <= error["encoder"] * 1.01
    assert np.allclose(found.arrays["latents_encoder"], stream(data, truth).numpy(), atol=0.03)
    assert set(found.arrays) == {"latents", *(f"latents_{name}" for name in ("adam", "lbfgs", "encoder", "hybrid"))}


def test_pictures_are_inverted_as_the_class_they_have() -> None:
    model = world(labels=("dim", "bright"))
    data = held(model, model.sample(4, seed=7, label=[0, 1, 0, 1]), [0, 1, 0, 1])
    own = invert(model, held=data, features=pixels(), pictures="0:4", starts=1, steps=40, method="lbfgs")
    assert max(own.figures["errors"]["lbfgs"]) < 1e-3
    told = invert(
        model, held=data, features=pixels(), pictures="0:4", starts=1, steps=40, method="lbfgs", label="dim", weight=0
    )
    dim = np.array(told.figures["length"]["lbfgs"]), np.array(own.figures["length"]["lbfgs"])
    assert dim[0] > dim[1]  # what the class would have done, the latent must do


def test_files_are_made_to_fit_as_the_runs_own_pictures_were(tmp_path: Path) -> None:
    model = world()
    made = model.sample(3, seed=7)
    data = held(model, made)
    for i in range(2):
        (tmp_path / f"p{i}.png").write_bytes(png(to_image(to_pixels(made)[i]).resize((32, 32), 0)))
    (tmp_path / "notes.txt").write_text("no picture")
    folder = invert(model, held=data, features=pixels(), file=tmp_path, starts=1, steps=30, method="lbfgs")
    assert folder.figures["pictures"] == 2
    one = invert(model, held=data, features=pixels(), file=tmp_path / "p1.png", starts=1, steps=30, method="lbfgs")
    assert one.figures["error"]["lbfgs"] < 0.01
    assert np.allclose(one.arrays["latents"][0], model.latents(2, seed=7)[1].numpy(), atol=0.3)


def test_what_cannot_be_inverted_is_said(tmp_path: Path) -> None:
    plain, told = world(), world(labels=("dim", "bright"))
    data, space = held(plain, plain.sample(3)), pixels()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    for message, given in [
        ("no labels", {"label": "dim"}),
        ("--pictures 3: there are 3 pictures, 0 to 2", {"pictures": "3"}),
        ("--pictures 'x'", {"pictures": "x"}),
        ("--method hybrid: .*no encoder", {"method": "hybrid"}),
        ("--starts 0", {"starts": 0}),
        ("--steps -3", {"steps": -3}),
        ("--weight -1", {"weight": -1}),
        ("--weight nan", {"weight": float("nan")}),
        ("no such file", {"file": tmp_path / "none.png"}),
        ("broken.png: truncated or corrupt", {"file": tmp_path / "broken.png"}),
        ("seed=-1", {"seed": -1}),
    ]:
        with pytest.raises(LeafwingError, match=message):
            invert(plain, held=data, features=space, **given)  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match="--label dim"):
        invert(told, held=data, features=space)
    with pytest.raises(LeafwingError, match="no class 'bleak'"):
        invert(told, held=data, features=space, label="bleak")


def test_real_pictures_keep_their_attributes() -> None:
    names = ("smiling", "old")
    told = Abilities(priors.by_name("normal", 9), lambda nets, z, attributes: nets.G(z), ("attributes",))
    model = Model(Game({"G": world().game.players["G"]}, [], told), DataSpec(16, 16, 3, attributes=names))
    own = np.array([[0, 1], [1, 0], [1, 1], [0, 0]], np.uint8)
    data = replace(held(model, model.sample(4)), attributes=own)
    given = real(model, data, "0:2,3", None)
    assert given.names == ["0", "1", "3"]
    assert torch.equal(given.told[0], stream(data, torch.from_numpy(own).float())[[0, 1, 3]])


@pytest.mark.parametrize("tool", ["invert", "complete", "edit"])
def test_points_are_refused(tool: str) -> None:
    model = Model(Game({}, [], Abilities(priors.by_name("normal", 2), lambda nets, z, label: z)), DataSpec(0, 0, 2))
    given = {name: None for name in inspect.signature(laboratory.tool(tool)).parameters if name in laboratory.FILLED}
    with pytest.raises(LeafwingError, match="points"):
        laboratory.tool(tool)(model, **given)


def test_a_run_is_inverted_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(trained(tmp_path))
    asked = ["explore", run, "invert", "--features", "pixels", "--pictures", "0,1", "--steps", "3", "--starts", "2"]
    assert cli.run([*asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["figures"]["error"]["lbfgs"] <= said["figures"]["error"]["random"]
    assert {Path(file).name for file in said["written"]} >= {"inversion.png", "latents.npy"}
    latents = str(Path(said["written"][0]).with_name("latents.npy"))
    asked = ["explore", run, "interpolate", "--features", "pixels", "--file", latents, "--samples", "0,1"]
    assert cli.run(asked) == 0
    assert cli.run(["explore", run, "invert", "--seed", "many"]) == 2
    assert "many" in capsys.readouterr().err
