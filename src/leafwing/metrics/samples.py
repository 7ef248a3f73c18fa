"""Both sides of an evaluation: real samples from a data set and samples from a model, each with features that are computed once.

Everything is processed in chunks, so that no more memory is needed than for training: samples are stored on disk at 8 bits, like real
images. Several processes share sampling and feature extraction chunk by chunk, and all of them get the complete results.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from leafwing import files
from leafwing.conditions import pixel_conditions, way_back
from leafwing.data.built_in import BUILT_IN
from leafwing.errors import LeafwingError
from leafwing.game import Batch
from leafwing.latents import BLOCK
from leafwing.metrics import scale as scales
from leafwing.metrics.features import Features
from leafwing.metrics.protocol import AS_REAL, MARKS, Protocol, fingerprint
from leafwing.metrics.scale import Scale
from leafwing.metrics.segmenter import Segmenter
from leafwing.metrics.targets import (
    columns_of,
    enlargement,
    frames,
    frames_per_sample,
    is_paired,
    source_images,
    source_of,
    target,
    to_images,
)
from leafwing.model import Model
from leafwing.pictures import to_pixels
from leafwing.pixels import images_to_tensor, to_bytes, to_floats
from leafwing.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.engine.processes import Processes


class Samples:
    """What the evidence of runs and that of pictures share: the real images, and the features of both sides.

    Args:
        real: the split named by the protocol.
        protocol: the conditions.
        features: the feature network; None if no metric needs one.
        parts: returns the training set and the held-out set.
        cache: folder for temporary samples and for cached features of the real images.
        processes: the processes that share the work.
        report_progress: progress callback.
    """

    segmenter: Segmenter | None = None
    scale = 1
    augment = "none"

    def __init__(
        self,
        real: Dataset,
        protocol: Protocol,
        features: Features | None,
        *,
        parts: Callable[[], tuple[Dataset, Dataset]],
        cache: Path,
        processes: Processes,
        report_progress: ProgressCallback = no_progress,
    ) -> None:
        self.real, self.protocol, self.network = real, protocol, features
        self.target = target(real, protocol.output)
        self.frames = frames_per_sample(self.target.spec.fields["image"])
        self.spec, self.seed = frames(self.target).spec, protocol.seed
        self.n_real, self.n_fake = protocol.n_real * self.frames, protocol.n_fake * self.frames
        self.built_in = real.source if real.source.partition(":")[0] in BUILT_IN else ""
        self.options: Mapping[str, Any] = real.options
        self.parts, self.cache, self.processes, self.report_progress = parts, cache, processes, report_progress
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    # --- samples ---------------------------------------------------------------------------------------------------------

    def real_pictures(self) -> Iterator[Tensor]:
        """The real images in chunks, shuffled by the seed; half of them mirrored with `mirror`."""
        self._require_images()
        return (self._real(start, end) for start, end in chunks(self.protocol.n_real))

    def fake_pictures(self) -> Iterator[Tensor]:
        """The samples in chunks, rounded to 8 bits; NaN for samples with non-finite values."""
        self._require_images()
        return (self._fake(start, end) for start, end in chunks(self.protocol.n_fake))

    def sample_numbers(self) -> Sequence[int]:
        """The number by which users know each sample."""
        return range(self.n_fake)

    def train_pictures(self) -> Iterator[Tensor]:
        """The training set in chunks, in the order of the data, unmirrored."""
        return stored_order(frames(target(self.parts()[0], self.protocol.output)))

    def held_out_pictures(self) -> Iterator[Tensor]:
        """The held-out set in chunks, in the order of the data, unmirrored; empty if nothing was held out.

        The same share of a second source is held out.
        """
        held_out = self.parts()[1]
        return stored_order(frames(target(held_out, self.protocol.output))) if len(held_out) else iter(())

    def real_labels(self) -> np.ndarray | None:
        """int64 (n_real,), the classes of the real samples; None for data without labels."""
        if self.target.labels is None:
            return None
        order, _ = self.target.epoch(self.seed, 0, slice(0, self.protocol.n_real))
        return np.repeat(self.target.labels[order], self.frames)

    def _fake(self, start: int, end: int) -> Tensor:
        """The images of these samples, with 8 bits, in [-1, 1]."""
        raise NotImplementedError

    def _real(self, start: int, end: int) -> Tensor:
        """The images of the real samples at these positions."""
        return real_images(self.target, self.seed, start, end)

    # --- features --------------------------------------------------------------------------------------------------------

    def features(self, images: Tensor) -> np.ndarray:
        """Features of images (b, channels, height, width) in [-1, 1]: float32 (b, d)."""
        return self._require_network()(images)[0]

    def real_features(self) -> np.ndarray:
        """float32 (n_real, d); cached for the next evaluation under these conditions."""
        return self._real_features

    def fake_features(self) -> np.ndarray:
        """float32 (n_fake, d)."""
        return self._fake_outputs[0]

    def fake_probabilities(self) -> np.ndarray:
        """float64 (n_fake, classes).

        Raises:
            LeafwingError: the feature network is not a classifier.
        """
        network = self._require_network()
        if not network.classifies:
            raise LeafwingError(
                f"features {network.name}: this network is not a classifier, which the metric requires. "
                "Use --features inception, or --features own with labelled data"
            )
        probabilities = self._fake_outputs[1]
        assert probabilities is not None
        return probabilities

    def _real_conditions(self) -> str:
        """A hash of the conditions that affect the real side."""
        conditions = self.protocol.as_dict()
        for name in ("n_fake", "conditions", "precision", *MARKS):
            conditions.pop(name, None)
        return fingerprint(conditions)

    def _features_path(self) -> Path:
        return self.cache / "features" / f"{self._real_conditions()}.npy"

    @cached_property
    def _real_features(self) -> np.ndarray:
        """Read from the cache by process 0, or computed by all processes."""
        path = self._features_path()
        cached = read_features(path) if self.processes.first else None
        shape = self.processes.broadcast(None if cached is None else list(cached.shape))
        if shape is not None:
            contribution = np.empty((0, *shape[1:]), np.float32) if cached is None else cached
            return self.processes.gather(torch.from_numpy(contribution)).numpy()
        network = self._require_network()

        def extract(start: int, end: int) -> tuple[Tensor]:
            return (torch.from_numpy(network(self._real(start, end))[0]),)

        (features,) = self._concatenate("features of real images", self.protocol.n_real, extract)
        if self.processes.first:
            write_features(path, features)
        return features

    # --- the scale -------------------------------------------------------------------------------------------------------

    @cached_property
    def scale_of_metrics(self) -> Scale | None:
        """What other real images and noise reach under these conditions, from the cache or computed; None with too few images."""
        path, network = self._scale_path(), self._require_network()
        cached = scales.read(path) if self.processes.first else None
        shared = self.processes.broadcast(asdict(cached) if cached else None)
        if shared is not None:
            return Scale(**shared)
        if self.protocol.n_real < 2 * scales.MIN_HALF:
            return None
        n, kind, others = self._others()

        def extract(start: int, end: int) -> tuple[Tensor]:
            return (torch.from_numpy(network(others(start, end))[0]),)

        def extract_noise(start: int, end: int) -> tuple[Tensor]:
            return (torch.from_numpy(network(scales.noise_images(self.spec, start, end))[0]),)

        real = self.real_features()
        others_features = self._concatenate("features of other real images", n, extract)[0] if n else None
        (noise,) = self._concatenate("features of noise", scales.NOISE, extract_noise)
        scale = scales.compute(real, others_features, noise, kind)
        if self.processes.first:
            scales.write(path, scale)
        return scale

    def _scale_path(self) -> Path:
        return self.cache / "scales" / f"{self._real_conditions()}-{scales.VERSION}.json"

    def _others(self) -> tuple[int, str, Callable[[int, int], Tensor]]:
        """Real images that are not among those compared with: their number, what they are, and a function of two positions.

        Those that the run was trained on if held-out ones are compared with, else further ones of the same data. 0 if there are less
        than half as many as are compared with: many measures depend on the number.
        """
        n = self.protocol.n_real
        if self.protocol.split == "held-out":
            data, first, kind = target(self.parts()[0], self.protocol.output), 0, "training images"
        else:
            data, first, kind = self.target, n, "other real images"
        number = max(0, min(n, len(data) - first))
        number = number if 2 * number >= n else 0
        return number, kind, lambda start, end: real_images(data, self.seed, first + start, first + end)

    def work(self, *, with_scale: bool) -> dict[str, int]:
        """How many images the feature network sees in each step of a first evaluation, by the names progress is reported under.

        Of clips, each frame is an image.
        """
        steps = {"features of samples": self.n_fake}
        if not self._features_path().exists():
            steps["features of real images"] = self.n_real
        if with_scale and not self._scale_path().exists():
            steps |= {"features of other real images": self._others()[0] * self.frames, "features of noise": scales.NOISE}
        return steps

    def seconds_per_image(self) -> float:
        """How long the feature network takes for an image here, measured on the second of two small batches."""
        network, images = self._require_network(), scales.noise_images(self.spec, 0, 8)
        network(images)
        started = time.perf_counter()
        network(images)
        return (time.perf_counter() - started) / len(images)

    def seconds_per_sample(self) -> float:
        """How long it takes to generate a sample; 0 for pictures that exist already."""
        return 0.0

    @cached_property
    def _fake_outputs(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Features and probabilities of the samples, from a single pass."""
        network = self._require_network()

        def extract(start: int, end: int) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(output) for output in network(self._fake(start, end)) if output is not None)

        features, *probabilities = self._concatenate("features of samples", self.protocol.n_fake, extract)
        return features, probabilities[0] if probabilities else None

    # --- in chunks, by all processes -------------------------------------------------------------------------------------

    def _concatenate(self, what: str, n: int, work: Callable[[int, int], tuple[Tensor, ...]]) -> list[np.ndarray]:
        """The results of `_in_chunks`, concatenated."""
        return [torch.cat(parts).numpy() for parts in zip(*self._in_chunks(what, n, work), strict=True)]

    def _in_chunks(self, what: str, n: int, work: Callable[[int, int], tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """Processes n items in chunks distributed over the processes; every process gets all results in order."""
        world_size = self.processes.world_size
        for first in range(0, n, BLOCK * world_size):
            start = min(n, first + BLOCK * self.processes.rank)
            end = min(n, start + BLOCK)
            # Nothing is left for this process in the last round: it contributes an empty tensor of the right shape.
            results = work(start, end) if start < end else tuple(result[:0] for result in work(0, 1))
            yield tuple(self.processes.gather(result.contiguous()) for result in results)
            self.report_progress(what, min(n, first + BLOCK * world_size), n)

    def _require_network(self) -> Features:
        if self.network is None:
            raise LeafwingError("this metric requires a feature network: set --features")
        return self.network

    def _require_images(self) -> None:
        if self.spec.points:
            raise LeafwingError("this metric requires images, and the run generates points; for points use the metric modes")


class RunEvidence(Samples):
    """The real images and the samples of a run; see `evidence.Evidence`.

    The samples are those of the protocol's output, and the real images those of the same field. Clips are evaluated as images: all
    frames of each, one after another.

    Args:
        model: the evaluated model.
        real: the split named by the protocol, with the conditions of the samples.
        protocol: the conditions.
        features: the feature network; None if no metric needs one.
        parts: returns the training set and the held-out set.
        cache: folder for temporary samples and for cached features of the real images.
        segmenter: that of the metric of this name; None if it is not computed.
        augment: the augmentation of the training.
        processes: the processes that share the work.
        report_progress: progress callback.
    """

    def __init__(
        self,
        model: Model,
        real: Dataset,
        protocol: Protocol,
        features: Features | None,
        *,
        parts: Callable[[], tuple[Dataset, Dataset]],
        cache: Path,
        processes: Processes,
        segmenter: Segmenter | None = None,
        augment: str = "none",
        report_progress: ProgressCallback = no_progress,
    ) -> None:
        super().__init__(
            real, protocol, features, parts=parts, cache=cache, processes=processes, report_progress=report_progress
        )
        self.segmenter, self.model, self.augment = segmenter, model, augment
        self.output = model.find_output(protocol.output)
        self.scale = enlargement(self.output, model.spec)

    # --- samples ---------------------------------------------------------------------------------------------------------

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The samples and their real targets in chunks.

        Raises:
            LeafwingError: the samples are not generated from images with targets.
        """
        if not is_paired(self.output, self.real.spec):
            raise LeafwingError(
                f"this metric compares samples with the real targets of their inputs, and this run's {self.output.field} has none"
            )
        return ((self._fake(start, end), self._real_of(start, end)) for start, end in chunks(self.protocol.n_fake))

    def with_sources(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The images that the samples are generated from, and the samples, in chunks.

        Raises:
            LeafwingError: the samples are not generated from images, masks or label maps.
        """
        name = self.model.translation(self.output.field)[1]
        kind = self.model.spec.fields[name]
        return (
            (source_images(kind, self._conditions(start, end, [name])[name]), self._fake(start, end))
            for start, end in chunks(self.protocol.n_fake)
        )

    def cycles(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The images that the samples are generated from, and the samples translated back, in chunks.

        Raises:
            LeafwingError: the run does not translate both ways.
        """
        back = way_back(self.output, self.model.game.abilities.outputs, self.model.spec)
        if back is None:
            raise LeafwingError(f"this metric needs a run that also translates its {self.output.field} back")
        field, kind = back.field, self.model.spec.fields[back.field]
        further = [name for name in back.conditions if name != self.output.field]

        def there_and_back(start: int, end: int) -> tuple[Tensor, Tensor]:
            conditions: dict[str, Any] = self._conditions(start, end, further)
            again = self.model.translate(self._fake(start, end), output=field, seed=self.seed, first=start, **conditions)
            inputs = self._conditions(start, end, [field])[field]
            return source_images(kind, inputs), source_images(kind, again.cpu())

        return (
            (source, again) for source, again in self._in_chunks("translating back", self.protocol.n_fake, there_and_back)
        )

    def inputs(self, name: str) -> Iterator[Tensor]:
        """One condition of the samples in chunks, as networks see it."""
        return (self._conditions(start, end, [name])[name] for start, end in chunks(self.protocol.n_fake))

    def fake_points(self) -> np.ndarray:
        """float64 (n_fake, 2)."""
        self._require_points()
        return np.concatenate([points.double().numpy() for points in self._generate()])

    def fake_labels(self) -> np.ndarray | None:
        """int64 (n_fake,), the classes that the samples were conditioned on; None for a model without labels."""
        if "label" not in self.output.conditions:
            return None
        return self._conditions(0, self.protocol.n_fake, ["label"]).label.repeat_interleave(self.frames).numpy()

    def latents(self, n: int) -> Tensor:
        """n latents of the protocol's seed.

        Raises:
            LeafwingError: the output is generated without latents.
        """
        if self.output.prior is None:
            raise LeafwingError(f"this metric requires latents, and this run's {self.output.field} is generated without any")
        return self.model.latents(n, self.seed, output=self.output.field)

    def generate(self, latents: Tensor) -> Tensor:
        """Images generated from latents (b, size), on the CPU; all with the same conditions and noise, and of class 0."""
        pixels: dict[str, Any] = self._conditions(0, 1, pixel_conditions(self.output, self.model.spec))
        conditions = self.model.conditions(1, self.seed, output=self.output.field, **pixels)
        same: dict[str, Any] = {name: value.expand(len(latents), *value.shape[1:]) for name, value in conditions.items()}
        blocks = self.model.stream(latents, output=self.output.field, same_noise=True, **same)
        return to_images(torch.cat([*blocks]).cpu())

    # --- in chunks, by all processes -------------------------------------------------------------------------------------

    def _fake(self, start: int, end: int) -> Tensor:
        """The images of these samples."""
        images, finite = self._fake_images
        rows = slice(start * self.frames, end * self.frames)
        return images_to_tensor(images[rows]).masked_fill_(~finite[rows, None, None, None], torch.nan)

    def _real_of(self, start: int, end: int) -> Tensor:
        """The images of the real samples that belong to these samples."""
        return torch.cat([self._real(first, last) for first, last in repeated(start, end, self.protocol.n_real)])

    def _conditions(self, start: int, end: int, names: Sequence[str] | None = None) -> Batch:
        """The conditions of these samples (None: all of them), as networks see them."""
        names = self.output.conditions if names is None else names
        if self.protocol.conditions != AS_REAL:
            return Batch({name: self._defaults[name][start:end] for name in names})
        pixels = pixel_conditions(self.output, self.model.spec)
        stored, compared = Batch(), source_of(self.real, self.output.field)
        for name in names:
            # What changes an image gets the other conditions from another real sample: its own would ask for no change.
            seed = self.seed + (self.output.field in pixels and name not in pixels)
            column, source = columns_of(self.real, [name]), source_of(self.real, name)
            number = self.protocol.n_real if source is compared else len(source)
            parts = [column.batch(seed, first, last - first)[name] for first, last in repeated(start, end, number)]
            stored[name] = torch.cat(parts)
        return columns_of(self.real, names).to_network(stored)

    @cached_property
    def _defaults(self) -> Batch:
        """The conditions of all samples if they are the model's defaults, on the CPU."""
        return self.model.conditions(self.protocol.n_fake, self.seed, output=self.output.field).to("cpu")

    @cached_property
    def _fake_images(self) -> tuple[np.ndarray, Tensor]:
        """All samples, uint8 (n_fake, height, width, channels), and which of them are finite, bool (n_fake,).

        The samples are a memory map of a temporary file; those of a diverged generator are black.
        """
        shape = (self.n_fake, self.spec.height, self.spec.width, self.spec.channels)
        folder = self.cache / "samples"
        with files.storage(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            file = self._resources.enter_context(tempfile.TemporaryFile(dir=folder))
            finite = []
            for images in map(to_images, self._generate()):
                finite.append(images.flatten(1).isfinite().all(1))
                file.write(to_pixels(images.nan_to_num(-1, -1, -1)).tobytes())
            file.flush()
        return np.memmap(file, np.uint8, "r", shape=shape), torch.cat(finite)

    def seconds_per_sample(self) -> float:
        """How long it takes to generate a sample here, measured on the second of two small batches; one process does it alone."""
        n = min(8, self.protocol.n_fake)
        latents = None if self.output.prior is None else self.model.latents(n, self.seed, output=self.output.field)
        conditions: dict[str, Any] = self._conditions(0, n)
        seconds = 0.0
        for _ in range(2):
            started = time.perf_counter()
            for block in self.model.stream(latents, output=self.output.field, seed=self.seed, **conditions):
                block.cpu()
            seconds = time.perf_counter() - started
        return seconds / n

    def _generate(self) -> Iterator[Tensor]:
        """All samples in order, on the CPU, in chunks."""
        n, field = self.protocol.n_fake, self.output.field
        latents = None if self.output.prior is None else self.model.latents(n, self.seed, output=field)

        def generate(start: int, end: int) -> tuple[Tensor]:
            part = None if latents is None else latents[start:end]
            conditions: dict[str, Any] = self._conditions(start, end)
            # Full passes, because fewer samples would be rounded differently, depending on the number of processes.
            blocks = self.model.stream(part, output=field, seed=self.seed, pad=True, first=start, **conditions)
            return (torch.cat([block.cpu() for block in blocks]),)

        return (samples for (samples,) in self._in_chunks("sampling", n, generate))

    def _require_points(self) -> None:
        if not self.spec.points:
            raise LeafwingError("this metric requires points, and the run generates images")


def chunks(n: int) -> Iterator[tuple[int, int]]:
    """Start and end of each chunk of n items."""
    return ((start, min(n, start + BLOCK)) for start in range(0, n, BLOCK))


def repeated(start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """The positions of so many real samples that belong to these samples: if these are more, real ones are repeated."""
    while start < end:
        first = start % number
        last = min(number, first + end - start)
        yield first, last
        start += last - first


def real_images(data: Dataset, seed: int, start: int, end: int) -> Tensor:
    """The images of a data set at these positions of the stream of a seed; those of 16 bits are rounded to 8, like samples."""
    stored = data.batch(seed, start, end - start)
    images = to_images(data.to_network(stored).image)
    return to_floats(to_bytes(images)) if stored.image.dtype == torch.uint16 else images


def stored_order(data: Dataset) -> Iterator[Tensor]:
    """The images of a data set in their stored order."""
    return (images_to_tensor(data.pictures(np.arange(start, end))) for start, end in chunks(len(data)))


def read_features(path: Path) -> np.ndarray | None:
    """Features stored by `write_features`; None if missing, unreadable or changed since."""
    try:
        files.require_file(path)
        content = path.read_bytes()
        features = np.load(io.BytesIO(content[:-4]))
    except Exception:  # damaged files make numpy raise nearly any type
        return None
    is_intact = zlib.crc32(content[:-4]).to_bytes(4, "big") == content[-4:]
    return features if is_intact and features.ndim == 2 and features.dtype == np.float32 else None


def write_features(path: Path, features: np.ndarray) -> None:
    """Caches features, followed by their checksum. Errors are ignored: an unwritable cache only costs time at the next evaluation."""
    buffer = io.BytesIO()
    np.save(buffer, features)
    content = buffer.getvalue()
    with contextlib.suppress(OSError, LeafwingError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, content + zlib.crc32(content).to_bytes(4, "big"))
