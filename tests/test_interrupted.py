"""Ctrl-C in every command that reports progress: it ends at once, what was there is intact, and nothing is left half-written."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import leafwing
from leafwing import laboratory
from leafwing.progress import Reporter

TINY: dict[str, Any] = {
    "recipe": "dcgan", "width": 8, "batch": 8, "size": 16, "images": 16, "save_every": 8, "grid_every": 8, "threads": 1,
    "device": "cpu", "progress": False,
}  # fmt: skip


class Interrupted(Reporter):
    """Ctrl-C at the N-th message or report of progress."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.count = at, 0

    def say(self, text: str) -> None:
        self.count += 1
        if self.count == self.at:
            raise KeyboardInterrupt

    warn = say

    def report_progress(self, what: str, done: int, total: int) -> None:
        self.say(what)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(24):
        (folder / "ab"[number % 2]).mkdir(exist_ok=True)
        colours = random.integers(0, 255, (2, 2, 3)).astype(np.uint8)
        Image.fromarray(colours).resize((20, 20), Image.Resampling.NEAREST).save(folder / "ab"[number % 2] / f"{number}.png")
    (folder / "boxes.csv").write_text(
        "image,x,y,width,height\n" + "".join(f"{'ab'[i % 2]}/{i}.png,2,2,12,12\n" for i in range(24))
    )
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    return leafwing.train(photographs, out=out, hold_out=8, **{**TINY, "recipe": "cgan"}).folder


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    out = tmp_path_factory.mktemp("translator") / "run"
    return leafwing.train(photographs, out=out, input="grey", **{**TINY, "recipe": "pix2pix"}).folder


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes.json").write_text(json.dumps({str(sample): [2, 2, 8, 8] for sample in range(0, 24, 2)}))
    monkeypatch.setattr("leafwing.metrics.own.STEPS", 2)
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))


COMMANDS: dict[str, Callable[..., Any]] = {
    "sample, files": lambda run, out, progress, **_: leafwing.sample(run, 150, format="folder", out=out, progress=progress),
    "sample, array": lambda run, out, progress, **_: leafwing.sample(
        run, 150, format="npz", out=out / "a.npz", progress=progress
    ),
    "evaluate": lambda run, progress, **_: leafwing.evaluate(
        run, metrics="kid,prdc,memorisation", features="own", n=16, progress=progress, recompute=True
    ),
    "score": lambda run, out, photographs, progress, **_: leafwing.score(run, photographs, out=out, progress=progress),
    "walk": lambda run, out, progress, **_: leafwing.walk(run, seconds=1.0, fps=4, out=out / "a.webp", progress=progress),
    "doctor": lambda photographs, progress, **_: leafwing.doctor(photographs, progress=progress),
    "prepare": lambda out, photographs, progress, **_: leafwing.prepare(
        photographs, boxes="boxes.csv", out=out, size=8, progress=progress
    ),
    "translate": lambda translator, out, photographs, progress, **_: leafwing.translate(
        translator, photographs, out=out, progress=progress
    ),
}
TOOLS: dict[str, dict[str, Any]] = {
    "interpolate": {"steps": 3}, "arithmetic": {"a": "1", "b": "2", "c": "3", "trials": 4}, "filters": {"n": 8},
    "features": {"shots": "2", "repeats": 2, "test": 4, "steps": 4}, "dropout": {"n": 24, "boxes": "boxes.json"},
    "invert": {"pictures": "0:2", "steps": 4}, "complete": {"pictures": "0:2", "steps": 4},
    "edit": {"paint": "red,2,2,6,6", "steps": 4}, "mix": {"n": 8}, "directions": {"k": 2}, "truncate": {"psi": "0.5,1", "n": 16},
    "sift": {"shots": "2", "n": 8, "repeats": 2, "test": 4},
}  # fmt: skip
COMMANDS |= {
    f"explore {tool}": lambda run, out, progress, tool=tool, **_: leafwing.explore(
        run, tool, out=out, progress=progress, **{"features": "pixels"} | TOOLS[tool]
    )
    for tool in laboratory.TOOLS
}


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_leaves_nothing_half_written(
    name: str, tmp_path: Path, trained: Path, translator: Path, photographs: Path
) -> None:
    run, command = shutil.copytree(trained, tmp_path / "run"), COMMANDS[name]
    paths = {"run": run, "translator": translator, "photographs": photographs}
    before = contents(run), contents(translator), contents(photographs)
    for out in ("first", "counted"):  # the first fills the cache
        undisturbed = Interrupted()
        command(**paths, out=tmp_path / out, progress=undisturbed)
    assert undisturbed.count
    shutil.rmtree(run)
    shutil.copytree(trained, run)
    for number in sorted({1, 2, undisturbed.count // 2, undisturbed.count - 1, undisturbed.count} - {0}):
        out, interrupted, stopped = tmp_path / f"out{number}", Interrupted(number), False
        try:
            command(**paths, out=out, progress=interrupted)
        except KeyboardInterrupt:
            stopped = True
        assert interrupted.count <= number, "it went on"
        assert stopped == (interrupted.count == number), (
            "how often progress is reported may depend on the time that things take"
        )
        assert stopped or number > 1
        left = contents(run)
        assert {path: left.get(path) for path in before[0]} == before[0], "the run was changed"
        assert (contents(translator), contents(photographs)) == before[1:]
        assert [*tmp_path.rglob("*.part")] == [*tmp_path.rglob(".new-*")] == []
        for path in out.rglob("*.png"):
            Image.open(path).load()
