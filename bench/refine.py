"""Is what pictures show kept while their look changes? Trains `simgan`, `sigan` and `seuda` on sprites with several seeds.

    python bench/refine.py simgan sigan seuda --seeds 2
    python bench/refine.py seuda --seeds 3 --images 60k --option semantic=0

- `simgan`: synthetic sprites have white noise; real ones, of other scenes, a warm colour cast, and noise that is blurred. Rows hold
  KID against other real sprites (pixels averaged to 16x16), and the accuracy of a small network that tells real sprites from others
  (.5: it cannot), of the synthetic sprites (`before`) and of the refined ones (`after`); and the share of those that the oracle of
  sprites reads as the right shape. The row also says it of the real ones.
- `sigan`: sprites from their averages over 4x4 pixels; identity is the shape. Two runs a seed, with and without the contrastive
  loss. Rows hold the share of enlarged sprites whose shape the oracle reads right, and the accuracy of a verifier: a network, trained
  to classify the shapes of real sprites, whose features say whether two enlarged sprites have one shape (as many pairs that do as
  not, threshold chosen on real ones).
- `seuda`: masks of shapes for plain sprites; the new kind has inverted colours and noise. Rows hold the mean Dice coefficient of the
  six shapes on the new kind, segmented as it is (`without`) and translated first (`with`), and on plain sprites (`source`).

Pictures for measurements are never trained on. One row per run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

import leafwing
from leafwing.metrics.features import pixels
from leafwing.metrics.kid import kernel_distance
from leafwing.pixels import to_floats
from leafwing.progress import ConsoleReporter
from leafwing.sprites import agreement, read, scenes
from leafwing.sprites.draw import draw, segmentation
from leafwing.sprites.scene import Scenes
from rows import argument_parser, store

TEST = 648
TEST_SEED, TRAIN_SEED = 101, 202
CAST = (1.0, 0.85, 0.65)
RUNS: dict[str, dict[str, Any]] = {
    "simgan": {"images": "24k", "l1": 0.2, "width": 16, "batch": 8, "g_alone": 0.2, "lr_g": 5e-4},
    "sigan": {"images": "24k", "width": 16, "max_width": 64},
    "seuda": {"images": "24k", "width": 16, "blocks": 3, "batch": 8, "lr_g": 1e-3},
}
"""What differs from the recipes' defaults."""


@dataclass
class Training:
    """Trains a recipe several times in one folder.

    Args:
        recipe: its name.
        folder: where the runs are written.
        settings: arguments of `leafwing.train`.
    """

    recipe: str
    folder: Path
    settings: dict[str, Any]
    runs: list[leafwing.Run] = field(default_factory=list)

    def __call__(self, source: str, **further: Any) -> leafwing.Model:
        """The model of a new run; `further` are more arguments."""
        out, reporter = self.folder / f"run{len(self.runs)}", ConsoleReporter()
        run = leafwing.train(source, self.recipe, out=out, progress=reporter, **{**self.settings, **further})
        if run.stop_reason != "images":
            raise SystemExit("interrupted: no row is written for an incomplete training")
        self.runs.append(run)
        return leafwing.Model.load(run)


def floats(levels: np.ndarray) -> Tensor:
    """Images uint8 (n, size, size, 3) as networks see them: (n, 3, size, size) in [-1, 1]."""
    return to_floats(torch.from_numpy(levels).permute(0, 3, 1, 2))


def noise(shape: tuple[int, ...], seed: int, blur: bool = False) -> np.ndarray:
    """Normal noise (n, size, size, 3) of standard deviation 1, white or averaged over 3x3 pixels."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).permute(0, 3, 1, 2)
    if blur:
        values = 3 * conv2d(values, torch.full((3, 1, 3, 3), 1 / 9), padding=1, groups=3)
    return values.permute(0, 2, 3, 1).numpy()


def rounded(levels: np.ndarray) -> np.ndarray:
    """Rounded to the 256 levels of a saved image."""
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


def synthetic(sample: Scenes, size: int, seed: int) -> np.ndarray:
    """Sprites with white noise."""
    levels = draw(sample, size)
    return rounded(levels + 12 * noise(levels.shape, seed))


def real(sample: Scenes, size: int, seed: int) -> np.ndarray:
    """Sprites with a warm colour cast and blurred noise."""
    levels = draw(sample, size)
    return rounded(levels * CAST + 12 * noise(levels.shape, seed, blur=True))


def inverted(sample: Scenes, size: int, seed: int) -> np.ndarray:
    """Sprites in inverted colours with noise."""
    levels = draw(sample, size)
    return rounded(255.0 - levels + 12 * noise(levels.shape, seed))


def write(levels: np.ndarray, folder: Path) -> str:
    """Saves images as PNG files."""
    folder.mkdir()
    for number, image in enumerate(levels):
        Image.fromarray(image).save(folder / f"{number:05d}.png")
    return str(folder)


class Reader(nn.Module):
    """A small classifier of images (n, 3, size, size): logits (n, classes), and features (n, 64)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.ReLU())
        self.out = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x))


def train_reader(x: Tensor, y: Tensor, classes: int, seed: int, epochs: int = 8) -> Reader:
    """A `Reader` of labelled images."""
    torch.manual_seed(seed)
    net, order = Reader(classes), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=order).split(64):
            optimiser.zero_grad()
            cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
    return net.eval()


def gap(a: Tensor, b: Tensor, seed: int) -> dict[str, float]:
    """How different two sets of images are: KID, and the accuracy of a classifier on the half that it was not trained on."""
    kid, _ = kernel_distance(pixels(a)[0].numpy(), pixels(b)[0].numpy())
    train, test = (torch.cat([a[start::2], b[start::2]]) for start in (0, 1))
    labels = torch.arange(2).repeat_interleave(len(train) // 2)
    reader = train_reader(train, labels, 2, seed)
    with torch.no_grad():
        predicted = reader(test).argmax(1)
    return {"kid": round(kid, 5), "accuracy": round(float((predicted == labels).float().mean()), 4)}


def simgan(train: Training, size: int, seed: int) -> Iterator[dict[str, Any]]:
    first, second = scenes(4 * TEST, TRAIN_SEED), scenes(4 * TEST, TRAIN_SEED + 1)
    sources = (
        write(real(first, size, 1), train.folder / "real"),
        write(synthetic(second, size, 2), train.folder / "synthetic"),
    )
    model = train(sources[0], input=sources[1])
    sample, other = scenes(TEST, TEST_SEED), scenes(TEST, TEST_SEED + 1)
    target, before = floats(real(other, size, 3)), floats(synthetic(sample, size, 4))
    after = model.translate(before)
    yield {
        "before": {**gap(target, before, seed), "shape": agreement(read(before), sample)["shape"]},
        "after": {**gap(target, after, seed), "shape": agreement(read(after), sample)["shape"]},
        "real": {"shape": agreement(read(target), other)["shape"]},
    }


def verification(verifier: Reader, x: Tensor, y: Tensor, reference: tuple[Tensor, Tensor]) -> float:
    """Accuracy with which features say whether two images have one label, at the best threshold for the reference images."""

    def distances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            features = nn.functional.normalize(verifier.features(x))
        rows, columns = torch.triu_indices(len(x), len(x), 1)
        return torch.cdist(features, features)[rows, columns], (y[:, None] == y)[rows, columns]

    def accuracy(distance: Tensor, same: Tensor, threshold: float) -> float:
        near = distance < threshold
        return float((near[same].float().mean() + (~near[~same]).float().mean()) / 2)

    known = distances(*reference)
    threshold = max(np.linspace(0.02, 1.4, 70), key=lambda value: accuracy(*known, value))
    return accuracy(*distances(x, y), threshold)


def sigan(train: Training, size: int, seed: int) -> Iterator[dict[str, Any]]:
    sample, more = scenes(TEST, TEST_SEED), scenes(4 * TEST, TRAIN_SEED)
    images, shapes = floats(draw(sample, size)), torch.from_numpy(sample.shape)
    small = nn.functional.avg_pool2d(images, 4)
    verifier = train_reader(floats(draw(more, size)), torch.from_numpy(more.shape), 6, 0)
    for contrast in (None, 0.0):
        chosen = {} if contrast is None else {"contrast": contrast}
        enlarged = train("sprites", input="low", fields="label", **chosen).translate(small)
        yield {
            "contrastive": contrast is None,
            "shape": agreement(read(enlarged), sample)["shape"],
            "verification": round(verification(verifier, enlarged, shapes, (images, shapes)), 4),
            "l1": round(float((enlarged - images).abs().mean()), 4),
            "real": {"verification": round(verification(verifier, images, shapes, (images, shapes)), 4)},
        }


def dice(predicted: Tensor, masks: np.ndarray) -> float:
    """The mean over the six shapes of the Dice coefficient, over all pixels of all images."""
    chosen, truth = predicted.argmax(1).numpy(), masks
    return float(
        np.mean([2 * ((chosen == k) & (truth == k)).sum() / ((chosen == k).sum() + (truth == k).sum()) for k in range(1, 7)])
    )


def seuda(train: Training, size: int, seed: int) -> Iterator[dict[str, Any]]:
    source = write(inverted(scenes(4 * TEST, TRAIN_SEED), size, 1), train.folder / "inverted")
    model = train("sprites", fields="segmentation", input=source)
    sample = scenes(TEST, TEST_SEED)
    new, masks = floats(inverted(sample, size, 2)), segmentation(sample, size)
    with torch.no_grad():
        plain = dice(model.game.nets.S(floats(draw(sample, size))), masks)
        without = dice(model.game.nets.S(new), masks)
    yield {"source": round(plain, 4), "without": round(without, 4), "with": round(dice(model.translate(new), masks), 4)}


MEASUREMENTS = {"simgan": simgan, "sigan": sigan, "seuda": seuda}


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("recipes", nargs="+", choices=MEASUREMENTS, help="recipes to train")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--images", help="training length in images, such as 50k; by default that of RUNS")
    parser.add_argument("--size", type=int, default=32, help="image size in pixels")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--option", action="append", default=[], help="option of the recipe, name=value; repeatable")
    args = parser.parse_args()
    options = dict(option.split("=") for option in args.option)
    torch.set_num_threads(args.threads)
    for recipe in args.recipes:
        changes = RUNS[recipe] | ({"images": args.images} if args.images else {}) | options
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            with tempfile.TemporaryDirectory() as folder:
                settings = {"size": args.size, "seed": seed, "threads": args.threads, **changes}
                train, started = Training(recipe, Path(folder), settings), time.perf_counter()
                for result in MEASUREMENTS[recipe](train, args.size, seed):
                    run = train.runs[-1]
                    row = {
                        "bench": "refine",
                        "recipe": recipe,
                        "size": args.size,
                        "options": changes,
                        "seed": seed,
                        "images": run.records()[-1]["images"],
                        "seconds": round(time.perf_counter() - started, 1),
                        **result,
                        "precision": run.settings.machine.precision,
                        "threads": args.threads,
                        **run.config["versions"],
                    }
                    store(row, args.results)
                    started = time.perf_counter()


if __name__ == "__main__":
    main()
