"""What is lost around the training itself: starting, packing pictures, writing checkpoints and sample grids, keeping a run.

    python bench/overhead.py

Start-up: Python alone, `import torch`, `import leafwing`, the command line's `--help` and `recipes`, and `leafwing.train` up to the
end of its first turn. Packing: pictures a second of `data.load` on a folder of JPEGs, in turn with a plain Pillow loop. Writing: a
checkpoint and a sample grid of `dcgan` at 64 px. The run: seconds of `leafwing.train` beside the engine and the loop alone over the
same images, each in a process of its own and in turn; `run` has the lines, grids and checkpoints of a training of 200,000 images,
`dense` those of its own length. The clock on the wall counts, because a run's own seconds leave out what is done between ticks. One
JSON line a case goes to --results; the last line holds the figures alone.
"""

from __future__ import annotations

import argparse
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
from leafwing.data import load
from leafwing.engine import Engine, choose, synchronise
from leafwing.loop import Training
from leafwing.model import Model
from leafwing.runs import DataConfig, Run, versions
from recipes import Side, alone, pictures, rounds, training_of
from rows import keep
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
    """Seconds that some work takes, after it was done once."""
    work()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def starting(times: int, how: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the start of a process to its end, or to the end of the first turn."""
    found = {}
    for name, words in COMMANDS.items():
        command = [sys.executable, *words]
        found[f"{name}_s"] = round(median(lambda: subprocess.run(command, check=True, capture_output=True), times), 3)  # noqa: B023
    turns = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "-c", FIRST_TURN, f"{folder}/run", how["device"], str(how["threads"])]
            started = time.time()
            ended = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            turns.append(ended - started)
    return {**found, "first_turn_s": round(statistics.median(turns), 3)}


def packing(n: int, times: int) -> dict[str, Any]:
    """Pictures a second: JPEGs of 256 px made into a pack of 64 px, and opened and resized by Pillow alone."""
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(jpegs(Path(folder) / "photos", 256, n))
        for k in range(times):
            started = time.perf_counter()
            load(source, size=64, cache=f"{folder}/cache{k}")
            ours.append(n / (time.perf_counter() - started))
            started = time.perf_counter()
            for path in sorted(source.iterdir()):
                with Image.open(path) as picture:
                    picture.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS).tobytes()
            plain.append(n / (time.perf_counter() - started))
    return {
        "pictures": n,
        "packed_per_second": round(statistics.median(ours), 1),
        "pillow_per_second": round(statistics.median(plain), 1),
        "ratio": round(statistics.median(a / b for a, b in zip(ours, plain, strict=True)), 3),
    }


def writing(times: int, how: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a checkpoint and of a sample grid of `dcgan` at 64 px, width 64."""
    spec, setup = pictures(64, 3), choose(**how)
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


def trained(side: str, images: int, how: dict[str, Any]) -> float:
    """Seconds on the wall of a training of `dcgan` on `digits`: `bare`, `run` or `dense`."""
    started = time.perf_counter()
    if side == "bare":
        data = load("digits")
        setup = choose(**how)
        torch.manual_seed(0)
        game = recipes.build("dcgan", recipes.find("dcgan"), data.spec, recipes.describe("dcgan").resolve({}))
        batches = data.batches(0, setup.device, resident=setup.resident)
        training = Training(game, batches, Engine(game, setup), images=images, batch=game.batch)
        list(training.ticks(10**12))
        synchronise(setup.device)
    else:
        with tempfile.TemporaryDirectory() as folder:
            often = OF_200K if side == "run" else {}
            leafwing.train("digits", "dcgan", images=images, out=f"{folder}/run", **often, **how)
    return time.perf_counter() - started


def running(images: int, times: int, how: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each side, and what the runs take more than the bare loop."""
    sides: dict[str, list[float]] = {"bare": [], "run": [], "dense": []}
    for _ in range(times):
        for side, found in sides.items():
            found.append(alone(trained, side, images, how))
    more = {
        side: [took / bare - 1 for took, bare in zip(sides[side], sides["bare"], strict=True)] for side in ("run", "dense")
    }
    return {
        "images": images,
        **{f"{side}_s": [round(took, 2) for took in found] for side, found in sides.items()},
        **{f"{side}_overhead": round(statistics.mean(found), 4) for side, found in more.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="starting, packing, writing, running; none: all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--images", type=int, default=20_000, help="of each training")
    parser.add_argument("--pictures", type=int, default=1_000, help="to be packed")
    parser.add_argument("--times", type=int, default=5, help="repetitions of what is short")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "overhead.jsonl")
    given = parser.parse_args()
    setup = choose(given.device, threads=given.threads or torch.get_num_threads())
    how = {"device": setup.device, "precision": setup.precision, "threads": setup.threads}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "starting": lambda: starting(given.times, how),
        "packing": lambda: packing(given.pictures, 2),
        "writing": lambda: writing(given.times, how),
        "running": lambda: running(given.images, 2, how),
    }
    summary: dict[str, Any] = {}
    for part in given.parts or parts:
        row = parts[part]()
        keep({"bench": "overhead", "case": part, **row, **how, **versions()}, given.results)
        summary |= row
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
