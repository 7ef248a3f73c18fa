"""Optional packages: whoever lacks one reads so at once, before torch is imported or anything is read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from leafwing import laboratory, optional
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from saved_run import save

PROGRAM = """
import contextlib, io, json, sys
lines, packages = map(json.loads, sys.argv[1:])
sys.modules |= dict.fromkeys(packages)
from leafwing.cli import run
for words in lines:
    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        code = run(words)
    print(json.dumps([code, "torch" in sys.modules, text.getvalue()]))
"""
TABLES = ("a.h5", "a.HDF5", "a.parquet")
NEEDS = {
    **{f"explore {{run}} {tool}": "matplotlib" for tool in laboratory.WITH_CHARTS},
    "explore {run} interpolate --animation mp4": "av",
    "explore {run} interpolate --features lite0": optional.LITE0,
    "explore {run} interpolate --data a.h5": "h5py",
    "walk {run} --out a.mp4": "av",
    "reel {run} --out a.mp4": "av",
    "evaluate {run} --metrics fid,ms_ssim": "torchmetrics",
    "evaluate {run} --features lite0": optional.LITE0,
    "evaluate {run} --data a.parquet": "pyarrow",
    "evaluate digits --data a.h5": "h5py",
    "evaluate a.h5 --data digits": "h5py",
    "evaluate digits --data digits --metrics ms_ssim": "torchmetrics",
    "evaluate digits --data digits --features lite0": optional.LITE0,
    "train a.h5": "h5py",
    "train a.HDF5 --recipe dcgan --dry-run": "h5py",
    "train a.parquet a.h5": "pyarrow",
    "train digits --tensorboard": "tensorboard",
    "train digits --recipe projected": optional.LITE0,
    "train digits --recipe fastgan --distance lite0": optional.LITE0,
    "resume {run} --tensorboard": "tensorboard",
    "compare a.h5 --recipes dcgan": "h5py",
    "compare digits --recipes dcgan --metrics ms_ssim": "torchmetrics",
    "compare digits --recipes dcgan --features lite0": optional.LITE0,
    "compare digits --recipes dcgan,projected": optional.LITE0,
    "doctor a.h5": "h5py",
    "show a.parquet": "pyarrow",
    "score {run} a.h5": "h5py",
    "translate {run} a.h5": "h5py",
}
"""Command lines, and the module that each needs."""


def test_a_command_that_needs_a_package_says_so_before_it_imports_torch(tmp_path: Path) -> None:
    run = save(
        tmp_path / "run", DataSpec.images(16, 16, 3), 'Output("image", lambda nets, inputs, clock: None, (), Normal(4))'
    )
    for name in TABLES:
        (tmp_path / name).touch()
    lines = [[word.format(run=run) for word in line.split()] for line in NEEDS]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(lines), json.dumps([*optional.SENTENCES])],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (line, module), (code, imported, text) in zip(NEEDS.items(), answers, strict=True):
        assert (code, imported) == (2, False), f"{line}: {text}"
        assert text.endswith(f"{optional.SENTENCES[module]}\n"), f"{line}: {text}"
    assert {*NEEDS.values()} == {*optional.SENTENCES}, "each is asked for"


def test_tools_that_draw_charts_are_those_that_say_so() -> None:
    def draws(tool: str) -> bool:
        return "chart(" in Path(laboratory.__file__).with_name(f"{tool}.py").read_text(encoding="utf-8")

    assert {*filter(draws, laboratory.TOOLS)} == {*laboratory.WITH_CHARTS}


@pytest.mark.parametrize(("where", "start"), [("", "HDF5 files need h5py"), ("a.h5", "a.h5: HDF5 files need h5py")])
def test_the_sentence_names_the_file_if_there_is_one(where: str, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(LeafwingError, match=f"^{start}"):
        optional.require("h5py", where)
    assert str(optional.not_installed("h5py", where)).startswith(start)


def test_an_installed_package_is_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "h5py.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "h5py", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    optional.require("h5py")
