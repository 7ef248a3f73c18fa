"""A trained generator as users see it: load it, ask what it can do, sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
Attributes = Mapping[str, str | int] | np.ndarray | Tensor | None
PRECISIONS = ("fp32", "bf16")
ANSWERS = {"0": 0, "no": 0, "false": 0, "1": 1, "yes": 1, "true": 1}
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
        combinations: what real samples have together: of each its class, or -1, and its attributes; see `Model.attribute_rows`.

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
        combinations: Sequence[Sequence[int]] = (),
    ) -> None:
        if precision not in PRECISIONS:
            raise LeafwingError(f"no precision {precision!r}; choose from {', '.join(PRECISIONS)}")
        self.game, self.spec, self.device, self.precision = game, spec, torch.device(device), precision
        self.images: int | None = None
        self.say, self.combinations = say, np.array(combinations, np.int64)
        self.compiled = Nets(**{name: torch.compile(net) for name, net in vars(game.shown).items()}) if compile else None

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
        """The model of a run: needs its folder alone, neither the data nor the cache.

        Args:
            run: the folder, its name or number under `runs`, or `last`.
            checkpoint: images shown (50_000, 50k), `last` (None) or `best`.
            device: cpu, cuda or mps.
            trust: execute the folder's `recipe.py` even when it is no installed recipe.
            precision: fp32, or bf16, which is faster where the hardware computes it.
            compile, say: see `Model`.

        Raises:
            LeafwingError: no such run or checkpoint, its recipe is not trusted, or another precision.
        """
        opened = run if isinstance(run, Run) else Run.open(run, trust=trust)
        game = opened.game()
        shown = opened.load_weights(game, opened.shown(checkpoint))
        model = cls(game, opened.spec, device, precision, compile=compile, say=say, combinations=opened.combinations)
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

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names of the attributes that `sample` takes, in order; empty when it takes none."""
        return self.spec.attributes if "attributes" in self.game.abilities.conditions else ()

    def can(self, ability: str) -> bool:
        """Whether the game has an ability: `generate`, or a condition such as `label` or `attributes`."""
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

    def sample(
        self, n: int, seed: int = 0, *, label: Labels = None, attributes: Attributes = None, batch: int = BLOCK
    ) -> Tensor:
        """n samples, the same for the same seed however many are asked for.

        Args:
            n: how many.
            seed: which ones.
            label: for a model with labels, one class by name or index, or n of them; classes in turn if not given.
            attributes: for a model with attributes, some of them by name, or all of each sample (n, attributes); what is not given is
                as real samples have it, see `attribute_rows`.
            batch: how many the network makes at a time; other sizes give the same pictures up to rounding.

        Returns:
            float32 (n, channels, height, width) in [-1, 1]; for points (n, 2), in the data's units.

        Raises:
            LeafwingError: a label or an attribute the model does not know, or one where it takes none.
        """
        latents, classes = self.latents(n, seed), self.classes(label, n)
        rows = self.attribute_rows(attributes, n, seed, classes)
        return self.generate(latents, label=classes or None, attributes=rows if rows.size else None, batch=batch)

    def generate(
        self, latents: Tensor, *, label: Labels = None, attributes: Attributes = None, batch: int = BLOCK
    ) -> Tensor:
        """The samples of given latents (n, size); see `sample`. Attributes that are not given are those of seed 0."""
        return torch.cat(list(self.stream(latents, label=label, attributes=attributes, batch=batch)))

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

    def judge(self, samples: Tensor, *, label: Labels = None, attributes: Attributes = None, batch: int = BLOCK) -> Tensor:
        """The critic's scores (n,) of samples, pictures in [-1, 1]: higher where it takes them for real, on no common scale.

        Args:
            samples: (n, channels, height, width); for points (n, 2).
            label: for a model with labels, of which class they are to be; see `sample`.
            attributes: the same of attributes.
            batch: how many the critic sees at a time.

        Raises:
            LeafwingError: this game has no critic of single samples, or samples of another shape.
        """
        judge = self.game.abilities.judge
        if judge is None:
            raise LeafwingError(
                "this game has no critic that judges single samples: `leafwing recipes` says which recipes there are"
            )
        told = self.told(len(samples), label, attributes)
        return self._told(judge if told else lambda nets, x: judge(nets, x, None), samples, batch, *told)

    @torch.no_grad()
    def _told(self, what: Callable[..., Tensor], samples: Tensor, batch: int, *told: Tensor) -> Tensor:
        """What networks in evaluation mode say of samples, and of what is told of each, `batch` at a time."""
        nets = self.game.shown
        if samples.shape[1:] != self.spec.shape:
            raise LeafwingError(f"samples of shape {tuple(samples.shape[1:])}: this run makes {self.spec.shape}")
        with evaluating(nets):
            parts = zip(*(one.split(batch) for one in (samples, *told)), strict=True)
            return torch.cat([what(nets, part.to(self.device), *rows).float() for part, *rows in parts])

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

    def stream(
        self, latents: Tensor, *, label: Labels = None, attributes: Attributes = None, batch: int = BLOCK
    ) -> Iterator[Tensor]:
        """The samples of given latents (n, size) in blocks of `batch`, each made when it is asked for; see `generate`.

        However many there are, no more than a block need be in memory.
        """
        if self.game.abilities.generate is None:
            raise LeafwingError("this game cannot generate")
        if batch < 1:
            raise LeafwingError(f"batch={batch}: at least one sample at a time is needed")
        told = self.told(len(latents), label, attributes)

        def block(start: int) -> Tensor:
            # Every pass is full, so that a picture does not depend on how many come with it: kernels round by shape.
            rows = torch.arange(start, start + batch, device=self.device).clamp(max=len(latents) - 1)
            made = self._pass(latents[rows], *([one[rows] for one in told] if told else [None]))
            return made[: len(latents) - start]

        return (block(start) for start in range(0, len(latents), batch))

    def told(self, n: int, label: Labels = None, attributes: Attributes = None) -> list[Tensor]:
        """The conditions of n samples as the networks take them, one tensor each, in the order of `Abilities.conditions`."""
        classes = self.classes(label, n)
        vectors = self.attribute_rows(attributes, n, 0, classes)
        conditions = {
            "label": torch.tensor(classes, device=self.device),
            "attributes": torch.tensor(vectors, dtype=torch.float32, device=self.device),
        }
        return [conditions[name] for name in self.game.abilities.conditions]

    def render(self, latents: Tensor, *told: Tensor) -> Tensor:
        """The samples of latents (n, size) in one pass, through which gradients flow back to the latents; not cut to [-1, 1].

        Args:
            latents: as many as fit into memory at once, with what gradients need.
            told: the conditions, see `Model.told`; those of class 0, 1, ... in turn if not given.
        """
        generate, nets = self.game.abilities.generate, self.game.shown
        if generate is None:
            raise LeafwingError("this game cannot generate")
        with evaluating(nets):
            return generate(nets, latents, *(told or tuple(self.told(len(latents))) or (None,))).float()

    @torch.no_grad()
    def _pass(self, latents: Tensor, *told: Tensor | None) -> Tensor:
        """What the networks make of latents (n, size) and conditions, n of each, in one pass, in evaluation mode."""
        generate, nets = self.game.abilities.generate, self.game.shown
        assert generate is not None
        with evaluating(nets), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            try:
                samples = generate(self.compiled or nets, latents, *told).float()
            except Exception as error:
                if self.compiled is None:
                    raise
                self.compiled = None
                reason = str(error).strip().splitlines() or [type(error).__name__]
                self.say(f"the networks cannot be compiled, samples are made without: {reason[0]}")
                samples = generate(nets, latents, *told).float()
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

    def attribute_rows(self, attributes: Attributes, n: int, seed: int = 0, classes: Sequence[int] = ()) -> np.ndarray:
        """The attributes of n samples, uint8 (n, attributes), zeros and ones; (n, 0) for a model without attributes.

        What is not given is as real samples have it: each sample takes over all attributes of a real one that has what is given, and
        the class where the model takes one. Where the run knows no such sample, those of any are taken and changed. Which one is
        chosen by the seed and the sample's number alone. A model that knows no real sample tosses coins.

        Args:
            attributes: some by name, `{"smiling": 1, "colour": "red"}`; or all of each sample (n, attributes); or None.
            n: how many.
            seed: which ones.
            classes: their class indices; empty for a model without labels.

        Raises:
            LeafwingError: an attribute or a value that the model does not know, attributes where it takes none, or another shape.
        """
        if not self.attributes:
            if attributes is not None and len(attributes):
                raise LeafwingError(
                    "this run has no attributes: its recipe was trained without them, so sample without setting any"
                )
            return np.zeros((n, 0), np.uint8)
        if isinstance(attributes, Tensor | np.ndarray):
            return self._all_attributes(attributes, n)
        told: dict[int, int] = {}
        for name, value in (attributes or {}).items():
            told |= self._attribute(name, value)
        places, values = list(told), list(told.values())
        bits = np.random.Philox(np.random.SeedSequence((seed, 0))).random_raw(n).astype(np.uint64)
        known = self.combinations if len(self.combinations) else self._tossed(seed)
        found = np.empty((n, len(self.attributes)), np.uint8)
        own = np.asarray(classes, np.int64) if len(classes) else np.full(n, -1)
        for index in np.unique(own):
            mine, alike = own == index, known[known[:, 0] == index]
            pool = (alike if index >= 0 and len(alike) else known)[:, 1:]
            agreeing = pool[(pool[:, places] == values).all(axis=1)]
            if not len(agreeing):
                agreeing = pool.copy()
                agreeing[:, places] = values
            found[mine] = agreeing[bits[mine] % np.uint64(len(agreeing))]
        return found

    def _all_attributes(self, attributes: Tensor | np.ndarray, n: int) -> np.ndarray:
        """Attributes that were given in full, checked."""
        given = attributes.cpu().numpy() if isinstance(attributes, Tensor) else attributes
        if given.shape != (n, len(self.attributes)) or not np.isin(given, (0, 1)).all():
            raise LeafwingError(
                f"attributes of shape {given.shape}: {n} samples need zeros and ones of shape {(n, len(self.attributes))}, in the "
                f"order {', '.join(self.attributes)}"
            )
        return given.astype(np.uint8)

    def _attribute(self, name: str, value: str | int) -> dict[int, int]:
        """What setting an attribute means: its place and its value, for a category those of all of its values."""
        values = {one.partition("=")[2]: place for place, one in enumerate(self.attributes) if one.startswith(f"{name}=")}
        if values:
            if str(value) not in values:
                raise LeafwingError(
                    f"{name}={value}: {name} has no value {str(value)!r}{did_you_mean(str(value), list(values))}"
                )
            return {place: int(one == str(value)) for one, place in values.items()}
        if name not in self.attributes:
            known = list(dict.fromkeys(one.partition("=")[0] for one in self.attributes))
            raise LeafwingError(f"no attribute {name!r}{did_you_mean(name, known)}")
        if str(value).lower() not in ANSWERS:
            raise LeafwingError(f"{name}={value}: {name} is 0 or 1 (no or yes)")
        return {self.attributes.index(name): ANSWERS[str(value).lower()]}

    def _tossed(self, seed: int) -> np.ndarray:
        """Combinations by chance, as `combinations` has them: of each category one value, of each other attribute 0 or 1."""
        chance = np.random.Philox(np.random.SeedSequence((seed, 1))).random_raw(512 * len(self.attributes)).astype(np.uint64)
        bits = chance.reshape(512, len(self.attributes))
        categories = [one.partition("=")[0] if "=" in one else one for one in self.attributes]
        found = np.full((512, 1 + len(self.attributes)), -1, np.int64)
        for name in dict.fromkeys(categories):
            places = [place for place, one in enumerate(categories) if one == name]
            if "=" not in self.attributes[places[0]]:
                found[:, 1 + places[0]] = bits[:, places[0]] >> np.uint64(63)
            else:
                found[:, [1 + place for place in places]] = np.eye(len(places), dtype=np.int64)[
                    bits[:, places].argmax(axis=1)
                ]
        return found

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
