"""Tests that require a CUDA device: every recipe trains, is captured, does not synchronise, resumes and samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import leafwing
from leafwing import recipes
from leafwing.data import load
from leafwing.engine import Engine, choose
from leafwing.game import Clock
from leafwing.loop import Training
from tiny import PICTURES, batches, build, cases, on_labelled_images, tensors

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SMALL = {"width": 8, "width_d": 8, "max_width": 16, "latent": 8, "batch": 8, "burst": 3, "burst_first": 1}
every_case = cases()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0)
    for i in range(16):
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", on_labelled_images())
def test_every_recipe_trains_resumes_and_samples_on_the_device(
    name: str, precision: str, pictures: Path, tmp_path: Path
) -> None:
    known = {option.name for option in recipes.describe(name).options}
    options = {key: value for key, value in SMALL.items() if key in known}
    run = leafwing.train(
        pictures, name, size=16, images=64, device="cuda", precision=precision, out=tmp_path / "run", **options
    )
    assert run.settings.machine.device == "cuda"
    leafwing.resume(run.folder, images="+64")
    on_device = leafwing.Model.load(run, device="cuda").sample(4, seed=1).cpu()
    on_cpu = leafwing.Model.load(run).sample(4, seed=1)
    assert on_device.shape == (4, 3, 16, 16)
    assert torch.allclose(on_device, on_cpu, atol=2e-2), "the same latents give the same pictures on both devices"


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def train(name: str, spec: Any, **changes: Any) -> tuple[dict[str, torch.Tensor], Engine, list[str]]:
    """Twenty rounds; the weights, the engine, and its notices."""
    notices: list[str] = []
    game = build(name, spec)
    engine = Engine(game, replace(choose("cuda", "fp32"), **changes), notify=notices.append)
    torch.manual_seed(5)
    list(Training(game, batches(spec, game), engine, images=20 * game.batch * 2, batch=game.batch).ticks(10**9))
    return tensors(game), engine, notices


@every_case
def test_captured_turns_equal_turns_without_capture(name: str, spec: Any, double: None) -> None:
    """In fp64 over 20 rounds: the same random numbers, and sums that differ only in their order.

    With capture a scheduled learning rate is an fp32 tensor, with seven digits. Training without capture is repeated, to
    tell whether capture causes a difference.
    """
    eager, _, _ = train(name, spec, capture=False)
    again, _, _ = train(name, spec, capture=False)
    captured, engine, notices = train(name, spec, capture=True)
    assert notices == []
    assert engine.capture_backend is not None, "capture was switched off"
    for key, value in eager.items():
        assert torch.allclose(again[key].double(), value.double(), rtol=1e-6, atol=1e-9), f"{key}: differs without capture"
        assert torch.allclose(captured[key].double(), value.double(), rtol=1e-6, atol=1e-9), key


def test_turns_are_captured_again_after_other_learning_rates() -> None:
    """As after a rollback: gradients of the first captures are still in the memory of graphs that are gone."""
    game = build("wgan_gp", PICTURES)
    notices: list[str] = []
    engine = Engine(game, choose("cuda", "fp32"), notify=notices.append)
    for part in (1, 2):
        training = Training(game, batches(PICTURES, game), engine, images=part * 12 * game.batch, batch=game.batch)
        list(training.ticks(10**9))
        engine.scale_learning_rates(0.5**part)
    assert notices == []
    assert engine.capture_backend is not None, "capture was switched off"


@every_case
@pytest.mark.parametrize("capture", [False, True])
def test_no_turn_synchronises_with_the_device(name: str, spec: Any, capture: bool) -> None:
    game = build(name, spec)
    engine = Engine(game, replace(choose("cuda", "bf16"), capture=capture))
    prepared = [engine.prepare(batches(spec, game)(i * 6, game.batch)) for i in range(2)]
    clock = Clock(0, 10**6, 0)
    for _ in range(6):  # capture, and synchronisation at first use
        for turn in game.turns:
            engine.take([turn], prepared[0], clock)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            for turn in game.turns:
                engine.take([turn], prepared[1], clock)
            engine.update_ema(game.batch, game.batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("resident", [True, False])
def test_resident_or_prefetched_data_equal_those_of_the_host(resident: bool, pictures: Path) -> None:
    data = load(pictures, size=16, mirror=True)
    stream = data.batches(3, "cuda", resident=resident)
    for images in (0, 8, 16, 40, 12):
        batch, expected = stream(images, 8), data.to_network(data.batch(3, images, 8))
        assert torch.equal(batch.image.cpu(), expected.image)
        assert torch.equal(batch.label.cpu(), expected.label)
    assert stream(0, 8).image.device.type == "cuda"


def test_out_of_memory_leads_to_smaller_micro_batches() -> None:
    game = build("wgan_gp", PICTURES)
    notices: list[str] = []
    engine = Engine(game, replace(choose("cuda", "fp32"), capture=False), notify=notices.append)
    training = Training(game, batches(PICTURES), engine, images=4096, batch=4096)
    torch.cuda.empty_cache()
    needed = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (64 << 20)) / needed)
    try:
        list(training.ticks(10**9))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert notices
    assert "micro-batches" in notices[-1]
