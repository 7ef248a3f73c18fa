"""`leafwing explore`: the files it writes, the input it refuses, and that all tools work with it."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import leafwing
from leafwing import cli, commands
from leafwing.commands.explore import Inputs, explore, folder_name, read_options
from leafwing.errors import LeafwingError
from leafwing.laboratory import INPUTS, TOOLS, option_check, tool
from leafwing.metrics import features
from leafwing.progress import Reporter
from leafwing.recipes import descriptions
from leafwing.runs import Run

TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32"}
every_tool = pytest.mark.parametrize("name", TOOLS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a few steps on digits."""
    return leafwing.train("digits", "cgan", images=64, out=tmp_path_factory.mktemp("runs") / "run", **TINY)


@every_tool
def test_every_tool_is_a_function_whose_options_are_explained(name: str) -> None:
    function = tool(name)
    parameters = inspect.signature(function).parameters
    first, *others = parameters
    assert first == "model"
    helps = descriptions(inspect.getdoc(function) or "")
    for other in others:
        assert helps.get(other), f"{name} does not explain {other}"
        if other not in INPUTS:
            assert parameters[other].default is not inspect.Parameter.empty, f"--{other} has no default"
        assert parameters[other].kind is inspect.Parameter.KEYWORD_ONLY
    check = option_check(name)
    if check is None:
        assert not {"data", "held_out"} & set(others), "options must be checked before real images are read"
    else:
        assert set(inspect.signature(check).parameters) <= set(parameters) - {"data", "held_out"}


@every_tool
def test_a_value_of_another_kind_is_refused_by_every_option(name: str) -> None:
    function = tool(name)
    for option in inspect.signature(function).parameters.keys() - {*INPUTS, "model"}:
        for value in (np.arange(3), object(), {"a": 1}):
            with pytest.raises(LeafwingError, match=rf"{option}=.*must be"):
                read_options(function, {option: value})


def test_options_from_python_are_written_as_on_the_command_line_or_as_lists() -> None:
    for name, given, expected in (
        ("interpolate", {"steps": "5", "samples": [3, 5, 8]}, {"steps": 5, "samples": "3,5,8"}),
        ("interpolate", {"seconds": "2.5", "latents": "a.npy"}, {"seconds": 2.5, "latents": Path("a.npy")}),
        ("directions", {"k": np.int64(2), "reach": 1}, {"k": 2, "reach": 1.0}),
        ("truncate", {"psi": (0.5, 1.0), "columns": 4.0}, {"psi": "0.5,1.0", "columns": 4}),
        ("truncate", {"psi": 0.5}, {"psi": "0.5"}),
        ("complete", {"mask": "left"}, {"mask": "left"}),
        ("complete", {"mask": "left.png"}, {"mask": Path("left.png")}),
        ("arithmetic", {"a": None}, {"a": None}),
    ):
        read = read_options(tool(name), given)
        assert repr(sorted(read.items())) == repr(sorted(expected.items()))
    for options, message in (
        ({"steps": 5.5}, r"steps=5\.5: must be a whole number"),
        ({"steps": True}, "steps=True: must be a number"),
        ({"steps": "many"}, "interpolate: steps='many': must be a number, not str. steps: images per row"),
        ({"seconds": float("nan")}, "seconds=nan: must be a finite number"),
        ({"latents": np.zeros((2, 8))}, "latents=.*must be a path or None, not ndarray. latents: an .npz or .npy file"),
        ({"interpolation": ["linear"]}, "interpolation=.*must be text, not list"),
    ):
        with pytest.raises(LeafwingError, match=message):
            read_options(tool("interpolate"), options)


def test_a_folder_is_named_by_images_tool_and_seed_and_a_hash_if_other_options_are_changed() -> None:
    function = tool("interpolate")
    plain = "000200000-interpolate-seed0"
    assert folder_name(200_000, "interpolate", function, {}) == plain
    assert (
        folder_name(200_000, "interpolate", function, {"steps": inspect.signature(function).parameters["steps"].default})
        == plain
    )
    assert folder_name(200_000, "interpolate", function, {"seed": 3}) == "000200000-interpolate-seed3"
    changed = [folder_name(200_000, "interpolate", function, {"steps": steps}) for steps in (3, 4)]
    assert len({*changed, plain}) == 3
    assert all(name.startswith(f"{plain}-") for name in changed)


def test_a_tool_writes_figures_images_and_animations(run: Run) -> None:
    explored = explore(run.folder, "interpolate", samples="0,1", steps=3, features="pixels")
    assert explored.folder.parent == run.folder / "explore"
    assert {path.name for path in explored.files} == {"walks.png", "walk.webp", "latents.npy", "figures.json"}
    document = json.loads((explored.folder / "figures.json").read_text())
    assert document == dict(explored.document)
    page = (Path(__file__).parents[2] / "docs" / "guide" / "commands.md").read_text().partition("\n## explore\n")[2]
    listed = re.findall(r"`(\w+)`", page.partition("a `figures.json` (")[2].partition(")")[0])
    assert listed == [*document]
    assert document["options"]["steps"] == 3
    assert document["tool"] == "interpolate"
    assert document["images"] == 64
    with Image.open(explored.folder / "walk.webp") as animation:
        assert animation.format == "WEBP"
    assert np.load(explored.folder / "latents.npy").shape == (2, 8)


def test_a_walk_is_a_film_on_request(run: Run) -> None:
    av = pytest.importorskip("av")
    explored = explore(run.folder, "interpolate", samples="0,1", features="pixels", animation="mp4", seconds=2.56)
    assert "walk.mp4" in {path.name for path in explored.files}
    with av.open(str(explored.folder / "walk.mp4")) as film:
        assert film.streams.video[0].average_rate == 25
        assert len([*film.decode(video=0)]) == 2 * 32
    with pytest.raises(LeafwingError, match=r"animation='avi': choose from webp, gif, mp4"):
        explore(run.folder, "interpolate", animation="avi")


def test_the_same_call_writes_the_same_files(run: Run) -> None:
    first = explore(run.folder, "interpolate", samples="0,1", steps=3, features="pixels")
    before = {path.name: path.read_bytes() for path in first.files}
    again = explore(run.folder, "interpolate", samples="0,1", steps=3, features="pixels")
    assert {path.name: path.read_bytes() for path in again.files} == before
    other = explore(run.folder, "interpolate", samples="0,1", steps=3, features="pixels", seed=1)
    assert other.folder != first.folder
    assert (other.folder / "walks.png").read_bytes() != before["walks.png"]


def test_an_output_folder_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    explored = explore(run.folder, "mix", features="pixels", n=4, rows=2, out=tmp_path / "here")
    assert (tmp_path / "here" / "mix.png").is_file()
    assert explored.folder == tmp_path / "here"
    with pytest.raises(LeafwingError, match="exists"):
        explore(run.folder, "mix", features="pixels", out=tmp_path / "here")


def test_input_is_checked_before_a_network_is_trained_or_a_file_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "load_features", lambda *args, **options: pytest.fail("a feature network was loaded"))
    before = sorted(run.folder.rglob("*"))
    for name, options, message in (
        ("interpolat", {}, "did you mean interpolate"),
        ("interpolate", {"step": 3}, "did you mean steps"),
        ("interpolate", {"features": "own2"}, "own2"),
        ("interpolate", {"samples": "1"}, "samples=.1.: .* at least two"),
        ("interpolate", {"seed": -1}, "seed=-1"),
        ("interpolate", {"label": "ten"}, "no class 'ten'"),
        ("interpolate", {"checkpoint": 3}, "3"),
        ("interpolate", {"interpolation": "straight"}, "interpolation='?straight'?: choose from spherical, linear"),
        ("sift", {"by": "critics"}, "by='?critics'?: choose from both, critic, classifier"),
    ):
        with pytest.raises(LeafwingError, match=message):
            explore(run.folder, name, **options)
    assert sorted(run.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("filters", {"maps": 0}, "maps=0"),
        ("features", {"shots": "1"}, "shots=.1."),
        ("features", {"steps": -1}, "steps='?-1"),
        ("invert", {"steps": 0}, "steps='?0"),
        ("invert", {"pictures": "x"}, "pictures=.x."),
        ("invert", {"label": "ten"}, "no class 'ten'"),
        ("invert", {"method": "encoder"}, "--method encoder needs an encoder"),
        ("complete", {"starts": 0}, "starts='?0"),
        ("complete", {"mask": "center"}, "did you mean centre"),
        ("truncate", {"psi": "0"}, "psi="),
        ("truncate", {"n": 1}, "n='?1"),
        ("sift", {"quantile": 1.0}, "quantile='?1.0"),
        ("sift", {"test": 0}, "test='?0"),
    ],
)
def test_options_are_checked_before_images_are_read(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(Inputs, "_real_data", property(lambda inputs: pytest.fail("images were read")))
    with pytest.raises(LeafwingError, match=message):
        explore(run.folder, name, **options)


def test_the_command_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explore", str(run.folder), "mix", "--rows", "2", "--n", "4", "--features", "pixels"]
    assert cli.run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tool"] == "mix"
    assert all(Path(file).is_file() for file in document["written"])
    assert cli.run(words) == 0
    assert "explained by the latent" in capsys.readouterr().out
    assert cli.run(["explore", str(run.folder), "mix", "--steps", "3"]) == 2
    assert cli.run(["explore", str(run.folder), "mixx"]) == 2
    assert "did you mean mix?" in capsys.readouterr().err
    assert cli.run(["explore", str(run.folder), "interpolate", "--seed", "one"]) == 2
    assert cli.run(["explore", str(run.folder), "interpolate", "--interpolation", "straight"]) == 2
    capsys.readouterr()
    assert cli.run(["explore", "--help"]) == 0
    assert "directions" in capsys.readouterr().out
    assert cli.run(["explore", "last", "directions", "--help"]) == 0
    help_text = capsys.readouterr().out
    assert "--reach" in help_text
    assert "leafwing explore RUN directions" in help_text
    assert "choices: weights" in help_text
    assert cli.run(["explore", "last", "complete", "--help"]) == 0
    assert "choices: random, centre, left, grid" in capsys.readouterr().out


def test_a_run_without_its_data_can_be_explored_with_pixels(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    config = json.loads((copy / "run.json").read_text())
    config["data"] |= {"source": str(tmp_path / "gone"), "fingerprint": "0" * 64}
    (copy / "run.json").write_text(json.dumps(config))
    with pytest.raises(LeafwingError, match="--features pixels"):
        explore(copy, "interpolate")
    assert explore(copy, "interpolate", samples="0,1", features="pixels").document["figures"]["space"] == "pixels"


def classes(folder: Path, names: tuple[str, ...], n: int) -> Path:
    """Images in one sub-folder per class."""
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_images_without_labels_are_judged_with_those_of_another_folder(tmp_path: Path) -> None:
    """As docs/guide/laboratory.md says; one part of them is for training, another for testing."""
    plain = leafwing.train(classes(tmp_path / "plain", ("",), 20), "dcgan", images=8, out=tmp_path / "run", **TINY)
    labelled = classes(tmp_path / "labelled", ("cat", "dog"), 12)
    figures = explore(plain.folder, "features", data=labelled, shots="2", repeats=2, steps=0, test=10).document["figures"]
    assert (figures["chance"], figures["tested"]) == (0.5, 10)
    assert figures["test"].startswith("split off at random")
    with pytest.raises(LeafwingError, match="plain has no labels"):
        explore(plain.folder, "features", shots="2")


def test_sift_trains_on_the_images_of_another_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafwing.metrics.own.STEPS", 5)  # the classifier only has to exist
    other = classes(tmp_path / "other", run.spec.labels, 6)
    call = {"by": "critic", "n": 4, "shots": "2", "repeats": 2, "test": 20}
    assert explore(run.folder, "sift", data=other, **call).document["figures"]["tested"] == 20


def test_the_images_of_the_run_named_again_are_split_as_in_training(tmp_path: Path) -> None:
    source = classes(tmp_path / "plain", ("",), 20)
    run = leafwing.train(source, "dcgan", images=8, hold_out=5, out=tmp_path / "run", **TINY)
    for data in (None, source):
        inputs = Inputs(run, leafwing.Model.load(run), data, "own", {}, Reporter())
        assert (len(inputs.data), len(inputs.held_out), len(inputs.labelled)) == (15, 5, 15), data
        assert not {image.tobytes() for image in inputs.data.pictures(range(15))} & {
            image.tobytes() for image in inputs.held_out.pictures(range(5))
        }


def test_explore_is_a_public_function() -> None:
    assert commands.explore is explore
