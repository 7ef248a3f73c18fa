"""Twenty rounds of each recipe on fixed data give the costs they always gave.

A change that should not alter numbers leaves `golden/` as it is; one that should writes it anew in a commit of its own:

    python tests/test_golden.py --write              # all; or only those named: --write wgan_gp

Costs are compared to one part in five hundred, because other processors round differently.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from leafwing import recipes
from tiny import PICTURES, start

GOLDEN = Path(__file__).parent / "golden"
ROUNDS = 20


def log(name: str) -> list[dict[str, object]]:
    """The costs of each of the first rounds."""
    torch.set_num_threads(1)
    training = start(name, PICTURES, 10**6)
    found: list[dict[str, object]] = []
    for tick in training.ticks(training.batch):
        found.append({"images": tick.clock.images, "costs": {key: round(value, 6) for key, value in tick.costs.items()}})
        if len(found) == ROUNDS:
            return found
    raise AssertionError("training ended early")


@pytest.mark.parametrize("name", recipes.names())
def test_the_costs_are_what_they_always_were(name: str) -> None:
    golden = [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]
    found = log(name)
    assert [line["images"] for line in found] == [line["images"] for line in golden]
    for now, then in zip(found, golden, strict=True):
        assert now["costs"] == pytest.approx(then["costs"], rel=2e-3, abs=2e-4), f"at {then['images']} images"


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        sys.exit(__doc__)
    GOLDEN.mkdir(exist_ok=True)
    for recipe in sys.argv[2:] or recipes.names():
        (GOLDEN / f"{recipe}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log(recipe)))
