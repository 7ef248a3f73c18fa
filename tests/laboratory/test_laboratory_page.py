"""Runs the commands of the guide's laboratory page, with fewer images and small networks."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from leafwing import cli
from leafwing.laboratory import TOOLS, reading
from leafwing.laboratory.reading import Reader
from leafwing.metrics import own
from leafwing.sprites.words import WORDS

PAGE = Path(__file__).parent.parent.parent / "docs" / "guide" / "laboratory.md"
LINES = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("leafwing ")
]
REPLACEMENTS = {"--shots 5,20 --repeats 3 --test 500": "--shots 2,4 --repeats 2 --test 40"}
SMALL = {
    "arithmetic": ["--trials", "5"], "dropout": ["--n", "40"], "mix": ["--n", "4"], "truncate": ["--n", "40"],
    "features": ["--steps", "2"], "sift": ["--repeats", "2"], "invert": ["--steps", "2"], "complete": ["--steps", "2"],
    "edit": ["--steps", "2"],
}  # fmt: skip
"""Options that make a tool faster, unless the line already has them."""


def cycle_words(images: Tensor) -> dict[str, np.ndarray]:
    """All words in turn, because the oracle recognises nothing in samples of an untrained network."""
    numbers = np.arange(len(images))
    return {name: np.asarray(words)[numbers // 3**i % len(words)] for i, (name, words) in enumerate(WORDS.items())}


def centre_box(images: Tensor) -> np.ndarray:
    """A box in the middle of each image."""
    return np.tile([8.0, 8.0, 12.0, 12.0], (len(images), 1))


def test_the_page_uses_every_tool() -> None:
    used = {shlex.split(line)[3] for line in LINES if " explore " in line}
    assert used == set(TOOLS)


@pytest.mark.slow  # every command of the laboratory
def test_all_commands_of_the_page_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own, "STEPS", 2)
    monkeypatch.setattr("leafwing.laboratory.dropout.N_RANDOM", 1)
    monkeypatch.setattr(reading, "oracle", lambda: Reader("oracle", WORDS, cycle_words, centre_box))
    for line in LINES:
        for old, new in REPLACEMENTS.items():
            line = line.replace(old, new)
        words = shlex.split(re.sub(r"\d+k\b", "64", line))[1:]
        if words[0] == "train":
            words += ["--threads", "1", "--width", "8", "--max-width", "16", "--batch", "16"]
        elif words[0] == "explore":
            option = SMALL.get(words[2], [])
            words += option if option and option[0] not in words else []
        assert cli.run(words) == 0, (line, capsys.readouterr().err)
    explored = {path.parent.name.split("-")[1] for path in tmp_path.glob("*/explore/*/figures.json")}
    assert explored == set(TOOLS)
