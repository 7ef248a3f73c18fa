"""Overheads around the training itself: start-up, reading images, writing checkpoints and sample grids, keeping a run folder.

    python bench/overhead.py

Start-up: Python alone, `import torch`, `import leafwing`, the command line's `--help` and `recipes`, and `leafwing.train` up to the
end of its first turn. Packing: images per second of `data.load` on a folder of JPEGs, alternating with a plain Pillow loop. Writing:
a checkpoint and a sample grid of `dcgan` at 64 px. Running: seconds of `leafwing.train` compared with the bare engine and loop over
the same images, each in its own process and in turn; `run` writes as often as a training of 200,000 images, `dense` as often as is
usual for its own length. Wall-clock time counts, because a run's own seconds begin with its first turn. One row per part; the
last line of output is a summary.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import leafwing
from leafwing import recipes
from leafwing.commands.session import save_samples
from leafwing.config import DataConfig
from leafwing.data import load
from leafwing.engine import Engine, choose, synchronise
from leafwing.loop import Training
from leafwing.machine import versions
from leafwing.model import Model
from leafwing.runs import Run
from recipes import Side, alone, pictures, rounds, training_of
from rows import argument_parser, store
from step import jpegs

COMMANDS = {
    "python": ["-c", "pass"],
    "torch": ["-c", "import torch"],
    "import": ["-c", "import leafwing"],
    "help": ["-m", "leafwing", "--help"],
    "recipes": ["-m", "leafwing", "recipes"],
}
FIRST_TURN = """
import os, sys, time
import leafwing
from leafwing.progress import Silent

class First(Silent):
    def after_turn(self, images):
        print(time.time(), flush=True)
        os._exit(0)

leafwing.train("digits", "dcgan", out=sys.argv[1], device=sys.argv[2], threads=int(sys.argv[3]), progress=First())
"""
OF_200K = {"log_every": 1_000, "grid_every": 10_000, "save_every": 10_000}


def median(work: Callable[[], object], times: int) -> float:
    """Median seconds of a function call, after one call as a warm-up."""
    work()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def starting(times: int, setup_options: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the start of a process to its end, or to the end of the first turn."""
    seconds = {}
    for name, arguments in COMMANDS.items():
        command = [sys.executable, *arguments]
        seconds[f"{name}_s"] = round(median(lambda: subprocess.run(command, check=True, capture_output=True), times), 3)  # noqa: B023
    first_turns = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-c",
                FIRST_TURN,
                f"{folder}/run",
                setup_options["device"],
                str(setup_options["threads"]),
            ]
            started = time.time()
            ended = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            first_turns.append(ended - started)
    return {**seconds, "first_turn_s": round(statistics.median(first_turns), 3)}


def packing(n: int, times: int) -> dict[str, Any]:
    """Images per second: JPEGs of 256 px read into a cache of 64 px, and only opened and resized by Pillow."""
    speeds, pillow_speeds = [], []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(jpegs(Path(folder) / "photos", 256, n))
        for k in range(times):
            started = time.perf_counter()
            load(source, size=64, cache=f"{folder}/cache{k}")
            speeds.append(n / (time.perf_counter() - started))
            started = time.perf_counter()
            for path in sorted(source.iterdir()):
                with Image.open(path) as picture:
                    picture.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS).tobytes()
            pillow_speeds.append(n / (time.perf_counter() - started))
    return {
        "pictures": n,
        "packed_per_second": round(statistics.median(speeds), 1),
        "pillow_per_second": round(statistics.median(pillow_speeds), 1),
        "ratio": round(statistics.median(a / b for a, b in zip(speeds, pillow_speeds, strict=True)), 3),
    }


def writing(times: int, setup_options: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a checkpoint and of a sample grid of `dcgan` at 64 px, width 64."""
    spec, setup = pictures(64, 3), choose(**setup_options)
    training = training_of(Side("dcgan", {"width": 64, "batch": 8}), spec, setup)
    rounds(training, 1)
    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(source="x", options={}, fingerprint="", samples=0, rejected=0, spec=spec)
        config = {"recipe": "dcgan", "options": {}, "training": {}, "data": data.as_dict()}
        run = Run.create(config, recipes.locate("dcgan"), out=f"{folder}/run")
        model = Model(training.game, spec, setup.device)
        checkpoint = median(lambda: run.save_checkpoint(training.game, training.state(), last=2, milestone=0), times)
        grid = median(lambda: save_samples(run, model, 0), times)
        size = sum(path.stat().st_size for path in run.folder.iterdir() if path.suffix in (".safetensors", ".pt"))
    return {"checkpoint_s": round(checkpoint, 3), "checkpoint_mib": round(size / 2**20, 1), "grid_s": round(grid, 3)}


def train_seconds(side: str, images: int, setup_options: dict[str, Any]) -> float:
    """Wall-clock seconds of a training of `dcgan` on `digits`: `bare`, `run` or `dense`."""
    started = time.perf_counter()
    if side == "bare":
        data = load("digits")
        setup = choose(**setup_options)
        torch.manual_seed(0)
        game = recipes.build("dcgan", recipes.find("dcgan"), data.spec, recipes.describe("dcgan").resolve({}))
        batches = data.batches(0, setup.device, resident=setup.resident)
        training = Training(game, batches, Engine(game, setup), images=images, batch=game.batch)
        list(training.ticks(10**12))
        synchronise(setup.device)
    else:
        with tempfile.TemporaryDirectory() as folder:
            intervals: dict[str, Any] = OF_200K if side == "run" else {}
            leafwing.train("digits", "dcgan", images=images, out=f"{folder}/run", **intervals, **setup_options)
    return time.perf_counter() - started


def running(images: int, times: int, setup_options: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each side, and the relative overhead of the runs over the bare loop."""
    sides: dict[str, list[float]] = {"bare": [], "run": [], "dense": []}
    for _ in range(times):
        for side, seconds in sides.items():
            seconds.append(alone(train_seconds, side, images, setup_options))
    overheads = {
        side: [run / bare - 1 for run, bare in zip(sides[side], sides["bare"], strict=True)] for side in ("run", "dense")
    }
    return {
        "images": images,
        **{f"{side}_s": [round(value, 2) for value in seconds] for side, seconds in sides.items()},
        **{f"{side}_overhead": round(statistics.mean(overhead), 4) for side, overhead in overheads.items()},
    }


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("parts", nargs="*", help="starting, packing, writing, running; by default all")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--images", type=int, default=20_000, help="length of each training")
    parser.add_argument("--pictures", type=int, default=1_000, help="number of images to read")
    parser.add_argument("--times", type=int, default=5, help="repetitions of short measurements")
    args = parser.parse_args()
    setup = choose(args.device, threads=args.threads or torch.get_num_threads())
    setup_options = {"device": setup.device, "precision": setup.precision, "threads": setup.threads}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "starting": lambda: starting(args.times, setup_options),
        "packing": lambda: packing(args.pictures, 2),
        "writing": lambda: writing(args.times, setup_options),
        "running": lambda: running(args.images, 2, setup_options),
    }
    summary: dict[str, Any] = {}
    for part in args.parts or parts:
        row = parts[part]()
        store({"bench": "overhead", "case": part, **row, **setup_options, **versions()}, args.results)
        summary |= row
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
