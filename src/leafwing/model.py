"""A trained generator as users see it: load it, ask what it can do, sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec, Game
from leafwing.recipes import did_you_mean
from leafwing.runs import Run

Labels = str | int | Sequence[str | int] | np.generic | Tensor | None
BLOCK = 64  # latents are drawn in blocks of this size, each with a generator of its own


class Model:
    """What a trained game can do, for everyone downstream.

    Args:
        game: a game whose networks are trained; the averaged copies are used where there are any.
        spec: what its samples look like.
        device: where it computes.
    """

    def __init__(self, game: Game, spec: DataSpec, device: str = "cpu") -> None:
        self.game, self.spec, self.device = game, spec, torch.device(device)
        self.images: int | None = None

    @classmethod
    def load(cls, run: str | Path | Run, *, images: int | None = None, device: str = "cpu", trust: bool = False) -> Model:
        """The model of a run: needs its folder alone, neither the data nor the cache.

        Args:
            run: the folder, its name or number under `runs`, or `last`.
            images: which checkpoint, by images shown; the newest if not said.
            device: cpu, cuda or mps.
            trust: execute the folder's `recipe.py` even when it is no installed recipe.

        Raises:
            LeafwingError: no such run or checkpoint, or its recipe is not trusted.
        """
        opened = run if isinstance(run, Run) else Run.open(run, trust=trust)
        game = opened.game()
        shown = opened.load_weights(game, images)
        model = cls(game, opened.spec, device)
        for module in game.modules().values():
            module.to(model.device).eval().requires_grad_(False)
        model.images = shown
        return model

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names that `sample` takes; empty when it takes none."""
        return self.spec.labels if "label" in self.game.abilities.conditions else ()

    def can(self, ability: str) -> bool:
        """Whether the game has an ability: `generate`, or a condition such as `label`."""
        abilities = self.game.abilities
        return ability in abilities.conditions or getattr(abilities, ability, None) is not None

    def latents(self, n: int, seed: int = 0) -> Tensor:
        """The first n latents of a seed, (n, size): the i-th one does not depend on n."""
        if n < 1:
            raise LeafwingError(f"n={n}: at least one sample is needed")
        if not 0 <= seed < 2**32:
            raise LeafwingError(f"seed={seed}: a seed is from 0 to {2**32 - 1}")
        prior = self.game.abilities.prior
        if prior is None:
            raise LeafwingError("this game draws no latents")
        blocks = [prior(BLOCK, "cpu", torch.Generator().manual_seed(seed << 24 | i)) for i in range(-(-n // BLOCK))]
        return torch.cat(blocks)[:n].to(self.device)

    def sample(self, n: int, seed: int = 0, *, label: Labels = None, batch: int = 64) -> Tensor:
        """n samples, the same for the same seed however many are asked for.

        Args:
            n: how many.
            seed: which ones.
            label: for a model with labels, one class by name or index, or n of them; classes in turn if not given.
            batch: how many the network makes at a time; other sizes give the same pictures up to rounding.

        Returns:
            float32 (n, channels, height, width) in [-1, 1]; for points (n, 2), in the data's units.

        Raises:
            LeafwingError: a label the model does not know, or a label where it takes none.
        """
        return self.generate(self.latents(n, seed), label=label, batch=batch)

    @torch.no_grad()
    def generate(self, latents: Tensor, *, label: Labels = None, batch: int = 64) -> Tensor:
        """The samples of given latents (n, size); see `sample`."""
        generate = self.game.abilities.generate
        if generate is None:
            raise LeafwingError("this game cannot generate")
        if batch < 1:
            raise LeafwingError(f"batch={batch}: at least one sample at a time is needed")
        classes = self.classes(label, len(latents))
        index = torch.tensor(classes, device=self.device) if classes else None
        nets = self.game.shown
        training = [part for net in vars(nets).values() for part in net.modules() if part.training]
        for net in vars(nets).values():
            net.eval()
        try:
            made = []
            for start in range(0, len(latents), batch):
                # Every pass is full, so that a picture does not depend on how many come with it: kernels round by shape.
                rows = torch.arange(start, start + batch, device=self.device).clamp(max=len(latents) - 1)
                some = generate(nets, latents[rows], None if index is None else index[rows])
                made.append(some[: len(latents) - start].float())
        finally:
            for part in training:
                part.training = True
        samples = torch.cat(made)
        return samples if self.spec.points else samples.clamp(-1, 1)

    def classes(self, label: Labels, n: int) -> list[int]:
        """Class indices for n samples; empty for a model without labels.

        Raises:
            LeafwingError: a label the model does not know, too few or too many, or one where it takes none.
        """
        if not self.labels:
            if label is not None:
                raise LeafwingError("this run has no labels: its recipe was trained without them, so sample without a label")
            return []
        if label is None:
            return [i % len(self.labels) for i in range(n)]
        if isinstance(label, Tensor | np.generic):
            label = label.tolist()
        if isinstance(label, str | int):
            return [self._class(label)] * n
        chosen = [self._class(one) for one in label]
        if len(chosen) != n:
            raise LeafwingError(f"{len(chosen)} labels for {n} samples: give one, or one for each")
        return chosen

    def _class(self, label: str | int) -> int:
        if isinstance(label, str) and label in self.labels:
            return self.labels.index(label)
        try:
            index = int(label)
        except ValueError:
            raise LeafwingError(f"no class {label!r}{did_you_mean(str(label), list(self.labels))}") from None
        if not 0 <= index < len(self.labels):
            raise LeafwingError(f"no class {index}: this run has {len(self.labels)}, 0 to {len(self.labels) - 1}")
        return index
