"""Are the digits legible? Trains recipes on the built-in `digits` with several seeds; a classifier of real digits reads the samples.

    python bench/digits.py cgan --seeds 5 --images 50k
    python bench/digits.py dcgan r3gan --seeds 3 --images 50k

The reader is a support vector machine with a radial kernel on 8x8 pixels, trained on four fifths of the real images. Rows include
its accuracy on the other fifth, and the share of those that it classifies with a probability of at least 0.9. Samples are averaged
to 8x8. With labels, rows hold the share of 1,000 samples (100 per class) read as the requested digit; without, the share of 1,000
samples that the reader is confident of. One row per run.
"""

from __future__ import annotations

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
from leafwing.pixels import to_floats
from leafwing.progress import ConsoleReporter
from rows import argument_parser, store

CONFIDENT = 0.9


def features(samples: torch.Tensor) -> np.ndarray:
    """(n, 1, 32, 32) or (n, 1, 16, 16) in [-1, 1] -> (n, 64): the central 24x24 (12x12 of 16), averaged to 8x8."""
    samples = torch.nn.functional.interpolate(samples, (32, 32)) if samples.shape[-1] == 16 else samples
    return torch.nn.functional.avg_pool2d(samples[:, :, 4:28, 4:28], 3).flatten(1).numpy()


class Reader:
    """A classifier of real digits, with its accuracy and confidence on held-out ones."""

    def __init__(self) -> None:
        data = load("digits")
        real = to_floats(torch.from_numpy(data.pictures(range(len(data)))).permute(0, 3, 1, 2))
        x, x_test, y, y_test = train_test_split(
            features(real), data.labels, test_size=0.2, random_state=0, stratify=data.labels
        )
        self.model = CalibratedClassifierCV(SVC(C=10.0), cv=5, ensemble=False).fit(x, y)
        probabilities = self.model.predict_proba(x_test)
        self.accuracy = float((probabilities.argmax(1) == y_test).mean())
        self.confident = float((probabilities.max(1) >= CONFIDENT).mean())

    def read(self, samples: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The predicted digit of each sample (n,), and its probability (n,)."""
        probabilities = self.model.predict_proba(features(samples))
        return probabilities.argmax(1), probabilities.max(1)


def judge(model: leafwing.Model, reader: Reader, n: int = 100) -> dict[str, object]:
    """Results of the reader on a model's samples: n per class, or 10 n without classes."""
    if not model.labels:
        _, confidences = reader.read(model.sample(10 * n, seed=1))
        return {"confident": round(float((confidences >= CONFIDENT).mean()), 4)}
    requested = np.repeat(np.arange(10), n)
    digits_read, confidences = reader.read(model.sample(10 * n, seed=1, label=requested.tolist()))
    correct = digits_read == requested
    return {
        "read_as_asked": round(float(correct.mean()), 4),
        "worst_class": round(float(correct.reshape(10, n).mean(1).min()), 4),
        "each_class": correct.reshape(10, n).mean(1).round(4).tolist(),
        "confident": round(float((confidences >= CONFIDENT).mean()), 4),
    }


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("recipes", nargs="+", help="recipes to train")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--images", default="50k", help="training length in images, such as 50k")
    parser.add_argument("--threads", type=int, help="CPU threads; by default one per core")
    parser.add_argument("--precision", help="fp32 or bf16; by default bf16 where the hardware supports it")
    parser.add_argument("--option", action="append", default=[], help="option of the recipe, name=value; repeatable")
    args = parser.parse_args()
    options = dict(option.split("=") for option in args.option)
    reader = Reader()
    print(f"reader: {reader.accuracy:.1%} right and {reader.confident:.1%} confident on held-out real digits")
    for recipe in args.recipes:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                run = leafwing.train(
                    "digits",
                    recipe,
                    images=args.images,
                    seed=seed,
                    threads=args.threads,
                    precision=args.precision,
                    out=Path(folder, "run"),
                    progress=ConsoleReporter(),
                    **options,
                )
                if run.stop_reason != "images":
                    raise SystemExit("interrupted: no row is written for an incomplete training")
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
            store(row, args.results)


if __name__ == "__main__":
    main()
