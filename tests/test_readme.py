"""The README's commands and Python lines run unchanged, except for fewer images."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
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
    for name in ("clothes", "zebras", "horses"):
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
    trainings = [line for line in commands if line.startswith("leafwing train ") and "--dry-run" not in line]
    assert len(list((working_folder / "runs").iterdir())) == len(trainings) >= 5
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


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_demo_installs_what_it_needs_in_the_chosen_build() -> None:
    def steps(*arguments: str) -> str:
        return subprocess.run(["make", "-nB", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "download.pytorch.org/whl/cpu" in steps("demo", "CPU=1")
    assert "download.pytorch.org" not in steps("demo", "CPU=0")
    assert "dev]" not in steps("demo")
    assert "dev]" in steps("test")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_an_old_python_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path)
    old = tmp_path / "python"
    code = 'import sys; sys.version_info = (3, 10, 2, "final", 0); exec(sys.argv[1])'
    old.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$2\"\n", encoding="utf-8")
    old.chmod(0o755)
    ended = subprocess.run(["make", f"PYTHON={old}", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "needs Python 3.11 or newer" in ended.stderr
    assert "is 3.10" in ended.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_tables_of_recipes_have_every_recipe() -> None:
    families = README.partition("\n## Recipes\n")[2].partition("\n## ")[0]
    table = (
        (ROOT / "docs/guide/recipes.md").read_text(encoding="utf-8").partition("\n## All recipes\n")[2].partition("\n## ")[0]
    )
    assert {*re.findall(r"`(\w+)`", families.partition("| --- |")[2])} == {*recipes.names()}
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == recipes.names()


def test_continuous_integration_runs_the_readmes_own_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "\nmake check\n" in script
    assert "\nmake test\n" in script
