"""What all tests share: a cache of their own, one CPU thread, and a few small things to play with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch

    from leafwing.game import Batch, DataSpec


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; processes that a test starts inherit the variable."""
    before = os.environ.get("LEAFWING_CACHE")
    os.environ["LEAFWING_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["LEAFWING_CACHE"]
    else:
        os.environ["LEAFWING_CACHE"] = before


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Every test begins with the same number of threads, and none leaves other settings of torch to the next one.

    One thread, because sums split over threads round differently, and tests that run side by side must not fight for cores;
    LEAFWING_TEST_THREADS asks for another number. A test that needs no torch does not wait for it.
    """
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ.get("LEAFWING_TEST_THREADS", "1")))
    yield
    if (torch := sys.modules.get("torch")) is not None:
        found = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        assert found == (torch.float32, True, False), "this test leaves settings to the next one"
        assert torch.backends.mkldnn.enabled
        assert not torch.is_autocast_enabled("cpu")
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.fixture
def tiny() -> DataSpec:
    """The smallest pictures there are, with three classes."""
    from leafwing.game import DataSpec

    return DataSpec(16, 16, 3, labels=("ant", "bee", "cat"), fields=("image", "label"))


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch of random float pictures (or points) of a spec, with labels in turn where it has any."""
    import torch

    from leafwing.game import Batch

    def make(spec: DataSpec, n: int = 4, seed: int = 0) -> Batch:
        image: torch.Tensor = torch.rand(n, *spec.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        fields = {"image": image}
        if spec.labels:
            fields["label"] = torch.arange(n) % len(spec.labels)
        return Batch(fields)

    return make
