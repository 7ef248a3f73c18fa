"""Are the digits legible? Trains recipes on the built-in `digits` with several seeds and lets a classifier of real digits read them.

    python bench/digits.py cgan --seeds 5 --images 50k
    python bench/digits.py dcgan r3gan --seeds 3 --images 50k

The reader is a support vector machine with a radial kernel on the digits' own 8x8 pixels, trained on four fifths of the real
pictures; its accuracy on the other fifth, and the share of them it is confident of (probability of at least 0.9), stand beside every
result. Samples are brought back to 8x8 by averaging. With labels: the share of 1,000 samples (100 a class) read as the digit asked
for. Without: the share of 1,000 samples that the reader is confident of. One JSON line a run goes to --results.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

import leafwing
from leafwing.data import load
from leafwing.progress import Screen
from rows import keep

CONFIDENT = 0.9


def features(samples: torch.Tensor) -> np.ndarray:
    """(n, 1, 32, 32) or (n, 1, 16, 16) in [-1, 1] -> (n, 64): the 24x24 in the middle (12x12 of 16), averaged to 8x8."""
    samples = torch.nn.functional.interpolate(samples, (32, 32)) if samples.shape[-1] == 16 else samples
    return torch.nn.functional.avg_pool2d(samples[:, :, 4:28, 4:28], 3).flatten(1).numpy()


class Reader:
    """A classifier of real digits, with what it makes of real digits that it has not seen."""

    def __init__(self) -> None:
        data = load("digits")
        real = torch.from_numpy(data.pictures(range(len(data)))).permute(0, 3, 1, 2).float() / 127.5 - 1
        x, held, y, held_y = train_test_split(
            features(real), data.labels, test_size=0.2, random_state=0, stratify=data.labels
        )
        self.model = CalibratedClassifierCV(SVC(C=10.0), cv=5, ensemble=False).fit(x, y)
        chances = self.model.predict_proba(held)
        self.accuracy = float((chances.argmax(1) == held_y).mean())
        self.confident = float((chances.max(1) >= CONFIDENT).mean())

    def read(self, samples: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The digit read in each sample, and how sure the reader is of it."""
        chances = self.model.predict_proba(features(samples))
        return chances.argmax(1), chances.max(1)


def judge(model: leafwing.Model, reader: Reader, n: int = 100) -> dict[str, object]:
    """What the reader makes of a model's samples: n a class, or 10 n without classes."""
    if not model.labels:
        _, sure = reader.read(model.sample(10 * n, seed=1))
        return {"confident": round(float((sure >= CONFIDENT).mean()), 4)}
    asked = np.repeat(np.arange(10), n)
    read, sure = reader.read(model.sample(10 * n, seed=1, label=asked.tolist()))
    right = read == asked
    return {
        "read_as_asked": round(float(right.mean()), 4),
        "worst_class": round(float(right.reshape(10, n).mean(1).min()), 4),
        "each_class": right.reshape(10, n).mean(1).round(4).tolist(),
        "confident": round(float((sure >= CONFIDENT).mean()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--images", default="50k")
    parser.add_argument("--threads", type=int, help="CPU threads; one a core if not given")
    parser.add_argument("--precision", help="fp32 or bf16; what the hardware has if not given")
    parser.add_argument("--option", action="append", default=[], help="a recipe's option: name=value")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "digits.jsonl")
    given = parser.parse_args()
    options = dict(option.split("=") for option in given.option)
    reader = Reader()
    print(f"reader: {reader.accuracy:.1%} right and {reader.confident:.1%} confident on held-out real digits")
    for recipe in given.recipes:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                run = leafwing.train(
                    "digits",
                    recipe,
                    images=given.images,
                    seed=seed,
                    threads=given.threads,
                    precision=given.precision,
                    out=Path(folder, "run"),
                    progress=Screen(),
                    **options,
                )
                if run.done != "images":
                    raise SystemExit("stopped: no result is written for a training that was cut short")
                row = {
                    "bench": "digits",
                    "recipe": recipe,
                    "options": options,
                    "seed": seed,
                    "images": run.records()[-1]["images"],
                    "seconds": round(time.perf_counter() - started, 1),
                    **judge(leafwing.Model.load(run), reader),
                    "reader": {"accuracy": round(reader.accuracy, 4), "confident": round(reader.confident, 4)},
                    "precision": run.settings.machine.precision,
                    "threads": run.settings.machine.threads,
                    **run.config["versions"],
                }
            keep(row, given.results)


if __name__ == "__main__":
    main()
