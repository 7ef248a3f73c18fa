"""The user-facing interface of a trained game: loading, querying abilities, sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError, did_you_mean
from leafwing.game import DataSpec, Game, Nets
from leafwing.quantities import check_seed
from leafwing.runs import Run

Labels = str | int | Sequence[str | int] | np.generic | Tensor | None
Attributes = Mapping[str, str | int] | np.ndarray | Tensor | None
PRECISIONS = ("fp32", "bf16")
BOOLEANS = {"0": 0, "no": 0, "false": 0, "1": 1, "yes": 1, "true": 1}
BLOCK = 64  # latents are drawn in blocks of this size, each with its own random generator; also the default batch size


class Model:
    """A trained game for downstream use.

    Args:
        game: a game with trained networks; EMAs are used where available.
        spec: the format of its samples.
        device: device to compute on.
        precision: fp32, or bf16: the networks run under autocast, which is faster with hardware support. Samples are float32 in
            both cases and nearly the same for one seed: images differ by a grey level or two.
        compile: use `torch.compile`, which is slow to start and worthwhile for many samples on some GPUs; on failure samples are
            generated without it, with one warning.
        say: callback for that warning.
        combinations: class (or -1) and attributes of real samples, one row each; see `Model.attribute_rows`.

    Raises:
        LeafwingError: unknown precision.
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
        combinations: Sequence[Sequence[int]] = (),
    ) -> None:
        if precision not in PRECISIONS:
            raise LeafwingError(f"no precision {precision!r}; choose from {', '.join(PRECISIONS)}")
        self.game, self.spec, self.device, self.precision = game, spec, torch.device(device), precision
        self.images: int | None = None
        self.say, self.combinations = say, np.array(combinations, np.int64)
        self.compiled = (
            Nets(**{name: torch.compile(net) for name, net in vars(game.sampling_nets).items()}) if compile else None
        )

    @classmethod
    def load(
        cls,
        run: str | Path | Run,
        *,
        checkpoint: int | str | None = None,
        device: str = "cpu",
        trust: bool = False,
        precision: str = "fp32",
        compile: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ) -> Model:
        """Loads the model of a run from its folder, without the data or the cache.

        Args:
            run: the folder, its name or number under `runs`, or `last`.
            checkpoint: images shown (50_000, 50k), `last` (None) or `best`.
            device: cpu, cuda or mps.
            trust: execute the folder's `recipe.py` even if it is not an installed recipe.
            precision: fp32, or bf16, which is faster with hardware support.
            compile, say: see `Model`.

        Raises:
            LeafwingError: no such run or checkpoint, untrusted recipe, or unknown precision.
        """
        opened = run if isinstance(run, Run) else Run.open(run, trust=trust)
        game = opened.build_game()
        images = opened.load_weights(game, opened.resolve_checkpoint(checkpoint))
        model = cls(game, opened.spec, device, precision, compile=compile, say=say, combinations=opened.combinations)
        for module in game.modules().values():
            module.to(model.device).eval().requires_grad_(False)
            if precision == "bf16":  # fp32 keeps torch's default layout, so that the samples of a seed do not change
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.images = images
        return model

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names that `sample` accepts; empty if it is not class-conditional."""
        return self.spec.labels if "label" in self.game.abilities.conditions else ()

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attribute names that `sample` accepts, in order; empty if it is not conditioned on attributes."""
        return self.spec.attributes if "attributes" in self.game.abilities.conditions else ()

    def can(self, ability: str) -> bool:
        """Whether the game has an ability: `generate`, or a condition such as `label` or `attributes`."""
        abilities = self.game.abilities
        return ability in abilities.conditions or getattr(abilities, ability, None) is not None

    def latents(self, n: int, seed: int = 0) -> Tensor:
        """The first n latents of a seed, (n, size): the i-th one does not depend on n."""
        if n < 1:
            raise LeafwingError(f"n={n}: must be at least 1")
        check_seed(seed)
        prior = self.game.abilities.prior
        if prior is None:
            raise LeafwingError("this game has no latent prior")
        blocks = [prior(BLOCK, "cpu", torch.Generator().manual_seed(seed << 24 | i)) for i in range(-(-n // BLOCK))]
        return torch.cat(blocks)[:n].to(self.device)

    def sample(
        self, n: int, seed: int = 0, *, label: Labels = None, attributes: Attributes = None, batch: int = BLOCK
    ) -> Tensor:
        """Generates n samples; the i-th sample of a seed does not depend on n.

        Args:
            n: number of samples.
            seed: random seed.
            label: for a class-conditional model, one class by name or index, or n of them; default: all classes in turn.
            attributes: for a model with attributes, some of them by name, or all of them per sample (n, attributes); unspecified ones
                follow the real data, see `attribute_rows`.
            batch: batch size; it affects samples only by rounding.

        Returns:
            float32 (n, channels, height, width) in [-1, 1]; for points (n, 2), in the data's units.

        Raises:
            LeafwingError: unknown label or attribute, or one for an unconditional model.
        """
        latents, classes = self.latents(n, seed), self.classes(label, n)
        rows = self.attribute_rows(attributes, n, seed, classes)
        return self.generate(latents, label=classes or None, attributes=rows if rows.size else None, batch=batch)

    def generate(
        self, latents: Tensor, *, label: Labels = None, attributes: Attributes = None, batch: int = BLOCK
    ) -> Tensor:
        """Samples from latents (n, size); see `sample`. Unspecified attributes are those of seed 0."""
        return torch.cat(list(self.stream(latents, label=label, attributes=attributes, batch=batch)))

    def encode(self, samples: Tensor, *, batch: int = BLOCK) -> Tensor:
        """The encoder's latents (n, size) of samples, images in [-1, 1].

        Raises:
            LeafwingError: no encoder, or samples of the wrong shape.
        """
        if self.game.abilities.encode is None:
            raise LeafwingError("this game has no encoder: see `leafwing recipes`")
        return self._in_batches(self.game.abilities.encode, samples, batch)

    def classify(self, samples: Tensor, *, batch: int = BLOCK) -> Tensor:
        """Class probabilities, float32 (n, classes), of samples, images in [-1, 1].

        Raises:
            LeafwingError: no classifier, or samples of the wrong shape.
        """
        if self.game.abilities.classify is None:
            raise LeafwingError("this game has no classifier: see `leafwing recipes`")
        return self._in_batches(self.game.abilities.classify, samples, batch).softmax(1)

    def judge(self, samples: Tensor, *, label: Labels = None, attributes: Attributes = None, batch: int = BLOCK) -> Tensor:
        """The discriminator's scores (n,) of samples, images in [-1, 1]: higher is more realistic; the scale depends on the game.

        Args:
            samples: (n, channels, height, width); for points (n, 2).
            label: for a class-conditional model, the class that the samples should belong to; see `sample`.
            attributes: likewise for attributes.
            batch: batch size.

        Raises:
            LeafwingError: no discriminator of single samples, or samples of the wrong shape.
        """
        judge = self.game.abilities.judge
        if judge is None:
            raise LeafwingError("this game has no critic that scores single samples: see `leafwing recipes`")
        conditions = self.conditions(len(samples), label, attributes)
        score = judge if conditions else lambda nets, x: judge(nets, x, None)
        return self._in_batches(score, samples, batch, *conditions)

    @torch.no_grad()
    def _in_batches(self, function: Callable[..., Tensor], samples: Tensor, batch: int, *conditions: Tensor) -> Tensor:
        """Applies a function of the networks, in evaluation mode, to samples and conditions in batches."""
        nets = self.game.sampling_nets
        if samples.shape[1:] != self.spec.shape:
            raise LeafwingError(
                f"samples of shape {tuple(samples.shape[1:])}: those of this run have shape {self.spec.shape}"
            )
        with eval_mode(nets):
            parts = zip(*(tensor.split(batch) for tensor in (samples, *conditions)), strict=True)
            return torch.cat([function(nets, part.to(self.device), *rows).float() for part, *rows in parts])

    @property
    def codes(self) -> dict[str, int]:
        """The named parts of a latent and their dimensions; empty if there are none."""
        return {name: part.size for name, part in getattr(self.game.abilities.prior, "factors", {}).items()}

    def sweep(self, latents: Tensor, code: str, values: Sequence[float] | None = None) -> Tensor:
        """Each latent with one of its codes set to each of k values, all else unchanged.

        Args:
            latents: (n, size).
            code: a name in `codes`.
            values: k numbers for a continuous code; None for a categorical code, which takes all classes in turn.

        Returns:
            (n * k, size), the first latent with all its values first.

        Raises:
            LeafwingError: no such code, values for a categorical code, or none for a continuous one.
        """
        if code not in self.codes:
            hint = did_you_mean(code, list(self.codes)) if self.codes else ": the latents of this run have no named parts"
            raise LeafwingError(f"no code {code!r}{hint}")
        size = self.codes[code]
        start = sum(list(self.codes.values())[: list(self.codes).index(code)])
        if (values is None) == (size == 1):
            hint = (
                f"needs values, as in --sweep {code}=-1:1" if size == 1 else f"takes no values: it is one of {size} classes"
            )
            raise LeafwingError(f"code {code} {hint}")
        settings = torch.eye(size) if values is None else torch.tensor([[float(value)] for value in values])
        swept = latents.repeat_interleave(len(settings), 0)
        swept[:, start : start + size] = settings.repeat(len(latents), 1).to(swept)
        return swept

    def stream(
        self, latents: Tensor, *, label: Labels = None, attributes: Attributes = None, batch: int = BLOCK
    ) -> Iterator[Tensor]:
        """Samples from latents (n, size) as an iterator over blocks of `batch`, generated lazily; see `generate`.

        Only one block needs to be in memory at a time.
        """
        if self.game.abilities.generate is None:
            raise LeafwingError("this game cannot generate")
        if batch < 1:
            raise LeafwingError(f"batch={batch}: must be at least 1")
        conditions = self.conditions(len(latents), label, attributes)

        def block(start: int) -> Tensor:
            # Every pass is padded to a full batch, because kernels round depending on the shape.
            rows = torch.arange(start, start + batch, device=self.device).clamp(max=len(latents) - 1)
            samples = self._forward(
                latents[rows], *([condition[rows] for condition in conditions] if conditions else [None])
            )
            return samples[: len(latents) - start]

        return (block(start) for start in range(0, len(latents), batch))

    def conditions(self, n: int, label: Labels = None, attributes: Attributes = None) -> list[Tensor]:
        """The conditions of n samples as input tensors of the networks, in the order of `Abilities.conditions`.

        Args:
            n: number of samples.
            label, attributes: see `sample`; unspecified attributes are those of seed 0.

        Returns:
            For labels int64 (n,), for attributes float32 (n, attributes); empty for an unconditional model.
        """
        classes = self.classes(label, n)
        rows = self.attribute_rows(attributes, n, 0, classes)
        tensors = {
            "label": torch.tensor(classes, device=self.device),
            "attributes": torch.tensor(rows, dtype=torch.float32, device=self.device),
        }
        return [tensors[name] for name in self.game.abilities.conditions]

    def render(self, latents: Tensor, *conditions: Tensor) -> Tensor:
        """Samples from latents (n, size) in one differentiable pass, not clipped to [-1, 1].

        Args:
            latents: as many as fit into memory with their activations.
            conditions: see `Model.conditions`; default: all classes in turn.
        """
        generate, nets = self.game.abilities.generate, self.game.sampling_nets
        if generate is None:
            raise LeafwingError("this game cannot generate")
        with eval_mode(nets):
            return generate(nets, latents, *(conditions or tuple(self.conditions(len(latents))) or (None,))).float()

    @torch.no_grad()
    def _forward(self, latents: Tensor, *conditions: Tensor | None) -> Tensor:
        """Samples from latents (n, size) and conditions in one forward pass in evaluation mode."""
        generate, nets = self.game.abilities.generate, self.game.sampling_nets
        assert generate is not None
        with eval_mode(nets), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            try:
                samples = generate(self.compiled or nets, latents, *conditions).float()
            except Exception as error:
                if self.compiled is None:
                    raise
                self.compiled = None
                reason = str(error).strip().splitlines() or [type(error).__name__]
                self.say(f"the networks cannot be compiled, so sampling continues without compilation: {reason[0]}")
                samples = generate(nets, latents, *conditions).float()
        return samples if self.spec.points else samples.clamp(-1, 1)

    def classes(self, label: Labels, n: int) -> list[int]:
        """Class indices for n samples; empty for a model without labels.

        Raises:
            LeafwingError: unknown label, wrong number of labels, or a label for an unconditional model.
        """
        if not self.labels:
            if label is not None:
                raise LeafwingError("this run has no labels: its recipe is not class-conditional, so sample without a label")
            return []
        if label is None:
            return [i % len(self.labels) for i in range(n)]
        if isinstance(label, Tensor | np.generic):
            label = label.tolist()
        if isinstance(label, str | int):
            return [self._class(label)] * n
        classes = [self._class(name) for name in label]
        if len(classes) != n:
            raise LeafwingError(f"{len(classes)} labels for {n} samples: give one, or one per sample")
        return classes

    def attribute_rows(self, attributes: Attributes, n: int, seed: int = 0, classes: Sequence[int] = ()) -> np.ndarray:
        """The attributes of n samples, uint8 (n, attributes), zeros and ones; (n, 0) for a model without attributes.

        Unspecified attributes follow the real data: each sample takes all attributes of a random real sample that matches the given
        ones, and the class if the model has one. If there is none, those of any real sample are taken and modified. The choice depends
        only on the seed and the sample's number. A model without real combinations draws them at random.

        Args:
            attributes: some by name, `{"smiling": 1, "colour": "red"}`; or all of them per sample (n, attributes); or None.
            n: number of samples.
            seed: random seed.
            classes: their class indices; empty for a model without labels.

        Raises:
            LeafwingError: unknown attribute or value, attributes for a model without them, or a wrong shape.
        """
        if not self.attributes:
            if attributes is not None and len(attributes):
                raise LeafwingError(
                    "this run has no attributes to set: its recipe is not conditioned on any; sample without them"
                )
            return np.zeros((n, 0), np.uint8)
        if isinstance(attributes, Tensor | np.ndarray):
            return self._all_attributes(attributes, n)
        fixed: dict[int, int] = {}
        for name, value in (attributes or {}).items():
            fixed |= self._attribute(name, value)
        columns, values = list(fixed), list(fixed.values())
        random = np.random.Philox(np.random.SeedSequence((seed, 0))).random_raw(n).astype(np.uint64)
        combinations = self.combinations if len(self.combinations) else self._random_combinations(seed)
        rows = np.empty((n, len(self.attributes)), np.uint8)
        class_of = np.asarray(classes, np.int64) if len(classes) else np.full(n, -1)
        for index in np.unique(class_of):
            members, same_class = class_of == index, combinations[combinations[:, 0] == index]
            pool = (same_class if index >= 0 and len(same_class) else combinations)[:, 1:]
            matches = pool[(pool[:, columns] == values).all(axis=1)]
            if not len(matches):
                matches = pool.copy()
                matches[:, columns] = values
            rows[members] = matches[random[members] % np.uint64(len(matches))]
        return rows

    def _all_attributes(self, attributes: Tensor | np.ndarray, n: int) -> np.ndarray:
        """Fully specified attributes, checked."""
        rows = attributes.cpu().numpy() if isinstance(attributes, Tensor) else attributes
        shape = (n, len(self.attributes))
        if rows.shape != shape or not np.isin(rows, (0, 1)).all():
            raise LeafwingError(
                f"attributes of shape {rows.shape}: {n} samples need zeros and ones of shape {shape}, in the order "
                f"{', '.join(self.attributes)}"
            )
        return rows.astype(np.uint8)

    def _attribute(self, name: str, value: str | int) -> dict[int, int]:
        """Index and value of an attribute; for a category those of all its one-hot attributes."""
        text = str(value)
        columns = {item.partition("=")[2]: i for i, item in enumerate(self.attributes) if item.startswith(f"{name}=")}
        if columns:
            if text not in columns:
                raise LeafwingError(f"{name}={value}: {name} has no value {text!r}{did_you_mean(text, columns)}")
            return {i: int(item == text) for item, i in columns.items()}
        if name not in self.attributes:
            names = dict.fromkeys(item.partition("=")[0] for item in self.attributes)
            raise LeafwingError(f"no attribute {name!r}{did_you_mean(name, names)}")
        if text.lower() not in BOOLEANS:
            raise LeafwingError(f"{name}={value}: {name} must be 0 or 1 (no or yes)")
        return {self.attributes.index(name): BOOLEANS[text.lower()]}

    def _random_combinations(self, seed: int) -> np.ndarray:
        """Random combinations in the format of `combinations`: one value per category, 0 or 1 for other attributes."""
        n, count = 512, len(self.attributes)
        bits = np.random.Philox(np.random.SeedSequence((seed, 1))).random_raw(n * count).astype(np.uint64).reshape(n, count)
        categories = [name.partition("=")[0] for name in self.attributes]
        rows = np.full((n, 1 + count), -1, np.int64)
        for category in dict.fromkeys(categories):
            columns = [i for i, name in enumerate(categories) if name == category]
            if "=" in self.attributes[columns[0]]:
                rows[:, [1 + i for i in columns]] = np.eye(len(columns), dtype=np.int64)[bits[:, columns].argmax(axis=1)]
            else:
                rows[:, 1 + columns[0]] = bits[:, columns[0]] >> np.uint64(63)
        return rows

    def _class(self, label: str | int) -> int:
        if isinstance(label, str) and label in self.labels:
            return self.labels.index(label)
        try:
            index = int(label)
        except ValueError:
            raise LeafwingError(f"no class {label!r}{did_you_mean(str(label), list(self.labels))}") from None
        if not 0 <= index < len(self.labels):
            raise LeafwingError(f"no class {index}: this run has {len(self.labels)} classes, 0 to {len(self.labels) - 1}")
        return index


@contextmanager
def eval_mode(nets: Nets) -> Iterator[None]:
    """Puts networks into evaluation mode and restores the mode of each module afterwards."""
    training = [module for net in vars(nets).values() for module in net.modules() if module.training]
    for net in vars(nets).values():
        net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
