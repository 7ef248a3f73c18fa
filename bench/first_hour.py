"""How long a new user waits: from wrong words to the message, from `train` to its first line, and for the doctor's report.

    python bench/first_hour.py photos

Each command runs in a process of its own, as from a terminal, in a temporary folder with an empty cache. `seconds` is what a user
waits, `cpu` the processor time, which other programs hardly change; `torch` says whether it was imported. Prints a table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from leafwing.tables import align_columns
from rows import Help

CODE = "import sys; from leafwing.cli import run; code = run(sys.argv[1:]); print('torch' in sys.modules); sys.exit(code)"
RUN = "train digits --recipe cgan --size 16 --width 8 --images 64 --threads 1 --precision fp32 --out run"
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
"""Command lines with a mistake; `{source}` is the folder of images, `run` a run of digits."""
REFUSED = ("train {source} --recipe cgan", "train {source} --recipe pix2pix")
"""Recipes that need more than these images."""
FIRST = "train {source} --images 64"
LONGEST = 90
"""Characters of an answer that are shown."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("source", type=Path, help="folder of images without labels")
    args = parser.parse_args()
    source = str(args.source.resolve())
    rows = [("seconds", "cpu", "torch", "code", "command", "answer")]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"LEAFWING_CACHE": str(Path(folder) / "cache"), "PYTHONUNBUFFERED": "1"}

        def start(line: str) -> subprocess.Popen[str]:
            words = line.format(source=source).split()
            return subprocess.Popen(
                [sys.executable, "-c", CODE, *words], cwd=folder, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip

        def add(line: str, seconds: float, cpu: str, torch: str, code: str, answer: str) -> None:
            answer = answer.replace(source, args.source.name)
            answer = answer if len(answer) <= LONGEST else f"{answer[: LONGEST - 3]}..."
            rows.append((f"{seconds:.2f}", cpu, torch, code, line.format(source=args.source.name), answer))

        def measure(line: str) -> None:
            started, before = time.perf_counter(), children_time()
            child = start(line)
            output, errors = child.communicate()
            seconds, cpu = time.perf_counter() - started, children_time() - before
            *printed, torch = output.splitlines()
            lines = [text for text in (*errors.splitlines(), *printed) if text.strip()]
            answer = next((text for text in lines if text.startswith("leafwing: ")), (printed or lines)[0])
            add(line, seconds, f"{cpu:.2f}", {"True": "yes"}.get(torch, "no"), str(child.returncode), answer)

        if start(RUN).wait():
            raise SystemExit(f"cannot train: {RUN}")
        for line in ("--help", *WRONG, *REFUSED):
            measure(line)
        started = time.perf_counter()
        child = start(FIRST)
        assert child.stderr is not None
        answer = child.stderr.readline().strip()
        add(FIRST, time.perf_counter() - started, "", "", "", answer)
        child.kill()
        child.communicate()
        measure("doctor {source}")
    print(align_columns(rows))


def children_time() -> float:
    """Processor time of all child processes that have ended, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
