"""Tools work with every kind of condition: `--set` fixes it, and what is not set follows the samples or the data."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted_critics as planted
import pytest
import torch
from handmade import BLUE, FEATURES, READER, captioned_data, captioned_painter, record_inputs
from torch import Tensor

import leafwing
from leafwing import cli
from leafwing.commands.explore import explore
from leafwing.errors import LeafwingError
from leafwing.fields import Caption
from leafwing.game import Batch, Clock, DataSpec, Nets, Output
from leafwing.laboratory import tool
from leafwing.laboratory.fitting import load_targets, real_conditions
from leafwing.laboratory.latents import fixed_words
from leafwing.model import Model
from leafwing.runs import Run

pytestmark = pytest.mark.machine

BOX = (0.25, 0.25, 0.5, 0.5)
CONDITIONS = {"caption": "blue square", "box": ".25,.25,.5,.5"}
CALLS: dict[str, dict[str, Any]] = {
    "interpolate": {"samples": "0,1", "steps": 2},
    "arithmetic": {"a": "0,1", "b": "2,3", "c": "4,5", "reader": None},
    "directions": {"k": 1, "reader": None},
    "dropout": {"n": 40, "reader": replace(READER, box=lambda images: np.tile([4.0, 4.0, 6.0, 6.0], (len(images), 1)))},
    "truncate": {"n": 80, "psi": "1", "reader": None},
    "edit": {"paint": "blue,2,2,4,4", "steps": 2, "candidates": 2, "sample": 5},
    "invert": {"pictures": "0:2", "steps": 2, "starts": 1, "weight": 0},
    "complete": {"pictures": "0:2", "steps": 2, "starts": 1},
    "filters": {"maps": 2, "n": 20},
    "features": {"shots": "2", "repeats": 2, "steps": 2},
}
TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32"}


def call(name: str, model: Model, conditions: dict[str, Any] | None = None, **options: Any) -> Any:
    """Calls a tool with the inputs that it takes."""
    data = captioned_data(captioned_painter())
    inputs = {"features": FEATURES, "data": data, "labelled": data, "held_out": data}
    options |= {key: value for key, value in inputs.items() if key in inspect.signature(tool(name)).parameters}
    return tool(name)(model, **options, **CALLS.get(name, {}), **({} if conditions is None else {"conditions": conditions}))


@pytest.mark.parametrize("name", CALLS)
def test_what_is_set_holds_for_all_samples(name: str) -> None:
    model = captioned_painter(examples=200 if name == "invert" else 0)
    calls = record_inputs(model.game.sampling_nets.D if name in ("filters", "features") else model.game.sampling_nets.G)
    assert not any("of sample 0" in words for words in call(name, model, CONDITIONS).words)
    if name == "invert":
        calls = calls[1:]  # the first pass is of samples of any kind, whose distance is the unit of the loss
    assert calls
    for _, caption, box in calls:
        assert (caption == torch.tensor([BLUE, 3])).all()
        assert torch.allclose(box, torch.tensor(BOX))


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("invert", "complete")])
def test_without_examples_the_message_says_what_to_set(name: str) -> None:
    with pytest.raises(LeafwingError, match=r"no examples of caption to choose from: set one \(caption \(3 words"):
        call(name, captioned_painter(examples=0))


@pytest.mark.parametrize("name", ["interpolate", "directions", "dropout"])
def test_what_is_not_set_is_that_of_the_first_sample(name: str) -> None:
    model = captioned_painter()
    calls = record_inputs(model.game.sampling_nets.G)
    call(name, model)
    first = model.conditions(1)
    for _, caption, box in calls:
        assert (caption == first["caption"]).all()
        assert (box == first["box"]).all()


@pytest.mark.parametrize("name", ["mix", *(name for name in CALLS if name not in ("edit", "invert", "complete"))])
def test_what_is_not_set_is_that_of_the_samples_of_the_same_seed(name: str) -> None:
    model = captioned_painter()
    calls = record_inputs(model.game.sampling_nets.D if name in ("filters", "features") else model.game.sampling_nets.G)
    call(name, model, seed=7)
    assert not torch.equal(model.conditions(1, 7)["box"], model.conditions(1)["box"])
    assert torch.equal(calls[0][2][:1], model.conditions(1, 7)["box"])


def with_classes_and_attributes(make: Any, critic: torch.nn.Module | None = None) -> Model:
    """A model of images in three classes, with attributes that nobody has to set."""
    spec = DataSpec.images(16, 16, labels=("a", "b", "c"), attributes=("x", "y", "z"))
    return planted.model(critic or torch.nn.Identity(), spec, make, ("label", "attributes"))


class Brightness(torch.nn.Module):
    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        return x.mean((1, 2, 3))


def test_attributes_that_nobody_sets_are_those_of_samples_of_the_same_seed() -> None:
    inputs: list[Batch] = []

    def make(nets: Nets, batch: Batch, clock: Clock) -> Tensor:
        inputs.append(batch)
        return batch.latent[:, :3, None, None].tanh().expand(-1, 3, 16, 16)

    model = with_classes_and_attributes(make, Brightness())
    random = np.random.default_rng(0)
    data = planted.data(random.integers(0, 256, (60, 16, 16, 3), np.uint8), np.arange(60) % 3, model.labels)
    options: dict[str, Any] = {"by": "critic", "n": 10, "shots": "2", "repeats": 2, "seed": 7}
    tool("sift")(model, labelled=data, held_out=data, **options)
    targets = load_targets(model, data, "0:9", seed=7).conditions
    assert torch.equal(targets["attributes"], model.conditions(9, 7, label=targets.label)["attributes"])
    expected = model.conditions(30, 7, label=np.repeat([0, 1, 2], 10))["attributes"]
    assert not torch.equal(expected, model.conditions(30, label=np.repeat([0, 1, 2], 10))["attributes"])
    assert torch.equal(inputs[0]["attributes"][:30], expected)


@pytest.mark.parametrize(
    ("seed", "conditions", "expected"),
    [
        (
            2,
            {},
            ["are of class a: --label chooses another.", "have the attributes of sample 0 (x, z): --set chooses others."],
        ),
        (2, {"label": "b"}, ["have the attributes of sample 0 (x, z): --set chooses others."]),
        (4, {"label": "b"}, ["have the attributes of sample 0: --set chooses others."]),
        (2, {"label": "b", "attributes": {"x": 0}}, []),
    ],
)
def test_what_nobody_chose_is_named(seed: int, conditions: dict[str, Any], expected: list[str]) -> None:
    model = with_classes_and_attributes(None)
    words = fixed_words(model, model.conditions(1, seed, **conditions), conditions)
    assert words == [f"All samples {words}" for words in expected]


@pytest.mark.parametrize(
    "name", ["mix", *(name for name in CALLS if name not in ("truncate", "edit", "invert", "complete"))]
)
def test_tools_say_what_nobody_chose(name: str) -> None:
    assert call(name, captioned_painter()).words[-1].endswith(" have the box of sample 0: --set chooses others.")


def test_boxes_are_those_of_samples_with_their_own_conditions(tmp_path: Path) -> None:
    model, numbers = captioned_painter(), [*range(3, 15)]
    calls = record_inputs(model.game.sampling_nets.G)
    path, file = tmp_path / "boxes.json", tmp_path / "latents.npy"
    path.write_text(json.dumps({number: [2, 2, 4, 4] for number in numbers}))
    np.save(file, model.latents(15, 7).numpy())
    for latents in (None, file):
        calls.clear()
        finding = tool("dropout")(model, reader=None, boxes=path, latents=latents, n=15, seed=7)
        conditions = model.conditions(15, 7).rows(torch.tensor(numbers if latents is None else [0] * len(numbers)))
        drawn = [inputs for inputs in calls if len(inputs[0]) == 1]
        assert torch.equal(torch.cat([z for z, _, _ in drawn]), model.latents(15, 7)[numbers])
        assert torch.equal(torch.cat([caption for _, caption, _ in drawn]), conditions["caption"])
        shown = calls[-1]  # with some maps dropped
        assert torch.equal(shown[1][:8], conditions["caption"][:8])
        assert any("of sample 0" in words for words in finding.words) == (latents is not None)


def test_the_sample_that_is_edited_has_its_own_conditions() -> None:
    model = captioned_painter()
    calls = record_inputs(model.game.sampling_nets.G)
    tool("edit")(model, seed=4, **CALLS["edit"])
    expected = model.conditions(6, 4).rows(slice(5, None))
    for _, caption, box in calls:
        assert (caption == expected["caption"]).all()
        assert (box == expected["box"]).all()


def test_truncated_samples_have_the_conditions_of_samples() -> None:
    model = captioned_painter()
    calls = record_inputs(model.game.sampling_nets.G)
    call("truncate", model)
    captions = torch.cat([calls[0][1], calls[1][1]])[:80]
    assert torch.equal(captions, model.conditions(80)["caption"])


def test_real_images_keep_their_captions() -> None:
    model = captioned_painter(examples=0)
    data = captioned_data(captioned_painter())
    targets = load_targets(model, data, "0:3")
    rows = data.epoch(0, 0)[0][:3]
    assert torch.equal(targets.conditions["caption"], torch.from_numpy(data.columns["caption"][rows]))
    changed = load_targets(model, data, "0:3", {"caption": "blue"})
    assert (changed.conditions["caption"] == torch.tensor([BLUE, 0])).all()
    assert torch.equal(changed.conditions["box"], targets.conditions["box"])


def test_images_without_captions_need_one() -> None:
    model, data = captioned_painter(), captioned_data(captioned_painter())
    columns = {name: column for name, column in data.columns.items() if name != "caption"}
    fields = {name: field for name, field in data.spec.fields.items() if name != "caption"}
    others = Caption(("red", "blue"), 3)
    bare = replace(data, columns=columns, spec=replace(data.spec, fields=fields))
    other = replace(data, spec=replace(data.spec, fields={**fields, "caption": others}))
    for source in (bare, other):
        with pytest.raises(
            LeafwingError, match="from caption, which these images do not have: set it, as in --set caption="
        ):
            load_targets(model, source, "0")
        assert load_targets(model, source, "0", {"caption": "blue"}).conditions["caption"].tolist() == [[BLUE, 0]]


def test_classes_of_real_images_are_found_by_name() -> None:
    model = captioned_painter()
    model.game.abilities.outputs[0] = Output("image", model.output.make, ("label",), model.output.prior)  # type: ignore[index]
    data = planted.with_classes(captioned_data(captioned_painter()), ("b", "a"))
    assert real_conditions(model, data, np.array([0, 1])) == {"label": ["b", "a"]}
    assert model.conditions(2, label=["b", "a"])["label"].tolist() == [1, 0]


def test_the_columns_of_a_mix_vary_captions_and_nothing_else() -> None:
    model = captioned_painter()
    calls = record_inputs(model.game.sampling_nets.G)
    finding = tool("mix")(model, features=FEATURES, n=3, rows=2, conditions={"box": BOX})
    assert finding.figures["across"] == "caption"
    assert finding.figures["columns_share"] > 0
    for latents, caption, box in calls:
        assert len(latents.unique(dim=0)) == 1
        assert len(caption.unique(dim=0)) == 2
        assert torch.equal(caption, calls[0][1])
        assert (box == torch.tensor(BOX)).all()
    with pytest.raises(LeafwingError, match=r"across='?caption'?: choose from box"):
        tool("mix")(model, features=FEATURES, across="caption", conditions={"caption": "red"})
    with pytest.raises(LeafwingError, match="all conditions are set"):
        tool("mix")(model, features=FEATURES, conditions=CONDITIONS)


@pytest.mark.parametrize("across", ["label", "attributes"])
def test_the_columns_of_a_mix_differ_in_one_condition(across: str) -> None:
    """Attributes that nobody sets follow the class elsewhere."""
    inputs: list[Batch] = []

    def make(nets: Nets, batch: Batch, clock: Clock) -> Tensor:
        inputs.append(batch)
        return batch.latent[:, :3, None, None].tanh().expand(-1, 3, 16, 16)

    model = with_classes_and_attributes(make)
    tool("mix")(model, features=FEATURES, n=3, rows=2, across=across)
    for batch in inputs:
        assert [name for name in ("label", "attributes") if len(batch[name].unique(dim=0)) > 1] == [across]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a few steps on digits."""
    return leafwing.train("digits", "cgan", images=16, out=tmp_path_factory.mktemp("runs") / "run", **TINY)


@pytest.fixture
def captioned_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same folder with a model that takes captions and boxes."""
    model = captioned_painter()
    model.images = 16
    monkeypatch.setattr(Model, "load", lambda *args, **options: model)
    monkeypatch.setattr(
        "leafwing.commands.first_checks._check_conditions", lambda *args: None
    )  # those of the folder's own recipe
    return run


def test_set_on_the_command_line(captioned_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explore", str(captioned_run.folder), "interpolate", "--samples", "0,1", "--steps", "2", "--features", "pixels"]
    sheets = {}
    for caption in ("red square", "blue square"):
        settings = ["--set", f"caption={caption}", "--set", "box=.25,.25,.5,.5"]
        out = tmp_path / caption
        assert cli.run([*words, *settings, "--out", str(out), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["options"]["conditions"] == {"caption": caption, "box": ".25,.25,.5,.5"}
        assert document["options"]["label"] is None
        sheets[caption] = (out / "walks.png").read_bytes()
    assert sheets["red square"] != sheets["blue square"]
    result = explore(captioned_run.folder, "interpolate", samples="0,1", steps=2, features="pixels", conditions=CONDITIONS)
    assert (result.folder / "walks.png").read_bytes() == sheets["blue square"]
    other = explore(
        captioned_run.folder, "interpolate", samples="0,1", steps=2, features="pixels", conditions={"caption": "red"}
    )
    assert other.folder != result.folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "caption=green"], "caption 'green': this run knows none of its words"),
        (["--set", "box=.5,.5,.9,.9"], "must lie inside the image"),
        (["--set", "colour=red"], "no condition 'colour'; available: caption, box"),
        (["--set", "caption"], "write NAME=VALUE"),
        (["--label", "a"], "trained without labels; --set can set caption, box"),
    ],
)
def test_invalid_settings_are_refused_and_nothing_is_written(
    captioned_run: Run, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(captioned_run.folder.rglob("*"))
    assert cli.run(["explore", str(captioned_run.folder), "interpolate", *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(captioned_run.folder.rglob("*")) == before


def test_label_is_short_for_set_label(run: Run, tmp_path: Path) -> None:
    options: dict[str, Any] = {"samples": "0,1", "steps": 2, "features": "pixels"}
    short = explore(run.folder, "interpolate", label="3", out=tmp_path / "short", **options)
    long = explore(run.folder, "interpolate", conditions={"label": "3"}, out=tmp_path / "long", **options)
    other = explore(run.folder, "interpolate", out=tmp_path / "other", **options)
    assert short.document["figures"] == long.document["figures"] != other.document["figures"]
    assert short.document["options"]["label"] == "3"
    with pytest.raises(LeafwingError, match="label is given twice, as 4 and as 3"):
        explore(run.folder, "interpolate", label=3, conditions=["label=4"])
