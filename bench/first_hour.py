"""How long a new user waits: from wrong words to the message, from `train` to its first line and grid, for the report of the
doctor, and for `evaluate` and `compare` beside the training that they measure.

    python bench/first_hour.py photos

Each command runs in a process of its own, as from a terminal, in a temporary folder with an empty cache. `seconds` is what a user
waits, `cpu` the processor time, which other programs hardly change; `imports_torch` (not in the first rows) whether torch was
imported. One row per command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from leafwing.machine import versions
from rows import argument_parser, store

CODE = "import sys; from leafwing.cli import run; code = run(sys.argv[1:]); print('torch' in sys.modules); sys.exit(code)"
TRAIN = "train {source} --size 32 --width 16 --images 50k --threads 1 --out run"
EVALUATE = "evaluate run"
COMPARE = "compare {source} --recipes dcgan,lsgan --seeds 2 --images 20k --size 32 --set width=16 --jobs 1 --threads 1 --out report"
WRONG = (
    "train nowhere",
    "train {source} --recipe wgangp",
    "train {source} --widht 3",
    "train {source} --epochs 10",
    "train {source} --images many",
    "sample nothing",
    "sample run --label horse",
    "evaluate run --metrics fdi",
    "explore run interpolat",
    "compare {source} --recipes dcgn",
    "export run",
)
"""Command lines with a mistake; `{source}` is the folder of images, `run` a run."""
REFUSED = ("train {source} --recipe cgan", "train {source} --recipe pix2pix")
"""Recipes that need more than these images."""
LONGEST = 90
"""Characters of an answer that are stored."""
PAUSE = 0.02
"""Seconds between two looks for a file."""


class User:
    """Types commands in an empty folder.

    Args:
        folder: where.
        source: the folder of images.
        results: where rows are stored.
    """

    def __init__(self, folder: Path, source: Path, results: Path) -> None:
        self.folder, self.source, self.results = folder, source.resolve(), results
        self.environment = os.environ | {"LEAFWING_CACHE": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
        self.about = versions()

    def start(self, line: str) -> subprocess.Popen[str]:
        words = line.format(source=self.source).split()
        return subprocess.Popen(
            [sys.executable, "-c", CODE, *words], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def store(self, case: str, line: str, seconds: float, answer: str = "", **values: Any) -> None:
        answer = answer.replace(str(self.source), self.source.name)
        answer = answer if len(answer) <= LONGEST else f"{answer[: LONGEST - 3]}..."
        row = {"bench": "first_hour", "case": case, "command": line.format(source=self.source.name)}
        store({**row, "seconds": round(seconds, 2), **values, "answer": answer, **self.about}, self.results)

    def run(self, line: str) -> None:
        """Wait for the end of a command."""
        started, before = time.perf_counter(), children_time()
        child = self.start(line)
        output, errors = child.communicate()
        seconds, cpu = time.perf_counter() - started, children_time() - before
        *printed, torch = output.splitlines()
        lines = [text for text in (*errors.splitlines(), *printed) if text.strip()]
        answer = next((text for text in lines if text.startswith("leafwing: ")), (printed or lines)[0])
        self.store("command", line, seconds, answer, cpu=round(cpu, 2), imports_torch=torch == "True", code=child.returncode)

    def first(self, line: str) -> None:
        """Wait for the first line of a training and for its first grid of samples, and stop it."""
        started, child = time.perf_counter(), self.start(line)
        assert child.stderr is not None
        answer = child.stderr.readline().strip()
        self.store("first line", line, time.perf_counter() - started, answer)
        threading.Thread(target=child.communicate, daemon=True).start()  # a full pipe would stop the training
        while not any(self.folder.glob("runs/*/samples/*[1-9]*.png")):
            if child.poll() is not None:
                raise SystemExit(f"{line} ended before its first grid of samples")
            time.sleep(PAUSE)
        self.store("first grid", line, time.perf_counter() - started)
        child.kill()
        child.wait()


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", type=Path, help="folder of images without labels")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        user = User(Path(folder), args.source, args.results)
        user.run("--help")
        user.run("doctor {source}")
        user.first("train {source}")
        for line in (TRAIN, EVALUATE, COMPARE, *WRONG, *REFUSED):
            user.run(line)


def children_time() -> float:
    """Processor time of all child processes that have ended, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
