"""Scaling over several processes: `dcgan` at 64 px on one process and on several, with the same total batch.

    python bench/scaling.py
    python bench/scaling.py --device cuda

On a CPU each process has one thread; also measured: one process with as many threads, the default on one machine without
`--devices`. The configurations take turns; medians. One row per configuration.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import torch

from leafwing import recipes
from leafwing.commands.launching import environment
from leafwing.engine import Engine, choose, synchronise
from leafwing.engine.processes import Processes
from leafwing.game import Batch, DataSpec
from leafwing.loop import Training
from leafwing.machine import versions
from rows import argument_parser, store


def work(args: argparse.Namespace) -> None:
    """One process: trains; the first prints the images per second of all processes."""
    with Processes.join() as processes:
        setup = choose(args.device, threads=args.threads)
        torch.manual_seed(0)
        options = recipes.describe("dcgan").resolve({"batch": args.batch})
        spec = DataSpec.images(64, 64)
        game = recipes.build("dcgan", recipes.find("dcgan"), spec, options)
        engine = Engine(game, setup, processes=processes)
        pixels = torch.randint(
            0, 256, (args.batch // processes.world_size, 64, 64, 3), dtype=torch.uint8, device=engine.device
        )
        batches = lambda images, n: Batch(image=spec.fields["image"].to_network(pixels))  # noqa: E731
        training = Training(game, batches, engine, images=10**12, batch=args.batch)
        seconds = []
        for rounds in (4, args.steps):
            until = training.clock.round + rounds
            started = time.perf_counter()
            for _ in training.ticks(args.batch):
                if training.clock.round >= until:
                    break
            synchronise(str(engine.device))
            seconds.append(time.perf_counter() - started)
        if processes.first:
            print(args.batch * args.steps / seconds[-1])


def images_per_second(processes: int, threads: int, args: argparse.Namespace) -> float:
    """Start the processes of a configuration and read the speed from the first."""
    command = [sys.executable, __file__, "--work", "--device", args.device, "--threads", str(threads)]
    command += ["--batch", str(args.batch), "--steps", str(args.steps)]
    shared_variables = environment(processes) | {"OMP_NUM_THREADS": str(threads)} if processes > 1 else dict(os.environ)
    started = []
    for rank in map(str, range(processes)):
        variables = shared_variables | {"RANK": rank, "LOCAL_RANK": rank} if processes > 1 else shared_variables
        output = subprocess.PIPE if rank == "0" else subprocess.DEVNULL
        started.append(subprocess.Popen(command, env=variables, stdout=output, text=True))
    speed, _ = started[0].communicate()
    for process in started:
        if process.wait():
            raise SystemExit(f"a process ended with exit code {process.returncode}")
    return float(speed)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or mps")
    parser.add_argument("--processes", type=int, help="number of processes; by default one per core or CUDA device")
    parser.add_argument("--batch", type=int, default=128, help="batch size")
    parser.add_argument("--steps", type=int, default=8, help="training steps per repetition")
    parser.add_argument("--repetitions", type=int, default=3, help="number of repetitions")
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args)
        return
    on_cpu = args.device == "cpu"
    maximum = args.processes or (torch.get_num_threads() if on_cpu else torch.cuda.device_count())
    configurations: list[tuple[int, int]] = [(1, 1), (maximum, 1)] + ([(1, maximum)] if on_cpu else [])
    speeds: dict[tuple[int, int], list[float]] = {configuration: [] for configuration in configurations}
    for _ in range(args.repetitions):
        for configuration in configurations:
            speeds[configuration].append(images_per_second(*configuration, args))
    setup = choose(args.device, threads=1)
    for configuration, values in speeds.items():
        ratios = [a / b for a, b in zip(values, speeds[1, 1], strict=True)]
        row = {
            "bench": "scaling",
            "processes": configuration[0],
            "threads": configuration[1],
            "batch": args.batch,
            "images_per_second": round(statistics.median(values), 1),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_low": round(min(ratios), 3),
            "ratio_high": round(max(ratios), 3),
            "device": setup.device,
            "precision": setup.precision,
            **versions(),
        }
        store(row, args.results)


if __name__ == "__main__":
    main()
