"""Four methods of translation, each measured on sprites beside the same training without what is special about it.

    python bench/zoo.py edges --seeds 3
    python bench/zoo.py attributes --seeds 3
    python bench/zoo.py stack --seeds 3
    python bench/zoo.py steerable --seeds 3

edges       `sggan_gradient`: outlines become filled sprites, and back; how well the edges of held-out sprites are kept at the shapes'
            border, with the gradient-sensitive loss and without.
attributes  `sggan_sparse`: attributes that the oracle reads after they were set, and those that stayed; with few labels and with all.
stack       `sgan_ct`: noisy sprites of a quarter of the size are denoised and enlarged; PSNR beside bicubic enlargement, and of
            the denoised images beside the noisy ones.
steerable   `sgan_mra`: outlines from two noisy contrasts; PSNR, and agreement of edges, with the steerable-filter term and without.

Each row is one training, by default with one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from leafwing import recipes
from leafwing.data import load
from leafwing.data.dataset import Dataset
from leafwing.engine import Engine, choose
from leafwing.fields import Attributes, Image
from leafwing.game import Batch, DataSpec
from leafwing.loop import Training
from leafwing.model import Model
from leafwing.parts.steerable import changes, gradient
from leafwing.sprites import ATTRIBUTE_NAMES, Reading, read
from rows import argument_parser, store

HELD_OUT = 600
EDITED = ("colour", "background")


def train(recipe: str, data: Dataset, images: int, seed: int, threads: int, options: Mapping[str, Any]) -> Model:
    """A model trained in memory."""
    torch.manual_seed(seed)
    game = recipes.build(recipe, recipes.find(recipe), data.spec, recipes.describe(recipe).resolve(dict(options)))
    engine = Engine(game, choose("cpu", "fp32", threads))
    training = Training(game, data.batches(seed), engine, images=images, batch=game.batch)
    for tick in training.ticks(max(1, images // 10)):
        print(tick.clock.images, {name: round(loss, 3) for name, loss in tick.losses.items()}, flush=True)
    return Model(game, data.spec, clock=training.clock)


def held_out(data: Dataset, n: int = HELD_OUT) -> Batch:
    """The first n samples of a data set, as networks see them."""
    return data.to_network(data.batch(0, 0, n))


def edited_data(size: int) -> Dataset:
    """Sprites with the attributes of `EDITED` only."""
    data = load("sprites", size=size, fields="label,attributes")
    columns = [i for i, name in enumerate(ATTRIBUTE_NAMES) if name.partition("=")[0] in EDITED]
    kind = Attributes(tuple(ATTRIBUTE_NAMES[i] for i in columns))
    attributes = np.ascontiguousarray(data.columns["attributes"][:, columns])
    spec = replace(data.spec, fields={**data.spec.fields, "attributes": kind})
    return replace(data, spec=spec, columns={**data.columns, "attributes": attributes})


def measure_attributes(images: int, seed: int, threads: int, size: int, options: dict[str, Any]) -> dict[str, Any]:
    """Random other values are set; the share that the oracle reads, and the shares of the parts that stay."""
    labelled = int(options.pop("labelled", 0))
    training, rest = edited_data(size).split(HELD_OUT)
    training = training.with_labelled_stream(labelled) if labelled else training
    model = train("sggan_sparse", training, images, seed, threads, options)
    batch, row = held_out(rest), {}
    before, generator = read(batch.image), torch.Generator().manual_seed(0)
    for part in EDITED:
        words = [name.partition("=")[2] for name in training.spec.attributes if name.startswith(f"{part}=")]
        now = torch.from_numpy(getattr(before.scenes, part))
        other = (now + torch.randint(1, len(words), now.shape, generator=generator)) % len(words)
        changed = torch.empty_like(batch.image)
        for index, word in enumerate(words):
            rows = other == index
            changed[rows] = model.translate(batch.image[rows], attributes={part: word})
        after = read(changed)
        row[f"{part}_set"] = share(after, getattr(after.scenes, part) == other.numpy())
        for kept in ("shape", "colour", "size", "place", "background"):
            if kept != part:
                row[f"{part}_keeps_{kept}"] = share(after, getattr(after.scenes, kept) == getattr(before.scenes, kept))
    return row


def share(reading: Reading, right: np.ndarray) -> float:
    """The share of images that the oracle reads with confidence, and as they should be."""
    return round(float((right & reading.sure).mean()), 4)
