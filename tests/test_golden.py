"""The losses of twenty rounds of each recipe on fixed data equal the golden logs.

A change that should not affect numbers leaves `golden/` untouched; one that should rewrites it in a separate commit:

    python tests/test_golden.py --write              # all; or only some: --write wgan_gp

Other processors, numbers of threads and torch releases round differently, and a game amplifies differences from round to round:
of alpha_gan's seven digits two remain after twenty rounds, of r3gan's all. So a recipe whose losses differ is trained twice more
with all of its state perturbed before every round, up or down by 16 units in the last place. That is the effect of reordering a
sum of a few hundred numbers (sixteen is about the root of the longest), and makes it as much likelier that rounding moves a
number across a kink. The tolerance is four times the largest deviation of the perturbed losses up to that round, because two
samples only show the order of magnitude of such deviations.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch

from leafwing import recipes
from tiny import PICTURES, THREADS, first_data, perturb, start

pytestmark = pytest.mark.machine

GOLDEN = Path(__file__).parent / "golden"
LOGS = sorted(path.stem for path in GOLDEN.glob("*.jsonl"))
ROUNDS = 20
EPS = torch.finfo(torch.float32).eps
ROUGHLY = 16 * EPS
NUDGES = 2
TIMES = 4
DIGITS = 1e-6
"""The rounding error of two numbers with six decimals."""
FIRST_NORMALS = (1.5409961, -0.2934289, -2.1787894)
"""The first normal numbers of seed 0. Where torch draws others, initial weights differ, and the golden logs do not apply."""


def losses(name: str, nudge: int = 0) -> list[tuple[int, dict[str, float]]]:
    """Images and losses of each of the first rounds; `nudge` is the seed of the perturbations, 0 for none."""
    torch.set_num_threads(THREADS)
    training = start(name, first_data(name), 10**6)
    generator = torch.Generator().manual_seed(nudge)

    def perturb_modules() -> None:
        for module in training.game.modules().values() if nudge else ():
            module.load_state_dict(perturb(module.state_dict(), ROUGHLY, generator))

    result = []
    perturb_modules()
    for tick in islice(training.ticks(training.batch), ROUNDS):
        result.append((tick.clock.images, dict(tick.losses)))
        perturb_modules()
    assert len(result) == ROUNDS, "training ended early"
    return result


def log(name: str) -> list[dict[str, object]]:
    """The lines of a golden log."""
    return [
        {"images": images, "costs": {key: round(value, 6) for key, value in values.items()}}
        for images, values in losses(name)
    ]


def test_every_log_belongs_to_a_recipe() -> None:
    assert {*LOGS} == {*recipes.names()}, "write one with `python tests/test_golden.py --write NAME`"


@pytest.mark.parametrize("name", LOGS)
def test_losses_are_unchanged(name: str) -> None:
    normals = torch.randn(3, generator=torch.Generator().manual_seed(0)).tolist()
    if normals != pytest.approx(FIRST_NORMALS, rel=1e-5):
        pytest.skip(f"torch {torch.__version__} draws other random numbers than the version that wrote the golden logs")
    golden = [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]
    current = losses(name)
    assert [images for images, _ in current] == [line["images"] for line in golden]
    assert [now.keys() for _, now in current] == [line["costs"].keys() for line in golden]
    pairs = [(now[key], line["costs"][key]) for (_, now), line in zip(current, golden, strict=True) for key in now]
    if all(abs(now - then) <= DIGITS for now, then in pairs):
        return  # as on the machine where they were written
    perturbed, deviation = [losses(name, seed) for seed in range(1, NUDGES + 1)], 0.0
    for number, ((images, now), line) in enumerate(zip(current, golden, strict=True)):
        then = line["costs"]
        deviation = max(deviation, *(abs(other[number][1][key] - now[key]) for other in perturbed for key in now))
        for key in now:
            allowed = TIMES * (deviation + EPS * abs(now[key])) + DIGITS
            assert abs(now[key] - then[key]) <= allowed, f"{key} at {images} images: {now[key]}, expected {then[key]}"


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp", "alpha_gan", "wgan", "gan"])
def test_a_second_training_in_a_process_is_bit_identical(name: str) -> None:
    """Also after other training runs in between: in bf16, in fp64, with other threads, of another recipe."""
    first = losses(name)
    assert losses(name) == first
    list(start("sagan", PICTURES, 30, precision="bf16").ticks(10**9))
    torch.set_default_dtype(torch.float64)
    try:
        list(start(name, PICTURES, 30).ticks(10**9))
    finally:
        torch.set_default_dtype(torch.float32)
    torch.set_num_threads(2 if THREADS == 1 else 1)
    torch.ones(64, 64) @ torch.ones(64, 64)
    assert losses(name) == first


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        sys.exit(__doc__)
    GOLDEN.mkdir(exist_ok=True)
    for recipe in sys.argv[2:] or recipes.names():
        (GOLDEN / f"{recipe}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log(recipe)))
