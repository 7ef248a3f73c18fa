"""What does each of the engine's choices bring? `dcgan` at 64 px with everything on, and with one thing off at a time.

    python bench/levers.py

Every variant lives in a process of its own and they take turns; the ratio is the seconds without over the seconds with, so 1.2
means that the choice makes a step 1.2 times as fast. One row a choice goes to --results.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

from alternate import Steps, in_turn
from leafwing.engine import choose
from leafwing.runs import versions
from rows import keep
from step import ours

WITHOUT: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "fp32"},
    "channels_last": {"layout": "contiguous"},
    "fused optimisers": {"fused": False},
    "freed memory kept": {"keep_freed": False},
    "small convolutions as products": {"products": False},
    "a shared round": {"same_round": False},
    "capture": {"capture": False},
    "all threads": {"threads": 1},
    "torch.compile left out": {"compile": True},
}


def variant(batch: int, width: int, device: str, without: dict[str, Any]) -> Steps:
    """Rounds of `dcgan` without one thing."""
    how = dict(without)
    if not how.pop("same_round", True):
        from leafwing.recipes import dcgan

        duel = dcgan.duel
        dcgan.duel = lambda *args, same_round, **rest: duel(*args, **rest)
    return ours(batch, width, "", device, **how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", choices=WITHOUT, help="one choice alone")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "levers.jsonl")
    given = parser.parse_args()
    setup = choose(given.device, threads=torch.get_num_threads())
    on_cuda = setup.device.startswith("cuda")
    shut = {"freed memory kept", "all threads"} if on_cuda else {"capture"}
    shut |= set() if setup.products else {"small convolutions as products"}
    cases = {name: without for name, without in WITHOUT.items() if name not in shut and given.only in (None, name)}
    sides = {name: (variant, (given.batch, given.width, setup.device, without)) for name, without in cases.items()}
    sides["everything"] = (variant, (given.batch, given.width, setup.device, {}))
    found = in_turn(sides, setup.device, given.repetitions, given.steps)
    fast = found.pop("everything")
    for name, slow in found.items():
        ratios = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
        row = {
            "bench": "levers",
            "choice": name,
            "ratio": round(statistics.median(ratios), 3),
            "ratio_low": round(min(ratios), 3),
            "ratio_high": round(max(ratios), 3),
            "peak_mib_with": round(fast.peak / 2**20),
            "peak_mib_without": round(slow.peak / 2**20),
            "batch": given.batch,
            "width": given.width,
            "device": setup.device,
            "precision": setup.precision,
            "threads": setup.threads,
        }
        keep({**row, **versions()}, given.results)


if __name__ == "__main__":
    main()
