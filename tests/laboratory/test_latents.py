"""Latents specified by users, and paths between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import painter
from hypothesis import given
from hypothesis import strategies as st

from leafwing.errors import LeafwingError
from leafwing.laboratory.latents import parse_numbers, select_latents
from leafwing.latents import Interpolation, interpolate_latents

pytestmark = pytest.mark.machine


@pytest.mark.parametrize(("text", "numbers"), [("3", [3]), ("3,5, 8", [3, 5, 8]), ("0:3", [0, 1, 2]), ("7,0:2", [7, 0, 1])])
def test_numbers(text: str, numbers: list[int]) -> None:
    assert parse_numbers("samples", text) == numbers
    assert parse_numbers("samples", numbers) == numbers


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "3:", "2:2", "99999999999"])
def test_invalid_numbers_are_refused(text: str) -> None:
    with pytest.raises(LeafwingError, match="samples="):
        parse_numbers("samples", text)


def test_samples_have_the_numbers_of_the_sample_command(tmp_path: Path) -> None:
    model = painter()
    assert torch.equal(select_latents(model, "5,2", seed=7), model.latents(6, 7)[[5, 2]])
    file = tmp_path / "latents.npy"
    np.save(file, model.latents(3, 1).numpy())
    assert torch.equal(select_latents(model, "2", 0, file), model.latents(3, 1)[2:])
    with pytest.raises(LeafwingError, match="there is no number 3"):
        select_latents(model, "3", 0, file)


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros(4), np.full((1, 4), np.nan), np.array([["a"] * 4])])
def test_unsuitable_arrays_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "latents.npy"
    np.save(path, array)
    with pytest.raises(LeafwingError, match=r"latents\.npy"):
        select_latents(painter(), "0", 0, path)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "latents.npz"
    for content in (b"", b"nonsense"):
        path.write_bytes(content)
        with pytest.raises(LeafwingError, match=r"latents\.npz"):
            select_latents(painter(), "0", 0, path)
    with pytest.raises(LeafwingError, match="missing"):
        select_latents(painter(), "0", 0, tmp_path / "missing.npy")


@given(st.integers(0, 10_000), st.sampled_from(["spherical", "linear"]))
def test_a_path_starts_and_ends_at_the_end_points(seed: int, interpolation: Interpolation) -> None:
    a, b = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed))
    path = interpolate_latents(a, b, torch.linspace(0, 1, 5), interpolation)
    assert torch.allclose(path[0], a, atol=1e-4)
    assert torch.allclose(path[-1], b, atol=1e-4)


def test_spherical_interpolation_keeps_the_norm_and_linear_does_not() -> None:
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    assert torch.allclose(interpolate_latents(a, b, torch.linspace(0, 1, 5)).norm(dim=1), torch.full((5,), 2.0))
    assert interpolate_latents(a, b, torch.tensor([0.5]), "linear").norm() == pytest.approx(2**0.5)


def test_parallel_and_zero_end_points() -> None:
    a, positions = torch.tensor([1.0, 2.0]), torch.linspace(0, 1, 3)
    for b in (a, 3 * a, -a):
        linear = interpolate_latents(a, b, positions, "linear")
        assert torch.allclose(interpolate_latents(a, b, positions), linear, atol=1e-6)
    assert interpolate_latents(a, torch.zeros(2), positions).isfinite().all()
