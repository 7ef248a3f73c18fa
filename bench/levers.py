"""Speed-up of each of the engine's choices: `dcgan` at 64 px with all of them, and with one switched off at a time.

    python bench/levers.py

Every variant runs in its own process, and they take turns. The ratio is the seconds without a choice over the seconds with all: at
1.2 the choice makes a step 1.2 times as fast. One row per choice.
"""

from __future__ import annotations

import importlib
import statistics
from typing import Any

import torch

from alternate import Steps, interleave
from leafwing.engine import choose
from leafwing.machine import versions
from rows import argument_parser, store
from step import ours

CHOICES: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "fp32"},
    "fp32": {"precision": "bf16"},
    "channels_last": {"layout": "contiguous"},
    "fused optimisers": {"fused": False},
    "freed memory kept": {"keep_freed": False},
    "small convolutions as products": {"products": False},
    "a shared round": {"same_round": False},
    "capture": {"capture": False},
    "all threads": {"threads": 1},
    "torch.compile left out": {"compile": True},
}


def variant(batch: int, width: int, device: str, changes: dict[str, Any]) -> Steps:
    """The training function of `dcgan` with one choice changed."""
    options = dict(changes)
    if not options.pop("same_round", True):
        dcgan: Any = importlib.import_module("leafwing.recipes.dcgan")
        duel = dcgan.duel
        dcgan.duel = lambda *args, same_round, **rest: duel(*args, **rest)
    return ours(batch, width, "", device, **options)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--batch", type=int, default=64, help="batch size")
    parser.add_argument("--width", type=int, default=64, help="width of the networks")
    parser.add_argument("--repetitions", type=int, default=5, help="number of repetitions")
    parser.add_argument("--steps", type=int, default=3, help="training steps per repetition")
    parser.add_argument("--only", choices=CHOICES, help="only this choice")
    args = parser.parse_args()
    setup = choose(args.device, threads=torch.get_num_threads())
    on_cuda = setup.device.startswith("cuda")
    unavailable = {"freed memory kept", "all threads"} if on_cuda else {"capture"}
    unavailable.add("fp32" if setup.precision == "bf16" else "bf16")
    unavailable |= set() if setup.products else {"small convolutions as products"}
    cases = {name: changes for name, changes in CHOICES.items() if name not in unavailable and args.only in (None, name)}
    sides = {name: (variant, (args.batch, args.width, setup.device, changes)) for name, changes in cases.items()}
    sides["everything"] = (variant, (args.batch, args.width, setup.device, {}))
    timings = interleave(sides, setup.device, args.repetitions, args.steps)
    with_all = timings.pop("everything")
    for name, without in timings.items():
        ratios = [a / b for a, b in zip(without.seconds, with_all.seconds, strict=True)]
        row = {
            "bench": "levers",
            "choice": name,
            "ratio": round(statistics.median(ratios), 3),
            "ratio_low": round(min(ratios), 3),
            "ratio_high": round(max(ratios), 3),
            "peak_mib_with": round(with_all.peak / 2**20),
            "peak_mib_without": round(without.peak / 2**20),
            "batch": args.batch,
            "width": args.width,
            "device": setup.device,
            "precision": setup.precision,
            "threads": setup.threads,
        }
        store({**row, **versions()}, args.results)


if __name__ == "__main__":
    main()
