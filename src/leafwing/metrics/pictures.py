"""The Evidence of pictures that another program generated: a data set takes the place of a run's samples."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.metrics import OF_PICTURES
from leafwing.metrics.features import Features
from leafwing.metrics.protocol import Protocol
from leafwing.metrics.samples import Samples
from leafwing.metrics.targets import frames, target
from leafwing.pixels import images_to_tensor
from leafwing.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.engine.processes import Processes


class PictureEvidence(Samples):
    """Real images, and generated pictures as samples; see `evidence.Evidence`.

    Args:
        pictures: the generated pictures, of the size and the channels of the real ones.
        real: the real images, which count as training set where a metric asks for one.
        protocol: the conditions; `n_fake` of the pictures are used, in an order chosen by the seed, because files are often named by
            class, and memorisation looks at the first ones.
        features: the feature network; None if no metric needs one.
        cache: folder for cached features of the real images.
        processes: the processes that share the work.
        report_progress: progress callback.
    """

    def __init__(
        self,
        pictures: Dataset,
        real: Dataset,
        protocol: Protocol,
        features: Features | None,
        *,
        cache: Path,
        processes: Processes,
        report_progress: ProgressCallback = no_progress,
    ) -> None:
        super().__init__(
            real, protocol, features,
            parts=lambda: real.split(0), cache=cache, processes=processes, report_progress=report_progress,
        )  # fmt: skip
        self.pictures = frames(target(pictures, protocol.output))

    @cached_property
    def _chosen(self) -> np.ndarray:
        """int64 (n_fake,): the pictures that are used."""
        return np.random.default_rng(self.seed).permutation(len(self.pictures))[: self.n_fake]

    def _fake(self, start: int, end: int) -> Tensor:
        return images_to_tensor(self.pictures.pictures(self._chosen[start:end]))

    def sample_numbers(self) -> list[int]:
        """The number of each of the pictures that are used among all of them, in the order of the files."""
        numbers: list[int] = self._chosen.tolist()
        return numbers

    def copies(self) -> int:
        """The number of pictures that equal a real image in every pixel. Only digests of the pictures are held in memory."""
        generated = Counter(_digest(row) for part in self.fake_pictures() for row in part)
        real = {digest for part in self.train_pictures() for row in part if (digest := _digest(row)) in generated}
        return sum(generated[digest] for digest in real)

    def fake_labels(self) -> None:
        """None: nobody knows from which classes the pictures were generated."""

    def _refuse(self, *_: Any, **__: Any) -> Never:
        raise LeafwingError(f"this metric needs a run; for pictures there are {', '.join(OF_PICTURES)}")

    pairs = with_sources = cycles = inputs = fake_points = generate = latents = _refuse


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()
