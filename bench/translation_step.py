"""The training step of a translator compared with plain PyTorch: `pix2pix` at 128 px, with identical networks and the same step.

    python bench/translation_step.py

The baseline is written as public implementations are: eager fp32, NCHW, torch.optim.Adam, one backward pass for the real and the
fake pairs in D's step, then G's step on the same fakes with D's weights frozen, losses read after each step, and a DataLoader that
decodes a JPEG file of both halves for each pair. Each side runs in its own process; they take turns, and rows hold the medians of
the paired ratios. One row per batch size; the last line of output holds the ratios.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from alternate import Steps, interleave
from leafwing import recipes
from leafwing.data import load
from leafwing.engine import Engine, choose
from leafwing.game import DataSpec
from leafwing.loop import Training
from leafwing.machine import versions
from leafwing.networks import patch, unet
from rows import argument_parser, store
from step import jpegs, summarise

SIZE, L1 = 128, 100.0


class Pairs(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """JPEG files whose left half is the image and whose right half is the input, decoded and normalised on access."""

    def __init__(self, folder: str) -> None:
        self.files = sorted(Path(folder).glob("*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = Image.open(self.files[index]).convert("RGB")
        width, height = picture.size
        halves = [picture.crop((left, 0, left + width // 2, height)) for left in (0, width // 2)]
        resized = [half.resize((SIZE, SIZE), Image.Resampling.BICUBIC) for half in halves]
        image, condition = (torch.from_numpy(np.asarray(half).copy()).permute(2, 0, 1) for half in resized)
        return image.float().div(127.5).sub(1), condition.float().div(127.5).sub(1)


def plain(batch: int, width: int, folder: str, device: str) -> Iterator[None]:
    """One step per `next`."""
    torch.manual_seed(0)
    spec = DataSpec.images(SIZE, SIZE)
    g = unet.Generator(spec, 3, width).to(device)
    d = patch.Critic(spec, 3, 70, width).to(device)
    adam_g = torch.optim.Adam(g.parameters(), lr=2e-4, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(d.parameters(), lr=2e-4, betas=(0.5, 0.999))
    workers = 2 if device != "cpu" else 0  # on two cores one worker is slower than none
    loader = torch.utils.data.DataLoader(Pairs(folder), batch, shuffle=True, drop_last=True, num_workers=workers)

    def adversarial(scores: Tensor, target: float) -> Tensor:
        return binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))

    while True:
        for image, condition in loader:
            real, x = image.to(device), condition.to(device)
            fake = g(x)
            adam_d.zero_grad()
            loss_d = 0.5 * (adversarial(d(real, x), 1) + adversarial(d(fake.detach(), x), 0))
            loss_d.backward()
            adam_d.step()
            d.requires_grad_(False)
            adam_g.zero_grad()
            loss_g = adversarial(d(fake, x), 1) + L1 * (fake - real).abs().mean()
            loss_g.backward()
            adam_g.step()
            d.requires_grad_(True)
            loss_d.item(), loss_g.item()  # such programs print them
            yield


def baseline(batch: int, width: int, folder: str, device: str) -> Steps:
    """The training function of the baseline."""
    training = plain(batch, width, folder, device)

    def steps(count: int) -> None:
        for _ in range(count):
            next(training)

    return steps


def ours(batch: int, width: int, folder: str, device: str, **setup_options: Any) -> Steps:
    """The training function of `pix2pix`."""
    data = load(folder, size=SIZE, input="right")
    # All threads: the waiting process of the other side would count as another program.
    setup = choose(device, **{"threads": torch.get_num_threads(), **setup_options})
    torch.manual_seed(0)
    options = recipes.describe("pix2pix").resolve({"batch": batch, "width": width})
    game = recipes.build("pix2pix", recipes.find("pix2pix"), data.spec, options)
    training = Training(game, data.batches(0, setup.device), Engine(game, setup), images=10**12, batch=batch)

    def steps(count: int) -> None:
        until = training.clock.images + count * batch
        for _ in training.ticks(10**12, should_stop=lambda clock: clock.images >= until):
            pass

    return steps


def glue(folder: Path) -> str:
    """Pairs as pix2pix publishes them, from a folder of square JPEG files: each beside its mirror image."""
    for path in folder.glob("*.jpg"):
        picture = Image.open(path)
        pair = Image.new("RGB", (2 * picture.width, picture.height))
        pair.paste(picture, (0, 0))
        pair.paste(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (picture.width, 0))
        pair.save(path, quality=90)
    return str(folder)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--width", type=int, default=64, help="width of the networks")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="batch sizes")
    parser.add_argument("--repetitions", type=int, default=5, help="number of repetitions")
    parser.add_argument("--steps", type=int, default=8, help="training steps per repetition")
    args = parser.parse_args()
    setup = choose(args.device, threads=torch.get_num_threads())
    about = {"device": setup.device, "precision": setup.precision, "threads": setup.threads, **versions()}
    ratios = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = glue(Path(jpegs(Path(scratch) / "pairs", 256, 256)))
        for batch in args.batches:
            arguments = (batch, args.width, folder, setup.device)
            variants = {"baseline": (baseline, arguments), "leafwing": (ours, arguments)}
            timings = interleave(variants, setup.device, args.repetitions, args.steps)
            result = summarise(timings, batch * args.steps)
            row = {"bench": "translation_step", "recipe": "pix2pix", "size": SIZE, "batch": batch, "width": args.width}
            store({**row, **result, **about}, args.results)
            ratios[f"ratio_{batch}"] = result["ratio"]
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
