"""`leafwing explore`: what it writes, what it refuses, and that every tool is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import leafwing
from leafwing import cli, commands
from leafwing.commands.explore import explore
from leafwing.errors import LeafwingError
from leafwing.laboratory import FILLED, TOOLS, tool
from leafwing.metrics import features
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
    import inspect

    function = tool(name)
    parameters = inspect.signature(function).parameters
    first, *others = parameters
    assert first == "model"
    said = descriptions(inspect.getdoc(function) or "")
    for other in others:
        assert said.get(other), f"{name} does not explain {other}"
        if other not in FILLED:
            assert parameters[other].default is not inspect.Parameter.empty, f"--{other} has no default"
        assert parameters[other].kind is inspect.Parameter.KEYWORD_ONLY


def test_a_tool_leaves_figures_pictures_and_films(run: Run) -> None:
    found = explore(run.folder, "interpolate", samples="0,1", steps=3, features="pixels")
    assert found.folder.parent == run.folder / "explore"
    assert {path.name for path in found.written} == {"walks.png", "walk.webp", "latents.npy", "figures.json"}
    document = json.loads((found.folder / "figures.json").read_text())
    assert document == dict(found.document)
    assert document["options"]["steps"] == 3
    assert document["tool"] == "interpolate"
    assert document["images"] == 64
    with Image.open(found.folder / "walk.webp") as film:
        assert film.format == "WEBP"
    assert np.load(found.folder / "latents.npy").shape == (2, 8)


def test_the_same_call_writes_the_same_files(run: Run) -> None:
    first = explore(run.folder, "interpolate", samples="0,1", steps=3, features="pixels")
    held = {path.name: path.read_bytes() for path in first.written}
    again = explore(run.folder, "interpolate", samples="0,1", steps=3, features="pixels")
    assert {path.name: path.read_bytes() for path in again.written} == held
    other = explore(run.folder, "interpolate", samples="0,1", steps=3, features="pixels", seed=1)
    assert other.folder != first.folder
    assert (other.folder / "walks.png").read_bytes() != held["walks.png"]


def test_the_folder_may_be_chosen_but_not_overwritten(run: Run, tmp_path: Path) -> None:
    found = explore(run.folder, "mix", features="pixels", n=4, rows=2, out=tmp_path / "here")
    assert (tmp_path / "here" / "mix.png").is_file()
    assert found.folder == tmp_path / "here"
    with pytest.raises(LeafwingError, match="exists"):
        explore(run.folder, "mix", features="pixels", out=tmp_path / "here")


def test_what_is_asked_for_is_checked_before_anything_is_trained_or_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "load_features", lambda *given, **options: pytest.fail("a feature network was wanted"))
    before = sorted(run.folder.rglob("*"))
    for name, options, message in (
        ("interpolat", {}, "did you mean interpolate"),
        ("interpolate", {"step": 3}, "did you mean steps"),
        ("interpolate", {"features": "own2"}, "own2"),
        ("interpolate", {"samples": "1"}, "two --samples"),
        ("interpolate", {"seed": -1}, "seed=-1"),
        ("interpolate", {"label": "ten"}, "no class 'ten'"),
        ("interpolate", {"checkpoint": 3}, "3"),
    ):
        with pytest.raises(LeafwingError, match=message):
            explore(run.folder, name, **options)
    assert sorted(run.folder.rglob("*")) == before


def test_the_command_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explore", str(run.folder), "mix", "--rows", "2", "--n", "4", "--features", "pixels"]
    assert cli.run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tool"] == "mix"
    assert all(Path(file).is_file() for file in told["written"])
    assert cli.run(words) == 0
    assert "explained by the latent" in capsys.readouterr().out
    assert cli.run(["explore", str(run.folder), "mix", "--steps", "3"]) == 2
    assert cli.run(["explore", str(run.folder), "mixx"]) == 2
    assert "did you mean mix?" in capsys.readouterr().err
    assert cli.run(["explore", str(run.folder), "interpolate", "--seed", "one"]) == 2
    assert cli.run(["explore", "--help"]) == 0
    assert "directions" in capsys.readouterr().out
    assert cli.run(["explore", "last", "directions", "--help"]) == 0
    assert "--reach" in capsys.readouterr().out


def test_a_run_without_its_data_says_what_still_works(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    config = json.loads((copy / "run.json").read_text())
    config["data"] |= {"source": str(tmp_path / "gone"), "fingerprint": "0" * 64}
    (copy / "run.json").write_text(json.dumps(config))
    with pytest.raises(LeafwingError, match="--features pixels"):
        explore(copy, "interpolate")
    assert explore(copy, "interpolate", samples="0,1", features="pixels").document["figures"]["space"] == "pixels"


def test_exploring_is_a_command_for_python_too() -> None:
    assert commands.explore is explore
