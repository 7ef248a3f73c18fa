"""Can the demo's digits be read, and does it end in time? The command of `make demo`, with several seeds, read by a classifier.

    python bench/demo.py
    python bench/demo.py --threads 1 --precision fp32 --busy 0.5

The command is taken from the Makefile. The classifier of bench/digits.py has learnt from real digits alone and has not seen these:
the aim is that it reads 95 % as the digit asked for, and 85 % of the worst class. `--busy` keeps one core busy for such a share of
the time. One row a training goes to --results.
"""

from __future__ import annotations

import argparse
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
from rows import keep

MAKEFILE = Path(__file__).parent.parent / "Makefile"


def command() -> list[str]:
    """The words of `leafwing` that `make demo` says."""
    found = re.search(r"^DEMO := (.+)$", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, "the Makefile has no line DEMO := ..."
    return shlex.split(found[1])


def replaced(words: list[str], options: dict[str, str]) -> list[str]:
    """The words with other values of some options, which are added where they are not there."""
    kept = [word for i, word in enumerate(words) if word not in options and (i == 0 or words[i - 1] not in options)]
    return [*kept, *(f"{name}={value}" for name, value in options.items())]


def busy(share: float) -> None:
    """Keeps a core busy for a share of every fifth of a second, for good."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while True:
        until = time.perf_counter() + 0.2 * share
        while time.perf_counter() < until:
            pass
        time.sleep(0.2 * (1 - share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", help="as for leafwing train")
    parser.add_argument("--precision", help="as for leafwing train")
    parser.add_argument(
        "--busy", type=float, default=0.0, help="share of the time for which one core is busy with something else"
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "demo.jsonl")
    given = parser.parse_args()
    asked = {f"--{name}": value for name in ("threads", "precision") if (value := getattr(given, name))}
    reader = Reader()
    other = multiprocessing.Process(target=busy, args=(given.busy,), daemon=True) if given.busy else None
    if other:
        other.start()
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            words = [
                sys.executable,
                "-m",
                "leafwing",
                *replaced(command(), asked),
                f"--seed={seed}",
                f"--out={folder}/run",
                "--json",
            ]
            started = time.perf_counter()
            ended = subprocess.run(words, capture_output=True, text=True, check=True)
            seconds = time.perf_counter() - started
            run, made = leafwing.Run(f"{folder}/run"), json.loads(ended.stdout)
            row = {
                "bench": "demo",
                "command": shlex.join(command()),
                "seed": seed,
                "images": made["images"],
                "done": made["done"],
                "training_seconds": made["seconds"],
                "seconds": round(seconds, 1),
                **judge(leafwing.Model.load(run), reader),
                "alarms": len(made["alarms"]),
                "busy": given.busy,
                **{key: getattr(run.settings.machine, key) for key in ("device", "precision", "threads")},
                **run.config["versions"],
            }
        keep(row, given.results)


if __name__ == "__main__":
    main()
