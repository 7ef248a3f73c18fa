"""Twenty rounds of each recipe on fixed data give the costs they always gave.

A change that should not alter numbers leaves `golden/` as it is; one that should writes it anew in a commit of its own:

    python tests/test_golden.py --write              # all; or only those named: --write wgan_gp

Other processors, threads and releases of torch round differently, and a game makes more of it from round to round: of alpha_gan's
seven digits two are left after twenty rounds, of r3gan's all. So each recipe is trained twice more with all of its state nudged
before every round, up or down by 16 units in the last place. That is what a sum of some hundred numbers in another order may
change (sixteen is about the root of the longest), and makes a number that rounding moves across a kink as much likelier to be met.
How far the nudged costs are from the others, up to that round, is what the golden ones may be too, four times over, because two
draws say no more than how large such differences are.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch

from leafwing import recipes
from tiny import PICTURES, THREADS, perturb, start

pytestmark = pytest.mark.machine

GOLDEN = Path(__file__).parent / "golden"
ROUNDS = 20
EPS = torch.finfo(torch.float32).eps
ROUGHLY = 16 * EPS
NUDGES = 2
TIMES = 4
DIGITS = 1e-6
"""What rounding to six decimals leaves open, for a golden number and one of today."""
DRAWN = (1.5409961, -0.2934289, -2.1787894)
"""The first normal numbers of seed 0. A torch that draws others has other initial weights, and golden logs say nothing of it."""


def costs(name: str, nudge: int = 0) -> list[tuple[int, dict[str, float]]]:
    """Images and costs of each of the first rounds; a seed for nudges, 0 for none."""
    torch.set_num_threads(THREADS)
    training = start(name, PICTURES, 10**6)
    generator = torch.Generator().manual_seed(nudge)

    def disturb() -> None:
        for module in training.game.modules().values() if nudge else ():
            module.load_state_dict(perturb(module.state_dict(), ROUGHLY, generator))

    found = []
    disturb()
    for tick in islice(training.ticks(training.batch), ROUNDS):
        found.append((tick.clock.images, dict(tick.losses)))
        disturb()
    assert len(found) == ROUNDS, "training ended early"
    return found


def log(name: str) -> list[dict[str, object]]:
    return [
        {"images": images, "costs": {key: round(value, 6) for key, value in paid.items()}} for images, paid in costs(name)
    ]


@pytest.mark.parametrize("name", recipes.names())
def test_the_costs_are_what_they_always_were(name: str) -> None:
    drawn = torch.randn(3, generator=torch.Generator().manual_seed(0)).tolist()
    if drawn != pytest.approx(DRAWN, rel=1e-5):
        pytest.skip(f"torch {torch.__version__} draws other random numbers than the one that wrote the golden logs")
    golden = [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]
    found, near = costs(name), [costs(name, seed) for seed in range(1, NUDGES + 1)]
    assert [images for images, _ in found] == [line["images"] for line in golden]
    grown = 0.0
    for number, ((images, now), line) in enumerate(zip(found, golden, strict=True)):
        then = line["costs"]
        assert now.keys() == then.keys()
        grown = max(grown, *(abs(other[number][1][key] - now[key]) for other in near for key in now))
        for key in now:
            allowed = TIMES * (grown + EPS * abs(now[key])) + DIGITS
            assert abs(now[key] - then[key]) <= allowed, f"{key} at {images} images: {now[key]}, and was {then[key]}"


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp", "alpha_gan", "wgan", "gan"])
def test_a_second_training_in_a_process_is_the_first_bit_for_bit(name: str) -> None:
    """Whatever was trained between them: in bf16, in fp64, with other threads, another recipe."""
    first = costs(name)
    assert costs(name) == first
    list(start("sagan", PICTURES, 30, precision="bf16").ticks(10**9))
    torch.set_default_dtype(torch.float64)
    try:
        list(start(name, PICTURES, 30).ticks(10**9))
    finally:
        torch.set_default_dtype(torch.float32)
    torch.set_num_threads(2 if THREADS == 1 else 1)
    torch.ones(64, 64) @ torch.ones(64, 64)
    assert costs(name) == first


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        sys.exit(__doc__)
    GOLDEN.mkdir(exist_ok=True)
    for recipe in sys.argv[2:] or recipes.names():
        (GOLDEN / f"{recipe}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log(recipe)))
