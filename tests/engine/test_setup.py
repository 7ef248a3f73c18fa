"""How a device is chosen and used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from leafwing.engine import setup
from leafwing.metrics.features import Features
from leafwing.model import Model
from tiny import PICTURES, build


@pytest.mark.parametrize(
    ("capabilities", "processor", "fast"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "Intel(R) Xeon(R) Processor", True),
        ({"avx512_bf16": True}, "Intel(R) Xeon(R) Processor", False),
        ({"avx512_bf16": True}, "AMD EPYC 9B14", True),
        ({"avx2": True}, "AMD EPYC 7B13", False),
    ],
)
def test_bf16_is_chosen_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], processor: str, fast: bool
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    monkeypatch.setattr(setup, "processor", lambda: processor)
    chosen = setup.choose("cpu")
    assert chosen.precision == ("bf16" if fast else "fp32")
    assert processor in chosen.why["precision"]
    assert chosen.products == bool(capabilities.get("amx_bf16"))


@pytest.mark.filterwarnings("error")
def test_all_digits_of_fp32_are_used_by_samples_and_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a program has set for its own trainings, which stays."""
    cudnn = torch.backends.cudnn
    assert cudnn.allow_tf32, "the default"
    with setup.inference_in("fp32", torch.device("cpu")):
        assert cudnn.conv.fp32_precision == "ieee"  # type: ignore[attr-defined]
        assert not torch.is_autocast_enabled("cpu")
    assert cudnn.allow_tf32
    with setup.inference_in("bf16", torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")
    monkeypatch.setattr(cudnn, "allow_tf32", False)
    with pytest.raises(KeyError), setup.full_fp32():
        raise KeyError
    assert not cudnn.allow_tf32


def test_features_are_computed_in_all_digits() -> None:
    seen: list[str] = []

    class Net(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
            seen.append(torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]
            return images.flatten(1), None

    Features("net", "", Net())(torch.zeros(2, 3, 4, 4))
    assert seen == ["ieee"]


@pytest.mark.parametrize(
    ("function", "name", "result"),
    [
        (setup.synchronise, "synchronize", None),
        (setup.peak_memory, "max_memory_allocated", 5),
        (setup.fast_bf16, "get_device_capability", (9, 0)),
    ],
)
def test_questions_are_about_the_device_that_is_used(
    monkeypatch: pytest.MonkeyPatch, function: Callable[[str], Any], name: str, result: Any
) -> None:
    asked: list[str] = []

    def answer(device: str) -> Any:
        asked.append(device)
        return result

    monkeypatch.setattr(torch.cuda, name, answer)
    function("cuda:1")
    assert asked == ["cuda:1"]


def test_a_device_of_torch_is_one_by_its_name() -> None:
    assert setup.choose(torch.device("cpu")) == setup.choose("cpu")


def test_sampling_on_the_cpu_does_not_seed_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training may be running there."""
    model = Model(build("fastgan", PICTURES), PICTURES)
    seeded: list[int] = []
    monkeypatch.setattr("torch.cuda.manual_seed_all", seeded.append)
    monkeypatch.setattr("torch.mps.manual_seed", seeded.append)
    model.sample(2)
    model.render(model.latents(2))
    assert seeded == []


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_the_random_state_of_a_device_is_restored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = SimpleNamespace(seed=5)
    monkeypatch.setattr(f"torch.{name}.get_rng_state", lambda *device: state.seed)
    monkeypatch.setattr(f"torch.{name}.set_rng_state", lambda seed, *device: setattr(state, "seed", seed))
    monkeypatch.setattr(f"torch.{name}.manual_seed", lambda seed: setattr(state, "seed", seed))
    monkeypatch.setattr("torch.cuda.device", nullcontext)
    before = torch.get_rng_state()
    with suppress(KeyError), setup.seeded(3, name):
        assert (state.seed, torch.initial_seed()) == (3, 3)
        raise KeyError
    assert state.seed == 5
    assert torch.equal(torch.get_rng_state(), before)
