"""What faults of a training look like, and what helps: the pictures of docs/guide/troubles.md, from short trainings.

    python bench/troubles.py clothes
    python bench/troubles.py clothes noise collapse

Each fault is a training with a wrong option or too few images. Its picture shows 16 of its samples at the left, and at the right those
of one training that went well, with the same seed; `progress` shows the latter's samples while it trained. The pictures go to
docs/guide/troubles. One row per training: its options, its length, and what the monitor said.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

import leafwing
from leafwing import cli, health
from leafwing.machine import versions
from leafwing.pictures import tile, to_pixels
from leafwing.quantities import show_count
from rows import argument_parser, store

FOLDER = Path(__file__).parent.parent / "docs" / "guide" / "troubles"
COMMON = "--size 32 --width 32 --batch 32 --threads 1 --seed 0"
"""Options of all trainings."""
GOOD = "--recipe dcgan --images 200k --ema 5k"
FAULTS = {
    "noise": "--recipe dcgan --images 8k --lr-g 2e-3 --lr-d 2e-5",
    "one-colour": "--recipe dcgan --images 1k",
    "checkerboard": "--recipe dcgan --images 16k",
    "collapse": "--recipe gan --images 12k --lr-g 0.1 --lr-d 0.1 --precision fp32",  # bf16 ends in infinite losses
}
STAGES = (10_000, 50_000, 200_000)
"""Images after which `progress` shows samples."""
SIDE, GAP, SCALE = 4, 16, 2
"""Samples in a row of a block, and rows; pixels between blocks; enlargement."""


def train(source: Path, options: str, folder: Path, results: Path, case: str) -> leafwing.Run:
    """Trains with these options, and stores a row."""
    status = cli.run(["train", str(source), *shlex.split(f"{COMMON} {options}"), "--out", str(folder)])
    assert status == 0, options
    run = leafwing.Run.open(folder)
    records = run.records()
    row = {"bench": "troubles", "case": case, "options": options, "images": records[-1]["images"]}
    row |= {"seconds": round(records[-1]["seconds"]), "losses": records[-1]["losses"], "health": describe_alarms(records)}
    store(row | versions(), results)
    return run


def describe_alarms(records: Sequence[Mapping[str, Any]]) -> str:
    """What the monitor said, and when."""
    alarms = [
        f"{alarm.symptom} ({show_count(alarm.since)} to {'the end' if alarm.until is None else show_count(alarm.until)})"
        for alarm in health.alarms(records)
    ]
    checks = sum("health" in record for record in records)
    return "; ".join(alarms) or f"{checks} {'check' if checks == 1 else 'checks'}, no alarms"


def block(run: leafwing.Run, checkpoint: int | None = None) -> Image.Image:
    """Samples of a run in a square, enlarged."""
    model = leafwing.Model.load(run.folder, checkpoint=checkpoint)
    image = tile(to_pixels(model.sample(SIDE * SIDE, seed=0)), SIDE, gap=0)
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.NEAREST)


def beside(blocks: Sequence[Image.Image], name: str) -> None:
    """Saves blocks beside each other."""
    width, height = blocks[0].size
    sheet = Image.new("RGB", (len(blocks) * (width + GAP) - GAP, height), "white")
    for i, image in enumerate(blocks):
        sheet.paste(image, (i * (width + GAP), 0))
    sheet.save(FOLDER / f"{name}.png", optimize=True)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", type=Path, help="folder of pictures")
    parser.add_argument("faults", nargs="*", metavar="fault", help=f"of {', '.join(FAULTS)} (default: all)")
    args = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        kept = "--save-every 5k --keep-every 1"
        good = train(args.source, f"{GOOD} {kept}", Path(folder) / "good", args.results, "good")
        reached = [int(path.stem.partition("-")[2]) for path in sorted(good.folder.glob("weights-*.safetensors"))]
        beside([block(good, min(n for n in reached if n >= 0.99 * stage)) for stage in STAGES], "progress")
        for name in args.faults or FAULTS:
            beside([block(train(args.source, FAULTS[name], Path(folder) / name, args.results, name)), block(good)], name)


if __name__ == "__main__":
    main()
