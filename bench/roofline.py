"""Where does the time of a step go? Its operations by kind, and each beside what the machine could do: a roofline.

    python bench/roofline.py
    python bench/roofline.py --plot docs/performance.png

The first measures one round of `dcgan` at 64 px: for every operation its seconds, floating-point operations and the bytes that it
reads and writes, beside the machine's fastest matrix product and fastest copy; rows go to --results. The second draws the
newest rows.
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
from leafwing.runs import versions
from rows import keep
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
    """Seconds and bytes of each operation, by kind."""

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
    """The fastest copy of 256 MiB, bytes read and written per second."""
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


def measure(given: argparse.Namespace) -> None:
    setup = choose(given.device, threads=torch.get_num_threads())
    train = ours(given.batch, given.width, "", setup.device, capture=False)
    train(4)
    with FlopCounterMode(display=False) as counter:
        train(1)
    counts = counter.get_flop_counts()["Global"]
    flops = {KINDS[str(name).rpartition(".")[2]]: count for name, count in counts.items()}
    rounds = []
    for _ in range(given.repetitions):
        with Operations(setup.device) as seen:
            train(1)
        rounds.append(seen)
    fastest = min(rounds, key=lambda one: sum(one.seconds.values()))
    (peak, _), copy = matmul_peak(setup.device, setup.precision), copy_peak(setup.device)
    about = {"device": setup.device, "precision": setup.precision, "threads": setup.threads, **versions()}
    for kind, seconds in sorted(fastest.seconds.items(), key=lambda pair: -pair[1]):
        row = {
            "bench": "roofline",
            "case": kind,
            "batch": given.batch,
            "width": given.width,
            "milliseconds": round(1000 * seconds, 2),
            "share": round(seconds / sum(fastest.seconds.values()), 4),
            "gflop": round(flops.get(kind, 0) / 1e9, 3),
            "mib": round(fastest.bytes[kind] / 2**20, 1),
            "peak_gflops": round(peak / 1e9, 1),
            "copy_gib_per_second": round(copy / 2**30, 1),
        }
        keep({**row, **about}, given.results)


def plot(given: argparse.Namespace) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from rows import newest

    rows = [row for row in newest(given.results) if row["width"] == given.width]
    last = json.loads(given.results.read_text().splitlines()[-1])
    rows = [row for row in rows if row["commit"] == last["commit"]]  # not a kind that only an earlier measurement met
    peak, copy = rows[0]["peak_gflops"], rows[0]["copy_gib_per_second"] * 2**30 / 1e9
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    rows.sort(key=lambda row: row["milliseconds"])
    bars = left.barh([row["case"] for row in rows], [row["milliseconds"] for row in rows], color="#4c72b0")
    left.bar_label(bars, [f"{100 * row['share']:.0f} %" for row in rows], padding=3)
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
    about = rows[0]
    figure.suptitle(
        f"dcgan, 64 px, width {about['width']}: {about['device']}, {about['precision']}, {about['threads']} threads",
        fontsize=10,
    )
    figure.savefig(given.plot, dpi=110, metadata={"Software": None})
    print(given.plot)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="draw the newest rows into this picture instead")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "roofline.jsonl")
    given = parser.parse_args()
    if given.plot:
        plot(given)
    else:
        measure(given)


if __name__ == "__main__":
    main()
