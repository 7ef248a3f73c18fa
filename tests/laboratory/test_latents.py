"""Latents that users name, and paths between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import painter
from hypothesis import given
from hypothesis import strategies as st

from leafwing.errors import LeafwingError
from leafwing.laboratory.latents import between, chosen, whole_numbers

pytestmark = pytest.mark.machine


@pytest.mark.parametrize(("text", "numbers"), [("3", [3]), ("3,5, 8", [3, 5, 8]), ("0:3", [0, 1, 2]), ("7,0:2", [7, 0, 1])])
def test_whole_numbers(text: str, numbers: list[int]) -> None:
    assert whole_numbers("samples", text) == numbers


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "3:", "2:2", "99999999999"])
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(LeafwingError, match="--samples"):
        whole_numbers("samples", text)


def test_samples_are_those_that_sample_shows(tmp_path: Path) -> None:
    model = painter()
    assert torch.equal(chosen(model, "5,2", seed=7), model.latents(6, 7)[[5, 2]])
    kept = tmp_path / "latents.npy"
    np.save(kept, model.latents(3, 1).numpy())
    assert torch.equal(chosen(model, "2", 0, kept), model.latents(3, 1)[2:])
    with pytest.raises(LeafwingError, match="there is no number 3"):
        chosen(model, "3", 0, kept)


@pytest.mark.parametrize("held", [np.zeros((2, 3)), np.zeros(4), np.full((1, 4), np.nan), np.array([["a"] * 4])])
def test_a_file_without_such_latents_is_refused(held: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "held.npy"
    np.save(path, held)
    with pytest.raises(LeafwingError, match=r"held\.npy"):
        chosen(painter(), "0", 0, path)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "held.npz"
    for content in (b"", b"nonsense"):
        path.write_bytes(content)
        with pytest.raises(LeafwingError, match=r"held\.npz"):
            chosen(painter(), "0", 0, path)
    with pytest.raises(LeafwingError, match="gone"):
        chosen(painter(), "0", 0, tmp_path / "gone.npy")


@given(st.integers(0, 10_000), st.sampled_from(["spherical", "straight"]))
def test_a_walk_begins_and_ends_where_it_should(seed: int, way: str) -> None:
    a, b = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed))
    walk = between(a, b, torch.linspace(0, 1, 5), way)
    assert torch.allclose(walk[0], a, atol=1e-4)
    assert torch.allclose(walk[-1], b, atol=1e-4)


def test_an_arc_keeps_the_length_and_a_line_does_not() -> None:
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    assert torch.allclose(between(a, b, torch.linspace(0, 1, 5)).norm(dim=1), torch.full((5,), 2.0))
    assert between(a, b, torch.tensor([0.5]), "straight").norm() == pytest.approx(2**0.5)


def test_equal_and_opposite_ends_have_no_arc() -> None:
    a = torch.tensor([1.0, 2.0])
    for b in (a, -a, torch.zeros(2)):
        assert between(a, b, torch.linspace(0, 1, 3)).isfinite().all()
