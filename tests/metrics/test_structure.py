"""The structure distance: what changes it, what does not, and what it is compared with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, pictures
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from leafwing.metrics import structure
from leafwing.metrics.structure import descriptors, distance, self_similarity, to_brightness

pytestmark = pytest.mark.machine


def measures(source: Tensor, fake: Tensor) -> dict[str, float]:
    values = structure.measure(FakeEvidence(fake, fake, source=source))
    assert [measure.better for measure in values] == ["lower", ""]
    return {measure.name: measure.value for measure in values}


def sprites(n: int = 12, fill: float = 1.0, width: int = 0) -> Tensor:
    """A bright disc on black somewhere else in each image; only its outline with a width."""
    random = torch.Generator().manual_seed(3)
    x, y, size = (torch.randint(low, high, (n, 1, 1), generator=random) for low, high in ((14, 50), (14, 50), (6, 13)))
    rows, columns = torch.arange(64)[:, None], torch.arange(64)[None]
    radius = ((columns - x) ** 2 + (rows - y) ** 2).float().sqrt()
    inside = (radius <= size) & (radius >= (size - width if width else 0))
    return (inside.float() * (fill + 1) - 1)[:, None].expand(-1, 3, -1, -1).clone()


def test_the_same_structure_has_distance_0() -> None:
    images = pictures(0, 9)
    for other in (images, -images, images * 0.5, images * 0.5 + 0.3):
        assert measures(images, other)["structure_distance"] == pytest.approx(0, abs=1e-6)


def test_colours_hardly_matter_and_layout_does() -> None:
    images = sprites()
    coloured = torch.stack([images[:, 0] * 0.2 - 0.5, images[:, 1], images[:, 2] * 0.1 + 0.4], 1)
    values = {
        "colours": measures(images, coloured)["structure_distance"],
        "outlines": measures(images, sprites(width=2))["structure_distance"],
        "blur": measures(images, interpolate(avg_pool2d(images, 4), scale_factor=4))["structure_distance"],
        "moved": measures(images, images.roll(12, 3))["structure_distance"],
        "another": measures(images, images.roll(1, 0))["structure_distance"],
    }
    assert values["colours"] < 0.05
    assert values["outlines"] < 0.5 * values["another"]
    assert values["blur"] < 0.5 * values["another"]
    assert values["moved"] > 0.7 * values["another"]
    assert values["another"] > 0.5


def test_a_translation_that_ignores_its_input_is_as_far_from_other_inputs() -> None:
    images = sprites()
    values = measures(images, sprites().roll(5, 0))
    assert values["structure_distance"] == pytest.approx(values["structure_others"], abs=0.25)
    kept = measures(images, images)
    assert kept["structure_others"] > 10 * kept["structure_distance"] + 0.5


def test_a_single_sample_has_no_other() -> None:
    values = measures(sprites(1), sprites(1, width=2))
    assert np.isnan(values["structure_others"])
    assert np.isfinite(values["structure_distance"])


def test_chunks_do_not_matter() -> None:
    """The others are the sources one sample earlier, also at the border of a chunk."""
    images, fake = sprites(20), sprites(20, width=2)
    s, f = (self_similarity(to_brightness(side, (64, 64))) for side in (images, fake))
    values = measures(images, fake)
    assert values["structure_distance"] == pytest.approx(distance(s, f).mean())
    others = np.concatenate([distance(s[6:7], f[:1]), distance(s[:-1], f[1:])])  # the first chunk has 7 samples
    assert values["structure_others"] == pytest.approx(others.mean())


def test_self_similarity_equals_its_definition() -> None:
    images = to_brightness(pictures(1, 2, height=16, width=24), (16, 24))
    vectors = descriptors(images)
    assert vectors.shape == (2, 4 * 6, 5)
    cosine = torch.nn.functional.cosine_similarity(vectors[:, :, None], vectors[:, None], dim=3)
    assert torch.allclose(self_similarity(images), cosine.float(), atol=1e-6)
    a, b = self_similarity(images)
    expected = 1 - np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1]
    assert distance(a[None], b[None])[0] == pytest.approx(expected, abs=1e-6)


def test_flat_images_are_defined() -> None:
    flat, images = torch.zeros(4, 3, 32, 32), pictures(0, 4, height=32, width=32)
    assert measures(flat, flat)["structure_distance"] == 0
    assert measures(flat, images)["structure_distance"] == 1


def test_sizes_and_channels_may_differ() -> None:
    images = pictures(0, 4, height=64, width=48)
    images = images[:, :1].expand(-1, 3, -1, -1)
    small = avg_pool2d(images[:, :1], 4)
    assert measures(small, images)["structure_distance"] < 0.1
    assert measures(images[:, :1].expand(-1, 3, -1, -1), torch.cat([images[:, :1], torch.ones(4, 1, 64, 48)], 1))[
        "structure_distance"
    ] == pytest.approx(0, abs=1e-6)
