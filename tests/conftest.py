"""Fixtures of all tests: a separate cache, the CPU, one thread, a fixed seed, short measurements, and small data."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis

if TYPE_CHECKING:
    import torch

    from leafwing.game import Batch, DataSpec


# The same examples at each run, and no time limits: a failure should be the same the next time.
hypothesis.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis.load_profile("fixed")

OF_OTHERS = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Variables of consoles and launchers, which the program obeys."""


def pytest_configure(config: pytest.Config) -> None:
    """Hides GPUs, unless tests are selected by `-m gpu`: the others are for the CPU. Processes that tests start inherit that."""
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for name in OF_OTHERS:
        os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps tests away from the user's cache; processes that a test starts inherit the variable."""
    before = os.environ.get("LEAFWING_CACHE")
    os.environ["LEAFWING_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["LEAFWING_CACHE"]
    else:
        os.environ["LEAFWING_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def short_measurements() -> None:
    """Speeds are measured for a fraction of a second: tests need some number, and not an accurate one."""
    from leafwing.commands import speed

    speed.WARM_UP, speed.MEASURED = 0.02, 0.1


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Sets seed and number of threads before each test, and checks afterwards that it restored settings that others would see.

    One thread, because the rounding of sums depends on the number, and parallel tests must not compete for cores;
    LEAFWING_TEST_THREADS overrides it. Tests that do not use torch do not import it.
    """
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ.get("LEAFWING_TEST_THREADS", "1")))
        torch.manual_seed(0)
        if torch.backends.mps.is_available():
            torch.backends.mps.is_available = lambda: False
    environment, handlers = settings_of_the_process()
    yield
    after, handlers_after = settings_of_the_process()
    changed = {name for name in {*environment, *after} if environment.get(name) != after.get(name)}
    assert (changed, handlers_after) == (set(), handlers), "this test changed the environment or a signal handler"
    if (torch := sys.modules.get("torch")) is not None:
        state = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        assert state == (torch.float32, True, False), "this test changed settings of torch"
        assert torch.backends.mkldnn.enabled
        assert not torch.is_autocast_enabled("cpu")
        assert not torch.are_deterministic_algorithms_enabled()


def settings_of_the_process() -> tuple[dict[str, str], list[object]]:
    """The variables that change what leafwing does, and the handlers of the signals that stop a training."""
    ours = ("LEAFWING_", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES", "HOME", "TERM", "COLUMNS", *OF_OTHERS)
    environment = {name: value for name, value in os.environ.items() if name.startswith(ours)}
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    return environment, [signal.getsignal(getattr(signal, name)) for name in names if hasattr(signal, name)]


@pytest.fixture
def tiny() -> DataSpec:
    """The smallest valid images, with three classes."""
    from leafwing.game import DataSpec

    return DataSpec.images(16, 16, 3, labels=("ant", "bee", "cat"))


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Makes a batch of random float images (or points) of a spec, with its labels in order."""
    import torch

    from leafwing.game import Batch

    def make(spec: DataSpec, n: int = 4, seed: int = 0) -> Batch:
        image: torch.Tensor = torch.rand(n, *spec.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        fields = {"image": image}
        if spec.labels:
            fields["label"] = torch.arange(n) % len(spec.labels)
        return Batch(fields)

    return make
