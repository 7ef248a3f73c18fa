"""What only a CUDA device can show: every recipe trains there, samples come back, and a resumed run goes on. Skipped without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import leafwing
from leafwing import recipes

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SMALL = {"width": 8, "width_d": 8, "widest": 16, "latent": 8, "batch": 8, "burst": 3, "burst_first": 1}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_trains_resumes_and_samples_on_the_device(name: str, precision: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for i in range(16):
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    known = {option.name for option in recipes.describe(name).options}
    options = {key: value for key, value in SMALL.items() if key in known}
    run = leafwing.train(
        tmp_path / "pictures", name, size=16, images=32, device="cuda", precision=precision, out=tmp_path / "run", **options
    )
    assert run.config["training"]["device"] == "cuda"
    leafwing.resume(run.folder, images="+32")
    on_device = leafwing.Model.load(run, device="cuda").sample(4, seed=1).cpu()
    on_cpu = leafwing.Model.load(run).sample(4, seed=1)
    assert on_device.shape == (4, 3, 16, 16)
    assert torch.allclose(on_device, on_cpu, atol=2e-2), "the same latents give the same pictures on both devices"
