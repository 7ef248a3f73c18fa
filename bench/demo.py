"""Are the demo's digits legible, and does it end in time? The command of `make demo` with several seeds, read by a classifier.

    python bench/demo.py
    python bench/demo.py --threads 1 --precision fp32 --busy 0.5

The command is read from the Makefile. The classifier of bench/digits.py is trained on real digits only. Target: it recognises the
requested digit in 95% of the samples, and in 85% of the worst class. `--busy` keeps one core busy for a share of the time. One
row per training.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import leafwing
from digits import Reader, judge
from rows import argument_parser, store

MAKEFILE = Path(__file__).parent.parent / "Makefile"


def command() -> list[str]:
    """The arguments of `leafwing` in `make demo`."""
    match = re.search(r"^DEMO := (.+)$", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert match, "the Makefile has no line DEMO := ..."
    return shlex.split(match[1])


def with_options(arguments: list[str], options: dict[str, str]) -> list[str]:
    """Arguments with these options replaced or added."""
    remaining = [x for i, x in enumerate(arguments) if x not in options and (i == 0 or arguments[i - 1] not in options)]
    return [*remaining, *(f"{name}={value}" for name, value in options.items())]


def busy(share: float) -> None:
    """Keep a core busy for a share of every fifth of a second, without end."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while True:
        until = time.perf_counter() + 0.2 * share
        while time.perf_counter() < until:
            pass
        time.sleep(0.2 * (1 - share))


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--threads", help="as for leafwing train")
    parser.add_argument("--precision", help="as for leafwing train")
    parser.add_argument("--busy", type=float, default=0.0, help="share of the time for which another process uses one core")
    args = parser.parse_args()
    overrides = {f"--{name}": value for name in ("threads", "precision") if (value := getattr(args, name))}
    reader = Reader()
    load = multiprocessing.Process(target=busy, args=(args.busy,), daemon=True) if args.busy else None
    if load:
        load.start()
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            arguments = [
                sys.executable,
                "-m",
                "leafwing",
                *with_options(command(), overrides),
                f"--seed={seed}",
                f"--out={folder}/run",
                "--json",
            ]
            started = time.perf_counter()
            process = subprocess.run(arguments, capture_output=True, text=True, check=True)
            seconds = time.perf_counter() - started
            run, result = leafwing.Run(f"{folder}/run"), json.loads(process.stdout)
            row = {
                "bench": "demo",
                "command": shlex.join(command()),
                "seed": seed,
                "images": result["images"],
                "done": result["stop_reason"],
                "training_seconds": result["seconds"],
                "seconds": round(seconds, 1),
                **judge(leafwing.Model.load(run), reader),
                "alarms": len(result["alarms"]),
                "busy": args.busy,
                **{key: getattr(run.settings.machine, key) for key in ("device", "precision", "threads")},
                **run.config["versions"],
            }
        store(row, args.results)


if __name__ == "__main__":
    main()
