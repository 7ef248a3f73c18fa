"""Where the time of a training step goes: its operations by kind, each compared with the limits of the machine (a roofline).

    python bench/roofline.py
    python bench/roofline.py --plot docs/performance.png

The first command measures one round of `dcgan` at 64 px: for every kind of operation its seconds, floating-point operations, and
bytes read and written, with the machine's fastest matrix product and fastest copy. The second plots the newest rows.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from leafwing.engine import choose, synchronise
from leafwing.machine import versions
from rows import argument_parser, newest, processor, store
from step import matmul_peak, ours

KINDS = {
    "convolution": "convolutions forward",
    "convolution_backward": "convolutions backward",
    "mm": "convolutions as products",
    "native_batch_norm": "batch normalisation",
    "native_batch_norm_backward": "batch normalisation",
    "_fused_adam_": "optimiser",
    "_foreach_norm": "checks at a tick",
}


class Operations(TorchDispatchMode):
    """Records seconds and bytes of the operations of a step, by kind."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        synchronise(self.device)
        started = time.perf_counter()
        out = function(*args, **(kwargs or {}))
        synchronise(self.device)
        kind = KINDS.get(function.overloadpacket.__name__, "activations, casts and the rest")
        self.seconds[kind] += time.perf_counter() - started
        if not function.is_view:
            self.bytes[kind] += sum(t.nbytes for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor))
        return out


def copy_peak(device: str) -> float:
    """The fastest copy of 256 MiB: bytes read and written per second."""
    a = torch.zeros(64 << 20, device=device)
    b = torch.empty_like(a)
    best = math.inf
    for _ in range(20):
        synchronise(device)
        started = time.perf_counter()
        b.copy_(a)
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2 * a.nbytes / best


def measure(args: argparse.Namespace) -> None:
    """Measure one round; one row per kind of operation."""
    setup = choose(args.device, threads=torch.get_num_threads())
    train = ours(args.batch, args.width, "", setup.device, capture=False)
    train(4)
    with FlopCounterMode(display=False) as counter:
        train(1)
    counts = counter.get_flop_counts()["Global"]
    flops = {KINDS[str(name).rpartition(".")[2]]: count for name, count in counts.items()}
    rounds = []
    for _ in range(args.repetitions):
        with Operations(setup.device) as operations:
            train(1)
        rounds.append(operations)
    fastest = min(rounds, key=lambda operations: sum(operations.seconds.values()))
    (peak, _), copy = matmul_peak(setup.device, setup.precision), copy_peak(setup.device)
    common = {"device": setup.device, "precision": setup.precision, "threads": setup.threads, **versions()}
    for kind, seconds in sorted(fastest.seconds.items(), key=lambda pair: -pair[1]):
        row = {
            "bench": "roofline",
            "case": kind,
            "batch": args.batch,
            "width": args.width,
            "milliseconds": round(1000 * seconds, 2),
            "share": round(seconds / sum(fastest.seconds.values()), 4),
            "gflop": round(flops.get(kind, 0) / 1e9, 3),
            "mib": round(fastest.bytes[kind] / 2**20, 1),
            "peak_gflops": round(peak / 1e9, 1),
            "copy_gib_per_second": round(copy / 2**30, 1),
        }
        store({**row, **common}, args.results)


def title(row: dict[str, Any]) -> str:
    """What a row was measured with: training, processor, threads and commit."""
    uncommitted = ", with changes that were not committed" * row["commit"].endswith("+")
    return (
        f"dcgan, 64 px, width {row['width']}: {row['device']}, {processor(row)}, {row['precision']}, {row['threads']} threads; "
        f"commit {row['commit'][:7]}{uncommitted}"
    )


def plot(args: argparse.Namespace) -> None:
    """Plot the newest rows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in newest(args.results) if row["width"] == args.width]
    last = json.loads(args.results.read_text().splitlines()[-1])
    rows = [row for row in rows if row["commit"] == last["commit"]]  # without kinds that only an earlier version had
    peak, copy = rows[0]["peak_gflops"], rows[0]["copy_gib_per_second"] * 2**30 / 1e9
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    rows.sort(key=lambda row: row["milliseconds"])
    bars = left.barh([row["case"] for row in rows], [row["milliseconds"] for row in rows], color="#4c72b0")
    left.bar_label(bars, [f"{100 * row['share']:.0f}%" for row in rows], padding=3)
    left.margins(x=0.15)
    left.set(xlabel=f"milliseconds of a round, batch {rows[0]['batch']}", title="Where the time goes")
    lowest, highest = 0.1, 1000.0
    edge = peak / copy
    right.plot([lowest, edge, highest], [lowest * copy, peak, peak], color="black", label="what the machine can do")
    for row in rows:
        if row["gflop"]:
            x, y = row["gflop"] * 1e9 / (row["mib"] * 2**20), row["gflop"] / row["milliseconds"] * 1000
            right.plot(x, y, "o", label=row["case"])
    whole_x = sum(row["gflop"] for row in rows) * 1e9 / sum(row["mib"] * 2**20 for row in rows)
    whole_y = sum(row["gflop"] for row in rows) / sum(row["milliseconds"] for row in rows) * 1000
    right.plot(whole_x, whole_y, "s", color="#c44e52", label="the whole round")
    right.set(
        xscale="log", yscale="log", xlabel="FLOP per byte read or written", ylabel="GFLOP per second", title="Roofline"
    )
    right.set_xlim(lowest, highest)
    right.legend(loc="lower right", fontsize=8)
    right.grid(alpha=0.3)
    figure.suptitle(title(rows[0]), fontsize=10)
    figure.savefig(args.plot, dpi=110, metadata={"Software": None})
    print(args.plot)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--batch", type=int, default=64, help="batch size")
    parser.add_argument("--width", type=int, default=64, help="width of the networks")
    parser.add_argument("--repetitions", type=int, default=5, help="number of repetitions")
    parser.add_argument("--plot", type=Path, help="plot the newest rows to this file instead")
    args = parser.parse_args()
    if args.plot:
        plot(args)
    else:
        measure(args)


if __name__ == "__main__":
    main()
