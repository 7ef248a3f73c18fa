"""The README's commands and Python lines run unchanged, except for fewer images."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leafwing import cli, recipes
from leafwing.metrics import own

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = [line.split("#")[0].strip() for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a folder `photos` of 70 images in it."""
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0)
    for i in range(70):
        Image.fromarray(noise.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{i}.jpg")
    for name in ("zebras", "horses"):
        shutil.copytree(tmp_path / "photos", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_leafwing_command_of_the_readme_works(
    working_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "STEPS", 2)
    commands = [line for line in SHELL if line.startswith("leafwing ")]
    assert len(commands) >= 8
    for line in commands:
        arguments = shlex.split(re.sub(r"\d+k\b", "64", line).replace("--seeds 3", "--seeds 1"))[1:]
        arguments = [word.replace("dcgan,lsgan,wgan_gp", "dcgan,lsgan") for word in arguments]
        if arguments[0] == "train":
            small = {"--images": "64", "--threads": "1", "--save-every": "32", "--width": "8", "--batch": "16"}
            arguments += [x for option, value in small.items() if option not in arguments for x in (option, value)]
        if arguments[0] == "compare":
            arguments += ["--features", "pixels", "--set", "width=8", "--set", "batch=16", "-n", "32"]
        assert cli.run(arguments) == 0, (line, capsys.readouterr().err)
    assert len(list((working_folder / "runs").iterdir())) == 6
    assert (working_folder / "report" / "report.html").is_file()


def test_every_python_line_of_the_readme_works(working_folder: Path) -> None:
    code = "\n".join(block for kind, block in BLOCKS if kind == "python")
    names: dict[str, object] = {}
    exec(code.replace('images="200k"', "images=64, width=8, batch=16, threads=1"), names)
    assert names["samples"].shape == (64, 3, 64, 64)  # type: ignore[attr-defined]


def test_make_targets_exist_and_the_demo_is_the_readmes_command() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in [line.removeprefix("make ") for line in SHELL if line.startswith("make ")]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    demo = next(line for line in SHELL if line.startswith("leafwing train digits"))
    assert f"DEMO := {demo.removeprefix('leafwing ')}\n" in makefile


def test_the_table_of_recipes_has_no_recipe_that_does_not_exist() -> None:
    names = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert names
    assert {*names} <= {*recipes.names()}


def test_continuous_integration_runs_the_readmes_own_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "\nmake check\n" in script
    assert "\nmake test\n" in script
