"""Weights files: what is written is read back, and a flipped bit is noticed by whoever reads it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils._pytree import tree_leaves

import leafwing
from leafwing import weights_file
from leafwing.errors import LeafwingError

TENSORS = {
    "G:weight": torch.arange(12.0).reshape(3, 4),
    "G:half": torch.ones(5, dtype=torch.bfloat16),
    "G:seen": torch.tensor(7),
    "D:none": torch.zeros(0, 3),
}
TINY: dict[str, Any] = {
    "recipe": "gan", "width": 4, "width_d": 4, "latent": 2, "batch": 8, "images": 32, "save_every": 16, "threads": 1,
    "device": "cpu", "progress": False,
}  # fmt: skip


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def same_content(tensors: dict[str, Tensor]) -> bool:
    """Whether the tensors are those of `TENSORS`, perhaps under other names."""
    one, other = (
        sorted(value.reshape(-1).view(torch.uint8).tolist() for value in each.values()) for each in (tensors, TENSORS)
    )
    return one == other


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_tensors_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(weights_file.serialise(TENSORS, images=120))
    tensors = weights_file.read(path)
    assert same(tensors, TENSORS)
    assert {name: value.dtype for name, value in tensors.items()} == {name: value.dtype for name, value in TENSORS.items()}


def test_files_of_earlier_versions_have_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(TENSORS, {"images": "120"}))
    assert same(weights_file.read(path), TENSORS)


def test_a_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    content, random = weights_file.serialise(TENSORS, images=120), Random(0)
    data = 8 + int.from_bytes(content[:8], "little")
    for byte in range(len(content)):
        bit = 8 * byte + random.randrange(8)
        path.write_bytes(content)
        flip(path, bit)
        with contextlib.suppress(LeafwingError):
            # What is read has a changed name, which does not fit the networks, or only the name of the checksum has changed.
            assert same_content(weights_file.read(path)), bit
            assert byte < data


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return leafwing.train("ring", out=tmp_path_factory.mktemp("trained") / "run", **TINY).folder


READERS: dict[str, Callable[[Path, Path], Any]] = {
    "sample": lambda run, out: leafwing.sample(run, 2, out=out),
    "evaluate": lambda run, out: leafwing.evaluate(run, metrics="modes", n=64, progress=False),
    "resume": lambda run, out: leafwing.resume(run, images=64, progress=False),
    "train --start": lambda run, out: leafwing.train("ring", **TINY, start=run, out=out),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_flipped_bit_is_an_error_wherever_weights_are_loaded(tmp_path: Path, trained: Path, reader: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    path = leafwing.Run(run).require_weights()
    content, random = path.read_bytes(), Random(reader)
    start = 8 + int.from_bytes(content[:8], "little")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file != path}
    for _ in range(20):
        path.write_bytes(content)
        flip(path, random.randrange(8 * start, 8 * len(content)))
        with pytest.raises(LeafwingError, match="is damaged: its checksum"):
            READERS[reader](run, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert {file: file.read_bytes() for file in before} == before


def test_a_flipped_bit_of_the_state_for_resuming_is_an_error_or_harmless(tmp_path: Path, trained: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    path = run / "resume.pt"
    content, random, refused = path.read_bytes(), Random(0), 0
    before = leaves(leafwing.Run(run).resume_state())
    for _ in range(200):
        path.write_bytes(content)
        flip(path, random.randrange(8 * len(content)))
        try:
            assert leaves(leafwing.Run(run).resume_state()) == before
        except LeafwingError:
            refused += 1
    assert refused > 20, "what is harmless is the padding of the archive and the dates of its members"


def leaves(state: Any) -> list[Any]:
    """The values in a state, without its structure."""
    return [value.tolist() if isinstance(value, Tensor) else value for value in tree_leaves(state)]
