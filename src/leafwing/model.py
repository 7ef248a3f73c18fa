"""The user-facing interface of a trained game: loading, querying abilities, sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from leafwing import drawing, pictures
from leafwing.calls import checked_methods, usual_defaults
from leafwing.conditions import Examples, pictures_to_network, pixel_conditions, resolve, samples_to_network
from leafwing.engine.setup import choose, inference_in, isolated, seeded
from leafwing.engine.share import NumberedDraws
from leafwing.engine.sizes import AnySize, Piece, assemble, check_images
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.fields import Field
from leafwing.game import Batch, Clock, DataSpec, Game, Nets, Output, eval_mode
from leafwing.latents import BLOCK, check_batch, check_latents, numbered_latents, sweep, walk
from leafwing.pixels import set_layout
from leafwing.quantities import check_seed, check_tile, whole
from leafwing.runs import ROOT, Run

PRECISIONS = ("fp32", "bf16")


@checked_methods
class Model:
    """A trained game for downstream use.

    Args:
        game: a game with trained networks; EMAs are used where available.
        spec: the format of its samples.
        device: device to compute on.
        precision: fp32, or bf16: the networks run under autocast, which is faster on some devices. Samples are float32 in
            both cases and nearly the same for one seed: images differ by a grey level or two.
        compile: use `torch.compile`, which is slow to start and worthwhile for many samples on some GPUs; on failure samples are
            generated without it, with one warning.
        notify: callback for that warning.
        examples: the conditions of some real samples; unspecified conditions follow them.
        clock: the progress of training, on which what the networks generate may depend.

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
        notify: Callable[[str], None] = lambda text: None,
        examples: Examples | None = None,
        clock: Clock | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise LeafwingError(f"no precision {precision!r}; choose from {', '.join(PRECISIONS)}")
        self.game, self.spec, self.device, self.precision = game, spec, torch.device(device), precision
        self.images: int | None = None
        self._sizes: dict[str, AnySize] = {}
        self.notify, self.examples = notify, examples or Examples()
        self.clock = game.at_stage(clock or Clock(1, 1))
        self.compiled = (
            Nets(**{name: torch.compile(net) for name, net in vars(game.sampling_nets).items()}) if compile else None
        )

    @classmethod
    def load(
        cls,
        run: str | Path | Run,
        *,
        checkpoint: int | str | None = None,
        root: str | Path = ROOT,
        device: str = "cpu",
        trust: bool = False,
        precision: str = "fp32",
        compile: bool = False,
        notify: Callable[[str], None] = lambda text: None,
    ) -> Model:
        """Loads the model of a run from its folder, without the data or the cache.

        Args:
            run: the run, its folder, its name or number, or `last`.
            checkpoint: images shown (50_000, 50k), `last` (None) or `best`.
            root: folder of the numbered run folders.
            device: auto, cpu, cuda or mps.
            trust: execute the folder's `recipe.py` even if it is not an installed recipe.
            precision: fp32; bf16, which is faster on some devices; auto: bf16 there, else fp32.
            compile, notify: see `Model`.

        Raises:
            LeafwingError: no such run or checkpoint, untrusted recipe, or unknown precision.
        """
        opened = Run.open(run, root=root, trust=trust)
        setup = choose(device, precision, torch.get_num_threads())
        with isolated():
            game = opened.build_game()
        images = opened.load_weights(game, opened.resolve_checkpoint(checkpoint))
        clock, examples = opened.clock(images), Examples.from_plain(opened.spec, opened.data.examples or {})
        model = cls(
            game, opened.spec, setup.device, setup.precision, compile=compile, notify=notify, examples=examples, clock=clock
        )
        for module in game.modules().values():
            module.to(model.device).eval().requires_grad_(False)
            if model.precision == "bf16":  # fp32 keeps torch's default layout, so that the samples of a seed do not change
                set_layout(module, torch.channels_last)
        model.images = images
        return model

    def __repr__(self) -> str:
        kinds = [f"{output.field} ({self.kind(output)})" for output in self.game.abilities.outputs]
        return f"<leafwing.Model: {', '.join(kinds) or 'generates nothing'}>"

    def _repr_png_(self) -> bytes | None:
        """A few samples, in notebooks; None for a model that cannot draw any from latents alone."""
        with suppress(LeafwingError):
            return pictures.png(self.grid())
        return None

    @property
    def output(self) -> Output:
        """The main output.

        Raises:
            LeafwingError: the game generates nothing.
        """
        return self.find_output(None)

    def find_output(self, name: str | None) -> Output:
        """An output by the field that it generates; None: the main output.

        Raises:
            LeafwingError: no such output; the message lists them.
        """
        outputs = {output.field: output for output in self.game.abilities.outputs}
        if not outputs:
            raise LeafwingError("this game cannot generate: its recipe declares no outputs")
        if name is not None and name not in outputs:
            raise LeafwingError(f"no output {name!r}{did_you_mean(name, outputs)}")
        return outputs[name] if name is not None else self.game.abilities.outputs[0]

    def kind(self, output: Output) -> Field:
        """The field that an output belongs to, with its shape."""
        return output.kind or self.spec.fields[output.field]

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names that `sample` accepts; empty if it is not class-conditional."""
        return self.spec.labels if self.can("label") else ()

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attribute names that `sample` accepts, in order; empty if it is not conditioned on attributes."""
        return self.spec.attributes if self.can("attributes") else ()

    def can(self, ability: str) -> bool:
        """Whether the game has an ability.

        Args:
            ability: `generate` (from latents), `translate` (from images), `encode`, `classify`, `judge`, or the name of a condition
                such as `label`.
        """
        abilities = self.game.abilities
        translates = [bool(pixel_conditions(output, self.spec)) for output in abilities.outputs]
        if ability in ("generate", "translate"):
            return (ability == "translate") in translates
        if ability in ("encode", "classify", "judge"):
            return getattr(abilities, ability) is not None
        return any(ability in output.conditions for output in abilities.outputs)

    def latents(self, n: int, seed: int = 0, *, output: str | None = None, first: int = 0) -> Tensor:
        """The latents of samples `first` to `first + n - 1` of a seed, (n, size). Each depends only on the seed and on its number.

        Raises:
            LeafwingError: n or seed out of range, or an output without latents.
        """
        chosen = self.find_output(output)
        latents = self._latents(chosen, n, seed, first)
        if latents is None:
            self.conditions(n, seed, output=output)  # raises, with what it is generated from
            raise LeafwingError(f"this run generates its {chosen.field} without latents")
        return latents

    def _latents(self, output: Output, n: int, seed: int, first: int = 0) -> Tensor | None:
        """The same; None for an output without latents."""
        n, seed = whole(n, "n", 1), check_seed(seed)
        if (prior := output.prior) is None:
            return None
        return numbered_latents(prior, n, seed, first).to(self.device)

    def conditions(self, n: int, seed: int = 0, *, output: str | None = None, **conditions: Any) -> Batch:
        """The conditions of n samples as networks see them, by field; empty for an unconditional output.

        The result can be passed on: `model.generate(latents, **model.conditions(n, label=3))`.

        Args:
            n: number of samples.
            seed: random seed of what is not specified; see `conditions.resolve`.
            output: the field to generate; None: the main output.
            **conditions: by field; see `sample`.

        Raises:
            LeafwingError: unknown conditions or values, or some that must be specified.
        """
        chosen = self.find_output(output)
        n, seed = whole(n, "n", 0), check_seed(seed)
        return resolve(chosen, self.spec, self.examples, n, seed, conditions).to(self.device)

    def sample(self, n: int, seed: int = 0, *, output: str | None = None, batch: int = BLOCK, **conditions: Any) -> Tensor:
        """Generates n samples; the i-th sample of a seed does not depend on n, except for rounding.

        Equal calls give equal bits on one machine, and from 64 samples on so do calls with other n. Fewer samples are computed in
        smaller passes, which round differently: as 8-bit images they differ by at most one grey level. The global random state is
        neither read nor changed.

        Args:
            n: number of samples.
            seed: random seed.
            output: the field to generate; None: the main output.
            batch: maximum batch size; it affects samples only by rounding.
            **conditions: what the samples should be, by field. `label`: one class by name or index, or n of them; by default all
                classes in turn. `attributes`: some of them by name, `{"smiling": 1, "colour": "red"}`, or all of them per sample
                (n, attributes). `caption`: a sentence or n of them. Other fields: values as text, or tensors (n, ...). What is not
                specified follows the real data; see `conditions.resolve`.

        Returns:
            float32 (n, *shape of the field), images in [-1, 1]; points (n, 2) in the data's units.

        Raises:
            LeafwingError: an unknown output, condition or value, or an output that is generated from images; see `translate`.
        """
        chosen = self.find_output(output)
        latents = self._latents(chosen, n, seed)
        inputs = self.conditions(n, seed, output=output, **conditions)
        return torch.cat(list(self._stream(chosen, latents, inputs, seed, batch)))

    def grid(
        self, n: int = 16, seed: int = 0, *, columns: int | None = None, output: str | None = None, **conditions: Any
    ) -> Image:
        """The samples of `sample(n, seed)` as one picture to look at, small images enlarged by a whole factor.

        Args:
            n: number of samples.
            seed: random seed.
            columns: images per row; None: as square as possible.
            output, conditions: see `sample`.

        Returns:
            A Pillow image: of images a grid with the conditions in which they differ, of clips strips of frames, of points a plot.

        Raises:
            LeafwingError: see `sample`; or samples that cannot be drawn.
        """
        columns = None if columns is None else whole(columns, "columns", 1)
        inputs = self.conditions(whole(n, "n", 1), seed, output=output, **conditions)
        samples = self.sample(n, seed, output=output, **conditions)
        return drawing.grid(self.kind(self.find_output(output)), samples, columns, self.spec, inputs)

    def film(
        self, n: int = 6, seed: int = 0, *, seconds: float = 6.0, output: str | None = None, **conditions: Any
    ) -> drawing.Film:
        """A walk through latent space: from each of n samples to the next, and from the last back to the first.

        The samples are those of `sample(n, seed)`, the paths spherical as in `leafwing explore RUN interpolate`. Notebooks show the
        film; `film.save("walk.mp4")` writes it as .mp4, .webp or .gif. Noise inside networks is that of the first sample throughout.

        Args:
            n: number of samples on the way, from 2 on.
            seed: random seed.
            seconds: duration.
            output: the field to generate; None: the main output.
            **conditions: what all samples should be, see `sample`; the rest is that of the first sample (`Film.conditions`).

        Raises:
            LeafwingError: an output without latents, or one that is not an image; invalid numbers or conditions.
        """
        n, kind = whole(n, "n", 2), self.kind(self.find_output(output))
        latents = walk(self.latents(n, seed, output=output), drawing.frames(kind, seconds))
        first = self.conditions(1, seed, output=output, **conditions)
        named: dict[str, Any] = {**first}
        # Each alone, as number 0: all have the same noise inside networks, and nothing flickers.
        samples = torch.cat([next(self.stream(latent[None], output=output, seed=seed, **named)) for latent in latents])
        return drawing.film(kind, samples, seconds, self.spec, first)

    def generate(
        self, latents: Tensor, *, output: str | None = None, seed: int = 0, batch: int = BLOCK, **conditions: Any
    ) -> Tensor:
        """Samples from latents (n, size), such as model.latents(n); see `sample`. Unspecified conditions are those of the seed."""
        return torch.cat(list(self.stream(latents, output=output, seed=seed, batch=batch, **conditions)))

    def translate(
        self,
        images: Tensor | np.ndarray,
        *,
        output: str | None = None,
        seed: int = 0,
        batch: int = BLOCK,
        first: int = 0,
        tile: int | str = "auto",
        **conditions: Any,
    ) -> Tensor:
        """Images generated from images.

        Outputs with a `multiple` take images of any size, which are padded by reflection and cropped back: what is generated has
        their size times the ratio of the sizes in training. Large ones are computed in tiles; the result is the same to 1/255.

        Args:
            images: (n, channels, height, width) in [-1, 1] or bytes, or another field; `leafwing translate` reads files.
            output: the field to generate; None: the first one that is generated from images.
            seed: random seed of latents, if there are any, and of unspecified conditions.
            batch: maximum batch size.
            first: the number of the first image, if they are part of a larger set: what is random depends on it.
            tile: whole; the side of tiles in pixels; or auto: whole images where memory allows.
            **conditions: further conditions; see `sample`. One value for all images, or one per image.

        Returns:
            float32 (n, *shape of the field).

        Raises:
            LeafwingError: an output that is not generated from images, images of the wrong shape, or tiles of a network that does not
                allow them.
        """
        chosen, name = self.translation(output)
        images = pictures_to_network(name, images, self.spec.fields[name], self.any_size(chosen))
        check_batch(batch, len(images))
        values = {name: images, **conditions}
        if self.any_size(chosen):
            pixels = {key: values.pop(key) for key in pixel_conditions(chosen, self.spec) if key in values}
            pieces = self.translate_pieces(pixels, output=output, seed=seed, batch=batch, first=first, tile=tile, **values)
            return assemble(pieces, len(images), lambda part: part, 2)
        if tile != "auto":
            raise InvalidOption("tile", tile, "this run translates pictures of one size, that of its training")
        latents = self._latents(chosen, len(images), seed, first)
        inputs = resolve(chosen, self.spec, self.examples, len(images), seed, values, first=first).to(self.device)
        return torch.cat(list(self._stream(chosen, latents, inputs, seed, batch, first=first)))

    def translate_pieces(
        self,
        images: Mapping[str, Tensor],
        *,
        output: str | None = None,
        seed: int = 0,
        batch: int = BLOCK,
        first: int = 0,
        tile: int | str = "auto",
        stored: bool = False,
        report: Callable[[int, int], None] = lambda done, total: None,
        **conditions: Any,
    ) -> Iterator[Piece]:
        """Images generated from images of any size, one after the other in pieces, of which only one needs to be in memory.

        Args:
            images: every condition with pixels by name, (n, channels, height, width) as networks see them.
            output, seed, batch, first, tile, conditions: see `translate`.
            stored: whether `images` are as data sets store them.
            report: progress of an image in tiles: what is done, and in total.

        Raises:
            LeafwingError: see `translate`.
        """
        chosen, main = self.translation(output)
        tile, kinds = check_tile(tile), self.spec.fields
        n, *sides = images[main].shape
        size = (sides[0], sides[1]) if stored else (sides[1], sides[2])
        if not stored:
            check_images(images, {name: kinds[name].shape for name in pixel_conditions(chosen, self.spec)}, n, size)
        latents = self._latents(chosen, n, seed, first)
        blank = {name: torch.zeros(n, *kinds[name].shape) for name in images}
        values = resolve(chosen, self.spec, self.examples, n, seed, {**blank, **conditions}, first=first).to(self.device)
        others = {name: value for name, value in values.items() if name not in images}
        others |= {} if latents is None else {"latent": latents}

        def inputs(maps: Mapping[str, Tensor], pictures: slice) -> Batch:
            return Batch(**Batch(others).rows(pictures), **maps)

        def whole(maps: Mapping[str, Tensor], pictures: slice) -> Tensor:
            part, number = inputs(maps, pictures), first + pictures.start
            return next(self._stream(chosen, None, part, seed, part.n, first=number))

        def read(name: str, pictures: slice, rows: Tensor, columns: Tensor) -> Tensor:
            part, axis = images[name][pictures], 1 if stored else 2
            part = part.index_select(axis, rows.to(part.device)).index_select(axis + 1, columns.to(part.device))
            return (kinds[name].to_network(part) if stored else part.float()).to(self.device)

        def function(maps: Mapping[str, Tensor], i: int) -> Tensor:
            result = chosen.make(self.game.sampling_nets, inputs(maps, slice(i, i + 1)), self.clock)
            return self.kind(chosen).clamp(result.float())

        def draws(i: int) -> NumberedDraws:
            return NumberedDraws(seed << 24 | first + i, 1)

        any_size = self._any_size(chosen, function)
        with (
            eval_mode(self.game.sampling_nets),
            seeded(seed << 24 | first, self.device),
            inference_in(self.precision, self.device),
        ):
            yield from any_size.pieces(read, n, size, whole, draws, tile=tile, batch=batch, report=report)

    def any_size(self, output: Output) -> bool:
        """Whether an output is generated from images of any size."""
        kinds = [self.kind(output), *(self.spec.fields[name] for name in pixel_conditions(output, self.spec))]
        return bool(output.multiple) and len(kinds) > 1 and all(len(kind.shape) == 3 for kind in kinds)

    def _any_size(self, output: Output, function: Callable[[dict[str, Tensor], int], Tensor]) -> AnySize:
        """The function of an output for images of any size; what is known about the network is kept."""
        if output.field not in self._sizes:
            shapes = {name: self.spec.fields[name].shape for name in pixel_conditions(output, self.spec)}
            _, height, width = self.kind(output).shape
            self._sizes[output.field] = AnySize(function, shapes, (height, width), output.multiple, self.device, self.notify)
        self._sizes[output.field].function = function
        return self._sizes[output.field]

    def translation(self, output: str | None = None) -> tuple[Output, str]:
        """An output that is generated from images, and the condition that the images are.

        Raises:
            LeafwingError: there is none.
        """
        candidates = self.game.abilities.outputs if output is None else [self.find_output(output)]
        for candidate in candidates:
            if names := pixel_conditions(candidate, self.spec):
                return candidate, names[0]
        raise LeafwingError(
            f"this run does not generate {output or 'anything'} from images: use `leafwing sample RUN` (from Python: model.sample)"
        )

    def encode(self, samples: Tensor | np.ndarray, *, batch: int = BLOCK) -> Tensor:
        """The encoder's latents (n, size) of samples, images in [-1, 1].

        Raises:
            LeafwingError: no encoder, or samples of the wrong shape.
        """
        if self.game.abilities.encode is None:
            raise LeafwingError("this game has no encoder: see `leafwing recipes`")
        encode = self.game.abilities.encode
        return self._in_batches(lambda nets, x, inputs: encode(nets, x), samples, batch)

    def classify(self, samples: Tensor | np.ndarray, *, batch: int = BLOCK) -> Tensor:
        """Class probabilities, float32 (n, classes), of samples, images in [-1, 1].

        Raises:
            LeafwingError: no classifier, or samples of the wrong shape.
        """
        if self.game.abilities.classify is None:
            raise LeafwingError("this game has no classifier: see `leafwing recipes`")
        classify = self.game.abilities.classify
        return self._in_batches(lambda nets, x, inputs: classify(nets, x), samples, batch).softmax(1)

    def judge(self, samples: Tensor | np.ndarray, *, seed: int = 0, batch: int = BLOCK, **conditions: Any) -> Tensor:
        """The discriminator's scores (n,) of samples, images in [-1, 1]: higher is more realistic; the scale depends on the game.

        Args:
            samples: (n, *shape of the main output's field); `leafwing score` reads files.
            seed: random seed of unspecified conditions.
            batch: batch size.
            **conditions: the conditions that the samples should match, by default those of `sample`: other ones for each sample.

        Raises:
            LeafwingError: no discriminator of single samples, or samples of the wrong shape.
        """
        judge = self.game.abilities.judge
        if judge is None:
            raise LeafwingError("this game has no critic that scores single samples: see `leafwing recipes`")
        if missing := [name for name in pixel_conditions(self.output, self.spec) if name not in conditions]:
            raise LeafwingError(f"the discriminator may look at {missing[0]}, too: judge(samples, {missing[0]}=...)")
        samples = samples_to_network(samples, kind := self.kind(self.output), kind.shape)
        return self._in_batches(judge, samples, batch, self.conditions(len(samples), seed, **conditions))

    @torch.no_grad()
    def _in_batches(
        self,
        function: Callable[[Nets, Tensor, Batch], Tensor],
        samples: Tensor | np.ndarray,
        batch: int,
        inputs: Batch | None = None,
    ) -> Tensor:
        """Applies a function of the networks, in evaluation mode, to samples and their conditions in batches."""
        nets, kind = self.game.sampling_nets, self.kind(self.output)
        samples = samples_to_network(samples, kind, kind.shape)
        check_batch(batch, len(samples))
        with eval_mode(nets):
            slices = (slice(start, start + batch) for start in range(0, len(samples), batch))
            parts = ((samples[rows].to(self.device), (inputs or Batch()).rows(rows)) for rows in slices)
            return torch.cat([function(nets, part, conditions).float() for part, conditions in parts])

    @property
    def codes(self) -> dict[str, int]:
        """The named parts of a latent and their dimensions; empty if there are none."""
        return {name: part.size for name, part in getattr(self.output.prior, "factors", {}).items()}

    def sweep(self, latents: Tensor, code: str, values: Sequence[float] | None = None) -> Tensor:
        """Each latent with one of its codes set to each of k values, all else unchanged: (n * k, size); see `latents.sweep`.

        Raises:
            LeafwingError: no such code, values for a categorical code, or none for a single number; or a code of several numbers.
        """
        return sweep(check_latents(latents, self.output.prior), self.output.prior, code, values)

    def stream(
        self,
        latents: Tensor | None,
        *,
        output: str | None = None,
        seed: int = 0,
        batch: int = BLOCK,
        pad: bool = False,
        part: slice = slice(None),
        first: int = 0,
        same_noise: bool = False,
        **conditions: Any,
    ) -> Iterator[Tensor]:
        """Samples from latents (n, size) as an iterator over blocks of `batch`, of which one is in memory at a time; see `generate`.

        Args:
            latents: see `generate`; None for an output without latents, whose conditions are then tensors (n, ...).
            output, seed, batch, conditions: see `generate`.
            pad: compute even fewer samples than `batch` in a pass of `batch`, so that they are the same bits in a larger number.
            part: the samples to generate, from a multiple of `batch` on; they are the same bits as in the whole.
            first: number of the first of these samples, if they are part of more; it selects the noise inside networks.
            same_noise: all samples have the noise of the first one, so that they differ only by latents and conditions.
        """
        chosen = self.find_output(output)
        latents = None if latents is None else check_latents(latents, chosen.prior).to(self.device)
        n = len(next(iter(conditions.values()), ()) if latents is None else latents)
        inputs = self.conditions(n, seed, output=output, **conditions)
        return self._stream(chosen, latents, inputs, seed, batch, pad, part, first, same_noise)

    def _stream(
        self, output: Output, latents: Tensor | None, inputs: Batch, seed: int, batch: int, pad: bool = False,
        part: slice = slice(None), first: int = 0, same_noise: bool = False,
    ) -> Iterator[Tensor]:  # fmt: skip
        if latents is not None:
            inputs = Batch(latent=latents, **inputs)
        if not inputs:
            raise LeafwingError(f"this run generates its {output.field} from neither latents nor conditions")
        check_batch(batch, total := inputs.n)
        # Passes have few different sizes, because kernels round depending on the shape; the last one is padded.
        size = batch if pad or total >= batch else min(batch, 1 << (total - 1).bit_length())
        start, stop, _ = part.indices(total)

        def block(start: int) -> Tensor:
            rows = torch.arange(start, start + size, device=self.device).clamp(max=total - 1)
            number = first if same_noise else first + start
            return self._forward(output, inputs.rows(rows), seed << 24 | number, same_noise)[: stop - start]

        return (block(start) for start in range(start, stop, size))

    def render(self, latents: Tensor, *, output: str | None = None, **conditions: Any) -> Tensor:
        """Samples from latents (n, size) in one differentiable pass, not clipped to [-1, 1].

        All have the noise inside networks that the first sample of seed 0 has, as in `stream(..., same_noise=True)`.

        Args:
            latents: as many as fit into memory with their activations.
            output, conditions: see `sample`.
        """
        chosen, nets = self.find_output(output), self.game.sampling_nets
        latents = check_latents(latents, chosen.prior).to(self.device)
        inputs = Batch(latent=latents, **self.conditions(len(latents), output=output, **conditions))
        with eval_mode(nets), seeded(0, self.device), NumberedDraws(0, inputs.n, same=True):
            return chosen.make(nets, inputs, self.clock).float()

    @torch.no_grad()
    def _forward(self, output: Output, inputs: Batch, seed: int, same_noise: bool = False) -> Tensor:
        """Samples in one forward pass in evaluation mode; for the noise inside the networks see `NumberedDraws`."""
        nets, compiled = self.game.sampling_nets, None if same_noise else self.compiled
        with (
            eval_mode(nets),
            seeded(seed, self.device),
            inference_in(self.precision, self.device),
            usual_defaults(),
            NumberedDraws(seed, inputs.n, same_noise) if compiled is None else nullcontext(),
        ):
            try:
                samples = output.make(compiled or nets, inputs, self.clock)
                if not isinstance(samples, Tensor):
                    raise LeafwingError(f"the recipe's output {output.field} makes {type(samples).__name__}, not a tensor")
                samples = samples.float()
            except Exception as error:
                if compiled is None:
                    raise
                self.compiled = None
                reason = str(error).strip().splitlines() or [type(error).__name__]
                self.notify(f"the networks cannot be compiled, so sampling continues without compilation: {reason[0]}")
                samples = output.make(nets, inputs, self.clock).float()
        if len(samples) != inputs.n:
            raise LeafwingError(f"the recipe's output {output.field} makes {len(samples)} samples from {inputs.n} inputs")
        return self.kind(output).clamp(samples)
