"""A trained generator as users see it: load it, ask what it can do, sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec, Game, Nets
from leafwing.recipes import did_you_mean
from leafwing.runs import Run

Labels = str | int | Sequence[str | int] | np.generic | Tensor | None
PRECISIONS = ("fp32", "bf16")
BLOCK = 64  # latents are drawn in blocks of this size, each with a generator of its own; so many pass the networks at a time


class Model:
    """What a trained game can do, for everyone downstream.

    Args:
        game: a game whose networks are trained; the averaged copies are used where there are any.
        spec: what its samples look like.
        device: where it computes.
        precision: fp32, or bf16: the networks run under autocast, which is faster where the hardware computes it. Samples are
            float32 either way, and those of one seed are nearly the same in both: pictures differ by a grey level or two.
        compile: pass the networks through `torch.compile`, which takes long once and pays for many samples on some GPUs; where
            it fails, samples are made without, which is said once.
        say: told so.

    Raises:
        LeafwingError: another precision.
    """

    def __init__(
        self,
        game: Game,
        spec: DataSpec,
        device: str = "cpu",
        precision: str = "fp32",
        *,
        compile: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        if precision not in PRECISIONS:
            raise LeafwingError(f"no precision {precision!r}; choose from {', '.join(PRECISIONS)}")
        self.game, self.spec, self.device, self.precision = game, spec, torch.device(device), precision
        self.images: int | None = None
        self.say = say
        self.compiled = Nets(**{name: torch.compile(net) for name, net in vars(game.shown).items()}) if compile else None

    @classmethod
    def load(
        cls,
        run: str | Path | Run,
        *,
        images: int | None = None,
        device: str = "cpu",
        trust: bool = False,
        precision: str = "fp32",
        compile: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ) -> Model:
        """The model of a run: needs its folder alone, neither the data nor the cache.

        Args:
            run: the folder, its name or number under `runs`, or `last`.
            images: which checkpoint, by images shown; the newest if not said.
            device: cpu, cuda or mps.
            trust: execute the folder's `recipe.py` even when it is no installed recipe.
            precision: fp32, or bf16, which is faster where the hardware computes it.
            compile, say: see `Model`.

        Raises:
            LeafwingError: no such run or checkpoint, its recipe is not trusted, or another precision.
        """
        opened = run if isinstance(run, Run) else Run.open(run, trust=trust)
        game = opened.game()
        shown = opened.load_weights(game, images)
        model = cls(game, opened.spec, device, precision, compile=compile, say=say)
        for module in game.modules().values():
            module.to(model.device).eval().requires_grad_(False)
            if precision == "bf16":  # fp32 keeps torch's own layout, in which the samples of a seed have always been made
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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

    def sample(self, n: int, seed: int = 0, *, label: Labels = None, batch: int = BLOCK) -> Tensor:
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

    def generate(self, latents: Tensor, *, label: Labels = None, batch: int = BLOCK) -> Tensor:
        """The samples of given latents (n, size); see `sample`."""
        return torch.cat(list(self.stream(latents, label=label, batch=batch)))

    def encode(self, samples: Tensor, *, batch: int = BLOCK) -> Tensor:
        """The latents (n, size) of samples, pictures in [-1, 1]: what the game's encoder says.

        Raises:
            LeafwingError: this game has no encoder, or samples of another shape.
        """
        if self.game.abilities.encode is None:
            raise LeafwingError("this game has no encoder: `leafwing recipes` says which have one")
        return self._told(self.game.abilities.encode, samples, batch)

    def classify(self, samples: Tensor, *, batch: int = BLOCK) -> Tensor:
        """The probability of each of the data's classes, float32 (n, classes), for samples, pictures in [-1, 1].

        Raises:
            LeafwingError: this game has no classifier, or samples of another shape.
        """
        if self.game.abilities.classify is None:
            raise LeafwingError("this game has no classifier: `leafwing recipes` says which have one")
        return self._told(self.game.abilities.classify, samples, batch).softmax(1)

    @torch.no_grad()
    def _told(self, what: Callable[[Nets, Tensor], Tensor], samples: Tensor, batch: int) -> Tensor:
        """What networks in evaluation mode say of samples, `batch` at a time."""
        nets = self.game.shown
        if samples.shape[1:] != self.spec.shape:
            raise LeafwingError(f"samples of shape {tuple(samples.shape[1:])}: this run makes {self.spec.shape}")
        with evaluating(nets):
            return torch.cat([what(nets, part.to(self.device)).float() for part in samples.split(batch)])

    @property
    def codes(self) -> dict[str, int]:
        """The parts of a latent that have names, and how many numbers each has; empty where none has."""
        return {name: part.size for name, part in getattr(self.game.abilities.prior, "factors", {}).items()}

    def sweep(self, latents: Tensor, code: str, values: Sequence[float] | None = None) -> Tensor:
        """Each latent with one of its codes set to each of k values, all else as it was.

        Args:
            latents: (n, size).
            code: a name in `codes`.
            values: k numbers, for a code of one number; for a category every class in turn, so leave them out.

        Returns:
            (n * k, size), the first latent with all its values first.

        Raises:
            LeafwingError: no such code, or values where there can be none, or none where there must be.
        """
        if code not in self.codes:
            told = did_you_mean(code, list(self.codes)) if self.codes else ": the latents of this run have no named parts"
            raise LeafwingError(f"no code {code!r}{told}")
        size = self.codes[code]
        start = sum(list(self.codes.values())[: list(self.codes).index(code)])
        if (values is None) == (size == 1):
            need = "values, as in --sweep " + code + "=-1:1" if size == 1 else f"no values: it is one of {size} classes"
            raise LeafwingError(f"code {code} takes {need}")
        settings = torch.eye(size) if values is None else torch.tensor([[float(value)] for value in values])
        swept = latents.repeat_interleave(len(settings), 0)
        swept[:, start : start + size] = settings.repeat(len(latents), 1).to(swept)
        return swept

    def stream(self, latents: Tensor, *, label: Labels = None, batch: int = BLOCK) -> Iterator[Tensor]:
        """The samples of given latents (n, size) in blocks of `batch`, each made when it is asked for; see `sample`.

        However many there are, no more than a block need be in memory.
        """
        if self.game.abilities.generate is None:
            raise LeafwingError("this game cannot generate")
        if batch < 1:
            raise LeafwingError(f"batch={batch}: at least one sample at a time is needed")
        classes = self.classes(label, len(latents))
        index = torch.tensor(classes, device=self.device) if classes else None

        def block(start: int) -> Tensor:
            # Every pass is full, so that a picture does not depend on how many come with it: kernels round by shape.
            rows = torch.arange(start, start + batch, device=self.device).clamp(max=len(latents) - 1)
            made = self._pass(latents[rows], None if index is None else index[rows])
            return made[: len(latents) - start]

        return (block(start) for start in range(0, len(latents), batch))

    @torch.no_grad()
    def _pass(self, latents: Tensor, label: Tensor | None) -> Tensor:
        """What the networks make of latents (n, size) and class indices (n,) in one pass, in evaluation mode."""
        generate, nets = self.game.abilities.generate, self.game.shown
        assert generate is not None
        with evaluating(nets), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            try:
                samples = generate(self.compiled or nets, latents, label).float()
            except Exception as error:
                if self.compiled is None:
                    raise
                self.compiled = None
                reason = str(error).strip().splitlines() or [type(error).__name__]
                self.say(f"the networks cannot be compiled, samples are made without: {reason[0]}")
                samples = generate(nets, latents, label).float()
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


@contextmanager
def evaluating(nets: Nets) -> Iterator[None]:
    """Around what networks do in evaluation mode; after it each part is as it was."""
    training = [part for net in vars(nets).values() for part in net.modules() if part.training]
    for net in vars(nets).values():
        net.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
