"""The page of promises: its tests exist, and what no other test holds."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import leafwing
from leafwing import cli

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "guide" / "promises.md"


def test_the_tests_of_every_promise_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    defined = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)
    }
    rows = [line.split("|")[2] for line in text.partition("## Tests")[2].splitlines() if line.startswith("| ")][2:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(named) == text.partition("## Tests")[0].count("\n## ")
    assert all(named)
    assert [name for names in named for name in names if name not in defined] == []


def test_a_source_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))
    folder, noise = tmp_path / "pictures", np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
    (folder / "a" / "damaged.png").write_bytes(b"no picture")

    def state() -> dict[str, tuple[str, int]]:
        return {
            str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in folder.rglob("*")
            if path.is_file()
        }

    before = state()
    assert cli.run(["doctor", str(folder)]) == 0
    run = leafwing.train(
        folder,
        "cgan",
        size=16,
        images=8,
        batch=4,
        width=4,
        latent=4,
        hold_out=2,
        device="cpu",
        threads=1,
        out=tmp_path / "run",
    )
    leafwing.resume(run, images="+4")
    assert state() == before
