"""What do several processes bring? `dcgan` at 64 px on one process and on several, the same whole batch.

    python bench/scaling.py
    python bench/scaling.py --device cuda

On a CPU each process has one thread; beside them one process with as many threads, which is what a user of one machine has
without `--devices`. The ways take turns; medians. One row a way goes to --results.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from leafwing import recipes
from leafwing.commands.launching import environment
from leafwing.engine import Engine, choose, synchronise
from leafwing.engine.processes import Processes
from leafwing.game import Batch, DataSpec
from leafwing.loop import Training
from leafwing.runs import versions
from rows import keep


def work(given: argparse.Namespace) -> None:
    """One process: trains, and says how many images a second all of them saw."""
    with Processes.join() as processes:
        setup = choose(given.device, threads=given.threads)
        torch.manual_seed(0)
        options = recipes.describe("dcgan").resolve({"batch": given.batch})
        game = recipes.build("dcgan", recipes.find("dcgan"), DataSpec(64, 64, 3), options)
        engine = Engine(game, setup, processes=processes)
        own = processes.rows(given.batch)
        pixels = torch.randint(0, 256, (own.stop - own.start, 3, 64, 64), dtype=torch.uint8, device=engine.device)
        training = Training(game, lambda images, n: Batch(image=pixels), engine, images=10**12, batch=given.batch)
        seconds = []
        for rounds in (4, given.steps):
            until = training.clock.round + rounds
            started = time.perf_counter()
            for _ in training.ticks(given.batch):
                if training.clock.round >= until:
                    break
            synchronise(str(engine.device))
            seconds.append(time.perf_counter() - started)
        if processes.first:
            print(given.batch * given.steps / seconds[-1])


def images_per_second(processes: int, threads: int, given: argparse.Namespace) -> float:
    """Starts the processes of one way and reads what the first says."""
    command = [sys.executable, __file__, "--work", "--device", given.device, "--threads", str(threads)]
    command += ["--batch", str(given.batch), "--steps", str(given.steps)]
    told = environment(processes) | {"OMP_NUM_THREADS": str(threads)} if processes > 1 else dict(os.environ)
    started = []
    for rank in map(str, range(processes)):
        own = told | {"RANK": rank, "LOCAL_RANK": rank} if processes > 1 else told
        output = subprocess.PIPE if rank == "0" else subprocess.DEVNULL
        started.append(subprocess.Popen(command, env=own, stdout=output, text=True))
    said, _ = started[0].communicate()
    for process in started:
        if process.wait():
            raise SystemExit(f"a process ended with exit code {process.returncode}")
    return float(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, help="default: cores, or CUDA devices")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "scaling.jsonl")
    given = parser.parse_args()
    if given.work:
        work(given)
        return
    on_cpu = given.device == "cpu"
    most = given.processes or (torch.get_num_threads() if on_cpu else torch.cuda.device_count())
    ways = [(1, 1), (most, 1)] + ([(1, most)] if on_cpu else [])
    speeds: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    for _ in range(given.repetitions):
        for way in ways:
            speeds[way].append(images_per_second(*way, given))
    setup = choose(given.device, threads=1)
    for way, found in speeds.items():
        ratios = [a / b for a, b in zip(found, speeds[1, 1], strict=True)]
        row = {
            "bench": "scaling",
            "processes": way[0],
            "threads": way[1],
            "batch": given.batch,
            "images_per_second": round(statistics.median(found), 1),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_low": round(min(ratios), 3),
            "ratio_high": round(max(ratios), 3),
            "device": setup.device,
            "precision": setup.precision,
            **versions(),
        }
        keep(row, given.results)


if __name__ == "__main__":
    main()
