"""Noise of numbered samples: it depends on the seed and on a sample's number, not on the pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from leafwing.engine.share import NumberedDraws, SharedDraws
from leafwing.networks.layers import DropoutNoise


def noise(seed: int, first: int, n: int) -> Tensor:
    """Several draws of numbered samples: (n, 7)."""
    with NumberedDraws(seed << 24 | first, n):
        normal, uniform = torch.randn(n, 2), torch.rand_like(torch.ones(n, 3))
        dropped = DropoutNoise(0.5)(torch.ones(n, 1))
        return torch.cat([normal, uniform, dropped, torch.empty(n, 1).uniform_(-1, 1)], 1)


@pytest.mark.parametrize("size", [1, 7, 32, 64, 100, 200])
def test_noise_does_not_depend_on_the_size_of_the_pass(size: int) -> None:
    whole = noise(3, 0, 200)
    parts = [noise(3, start, min(size, 200 - start)) for start in range(0, 200, size)]
    assert torch.equal(torch.cat(parts), whole)


def test_noise_differs_between_samples_draws_and_seeds() -> None:
    values = torch.cat([noise(3, 0, 200), noise(4, 0, 200)])
    for column in (0, 1, 2, 3, 4, 6):
        assert len(values[:, column].unique()) > 390  # numbers of 24 bits may coincide by chance
    assert not torch.equal(values[:, 2], values[:, 3])


def test_noise_is_independent_of_the_latents_of_the_same_seed() -> None:
    latents = torch.randn(64, 2, generator=torch.Generator().manual_seed(3 << 24))
    with NumberedDraws(3 << 24, 64):
        inside = torch.randn(64, 2)
    assert not torch.isin(inside, latents).any()


def test_what_belongs_to_no_sample_is_drawn_as_usual() -> None:
    with NumberedDraws(0, 5):
        torch.manual_seed(1)
        inside = torch.randn(3)
    torch.manual_seed(1)
    assert torch.equal(inside, torch.randn(3))


def test_all_samples_can_have_the_noise_of_the_first() -> None:
    with NumberedDraws(3 << 24 | 70, 5, same=True):
        values = torch.cat([torch.randn(5, 2), torch.rand(5, 3)], 1)
    assert torch.equal(values, values[:1].expand(5, 5))
    with NumberedDraws(3 << 24 | 70, 1):
        assert torch.equal(values[:1], torch.cat([torch.randn(1, 2), torch.rand(1, 3)], 1))


class Drawn(TorchFunctionMode):
    """Records the device of every draw."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in (torch.rand, torch.randn, torch.randint, Tensor.uniform_):
            self.devices.append(result.device.type)
        return result


@pytest.mark.parametrize(("draws", "device"), [(NumberedDraws(3, 5), "cpu"), (SharedDraws(5, slice(0, 5)), "meta")])
def test_only_numbers_of_samples_are_drawn_on_the_cpu_for_another_device(
    draws: SharedDraws, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training draws on its device, because it would wait for numbers of the CPU."""
    monkeypatch.setattr(NumberedDraws, "LARGE", 100)
    like = torch.empty(5, 2, device="meta")
    with Drawn() as drawn, draws:
        results = [
            torch.randn(5, 2, device="meta"), torch.rand(size=(3,), device="meta"), torch.randint(9, (5, 1), device="meta"),
            torch.rand_like(like), like.uniform_(), torch.randn(5, 2, 9, 9, device=torch.device("meta")),
        ]  # fmt: skip
        if isinstance(draws, NumberedDraws):
            results.append(draws.rows_of(5, torch.randn, (5, 2, 9, 9), {"device": "meta"}, 2, 8))
    assert {result.device.type for result in results} == {"meta"}
    assert {*drawn.devices} == {device}
