"""Batches on a device: every way there gives what `Dataset.batch` gives, bit for bit, and waits for nothing."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leafwing.data import Dataset, device
from leafwing.game import Batch, DataSpec

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def pictures(n: int, mirror: bool = False, labelled: bool = True) -> Dataset:
    """n pictures of noise, 4x3 in two channels."""
    array = np.random.default_rng(0).integers(0, 256, (n, 4, 3, 2), np.uint8)
    labels = np.arange(n) % 3 if labelled else None
    return Dataset(DataSpec(4, 3, 2, ("a", "b", "c") if labelled else ()), array, labels, "x", "x", {"mirror": mirror})


def points(n: int) -> Dataset:
    array = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    return Dataset(DataSpec(0, 0, 2), array, None, "x", "x", {})


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches have the same fields, bits, types and layout."""
    return one.keys() == other.keys() and all(same_tensors(value, other[key]) for key, value in one.items())


def same_tensors(one: torch.Tensor, other: torch.Tensor) -> bool:
    laid_alike = one.stride() == other.stride() or not one.numel()
    return one.dtype == other.dtype and laid_alike and torch.equal(one.cpu(), other.cpu())


# --- samples that stay on the device -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(0, 2**40),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 90)), min_size=1, max_size=5),
    st.booleans(),
    st.booleans(),
)
def test_resident_samples_give_the_same_batches(
    size: int, seed: int, asked: list[tuple[int, int]], mirror: bool, labelled: bool
) -> None:
    """At any position, in any order, over borders of epochs, and for more samples than there are."""
    data = pictures(size, mirror, labelled)
    batches = data.batches(seed, "cpu", resident=True)
    assert isinstance(batches, device.Resident)
    for images, n in asked:
        assert same(batches(images, n), data.batch(seed, images, n))


def test_resident_points_give_the_same_batches() -> None:
    data = points(10)
    batches = data.batches(3, "cpu", resident=True)
    for images, n in ((0, 4), (8, 4), (5, 23), (7, 0)):
        assert same(batches(images, n), data.batch(3, images, n))


def test_resident_batches_are_uint8_with_channels_last_and_are_copies() -> None:
    data = pictures(5)
    batches = data.batches(0, "cpu", resident=True)
    batch = batches(0, 5)
    assert (batch.image.dtype, batch.image.shape) == (torch.uint8, (5, 2, 4, 3))
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    batch.image.zero_()
    batch.label.zero_()
    assert same(batches(0, 5), data.batch(0, 0, 5))


@pytest.mark.parametrize("piece", [1, 24, 100, 10**9])
def test_samples_are_uploaded_piece_by_piece_from_a_map_that_may_not_be_written(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "CHUNK_BYTES", piece)
    array = np.random.default_rng(1).integers(0, 256, (7, 4, 3, 2), np.uint8)
    np.save(tmp_path / "pictures.npy", array)
    held = device.upload(np.load(tmp_path / "pictures.npy", mmap_mode="r"), CPU)
    assert np.array_equal(held.numpy(), array)
    assert device.upload(np.arange(5), CPU).tolist() == [0, 1, 2, 3, 4]
    assert device.upload(np.zeros((0, 4), np.float32), CPU).shape == (0, 4)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_resident_batch_reads_nothing_back(mirror: bool) -> None:
    """The meta device holds no values: whatever would wait for one fails there."""
    batches = pictures(10, mirror).batches(0, "meta", resident=True)
    for images in range(0, 40, 4):
        batch = batches(images, 4)
        assert (batch.image.shape, batch.image.device.type, batch.label.shape) == ((4, 2, 4, 3), "meta", (4,))


def test_the_order_of_an_epoch_is_sent_once_and_two_epochs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data, drawn = pictures(10), []
    epoch = Dataset.epoch
    monkeypatch.setattr(Dataset, "epoch", lambda self, seed, number: drawn.append(number) or epoch(self, seed, number))
    batches = data.batches(0, "cpu", resident=True)
    for images in (0, 4, 8, 4, 12, 16, 8, 20, 16):
        batches(images, 4)
    assert drawn == [0, 1, 2]
    batches(0, 25)
    assert drawn == [0, 1, 2, 0, 1, 2]
    assert len(batches.epochs) == 2


# --- which way is taken ------------------------------------------------------------------------------------------------------


def test_which_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures(100, labelled=False)  # 2,400 bytes

    def way(place: str, free: int, **how: Any) -> type:
        monkeypatch.setattr(device, "free_memory", lambda where: free)
        return type(data.batches(0, place, **how))

    assert way("meta", 9_600) is device.Resident
    assert way("meta", 9_599) is device.Prefetched
    assert way("meta", 0, resident=True) is device.Resident
    assert way("meta", 10**9, resident=False) is device.Prefetched
    assert way("cpu", 10**9) not in (device.Resident, device.Prefetched)
    assert way("cpu", 10**9, resident=False) not in (device.Resident, device.Prefetched)
    monkeypatch.undo()
    assert device.free_memory(CPU) == 0


def test_on_a_cpu_batches_are_those_of_batch() -> None:
    data = pictures(10, mirror=True)
    for how in (None, False):
        assert same(data.batches(4, resident=how)(7, 8), data.batch(4, 7, 8))


# --- one batch ahead ---------------------------------------------------------------------------------------------------------


def read_ahead(data: Dataset, seed: int = 0) -> tuple[device.Prefetched, list[tuple[int, int, bool]]]:
    """A stream that reads ahead, and what it reads: position, count, whether by a thread of its own."""
    seen: list[tuple[int, int, bool]] = []

    def read(images: int, n: int) -> Batch:
        seen.append((images, n, threading.current_thread() is not threading.main_thread()))
        return data.batch(seed, images, n)

    return device.Prefetched(read, CPU), seen


def test_the_next_batch_is_read_by_a_thread_and_any_other_when_it_is_asked_for() -> None:
    batches, seen = read_ahead(pictures(10))
    for images, n in ((0, 4), (4, 4), (0, 4), (4, 3)):
        batches(images, n)
    batches.pending.result()
    assert seen == [
        (0, 4, False), (4, 4, True),
        (8, 4, True),
        (0, 4, False), (4, 4, True),
        (4, 3, False), (7, 3, True),
    ]  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3).map(lambda k: 5 * k), st.just(5)), max_size=12), st.booleans())
def test_reading_ahead_gives_the_same_batches(asked: list[tuple[int, int]], mirror: bool) -> None:
    data = pictures(7, mirror)
    batches, _ = read_ahead(data, seed=2)
    for images, n in asked:
        assert same(batches(images, n), data.batch(2, images, n))


def test_a_batch_does_not_change_while_the_next_one_is_read() -> None:
    data = pictures(10)
    batches, _ = read_ahead(data)
    first = batches(0, 4)
    for images in (4, 8, 12):
        batches(images, 4)
    assert same(first, data.batch(0, 0, 4))


@pytest.mark.parametrize("images", [4, 0])
def test_what_goes_wrong_in_the_thread_is_raised_by_the_next_call_whatever_it_asks_for(images: int) -> None:
    data, broken = pictures(10), [True]

    def read(images: int, n: int) -> Batch:
        if images == 4 and broken:
            raise OSError("the disk has gone")
        return data.batch(0, images, n)

    batches = device.Prefetched(read, CPU)
    batches(0, 4)
    with pytest.raises(OSError, match="the disk has gone"):
        batches(images, 4)
    broken.clear()
    assert same(batches(4, 4), data.batch(0, 4, 4))


def test_the_thread_ends_with_the_stream() -> None:
    before = set(threading.enumerate())
    batches, _ = read_ahead(pictures(10))
    batches(0, 4)
    (thread,) = set(threading.enumerate()) - before
    del batches
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_the_thread_ends_with_the_process() -> None:
    program = """
import numpy as np, torch
from leafwing.data import Dataset, device
from leafwing.game import DataSpec
data = Dataset(DataSpec(2, 2, 1), np.zeros((9, 2, 2, 1), np.uint8), None, "x", "x", {})
batches = device.Prefetched(lambda images, n: data.batch(0, images, n), torch.device("cpu"))
print(batches(0, 4).image.shape[0])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")


# --- several processes -------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[Dataset, tuple[int, int]], Callable[[int, int], Batch]]] = {
    "resident": lambda data, share: data.batches(5, "cpu", resident=True, share=share),
    "read": lambda data, share: data.batches(5, "cpu", share=share),
    "ahead": lambda data, share: device.Prefetched(data.batches(5, "cpu", share=share), CPU),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_processes_rows_are_the_batch(way: str, processes: int) -> None:
    data = pictures(10, mirror=True)
    streams = [WAYS[way](data, (rank, processes)) for rank in range(processes)]
    for images, n in ((0, 6), (6, 6), (8, 7), (15, 25), (3, 1), (4, 0)):
        parts = [stream(images, n) for stream in streams]
        whole = data.batch(5, images, n)
        assert all(torch.equal(torch.cat([part[key] for part in parts]), whole[key]) for key in whole)
        assert max(part.n for part in parts) - min(part.n for part in parts) <= 1


def test_a_process_reads_its_own_rows_of_the_next_batch_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = pictures(50), []
    batch = Dataset.batch
    monkeypatch.setattr(Dataset, "batch", lambda self, *given, **how: seen.append(given) or batch(self, *given, **how))
    batches = data.batches(0, "meta", resident=False, share=(1, 2))
    for images in (0, 8, 16):
        batches(images, 8)
    batches.pending.result()
    assert seen == [(0, 4, 4), (0, 12, 4), (0, 20, 4), (0, 28, 4)]


# --- what is refused ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused() -> None:
    data = pictures(5)
    for share in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="share"):
            data.batches(0, share=share)
    with pytest.raises(ValueError, match="seed=-1"):
        data.batches(-1)
    for how in (True, None):
        batches = data.batches(0, "cpu", resident=how)
        for images, n in ((-1, 2), (0, -1)):
            with pytest.raises(ValueError, match="negative"):
                batches(images, n)


# --- on a CUDA device --------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("resident", [True, False])
def test_batches_on_cuda_are_the_same_and_wait_for_nothing(resident: bool) -> None:
    data = pictures(100, mirror=True)
    batches = data.batches(1, "cuda", resident=resident)
    batches(0, 8)  # the first one makes streams and buffers
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [batches(8 * i, 8) for i in range(1, 30)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for i, batch in enumerate(found, 1):
        assert batch.image.is_cuda
        assert same(batch, data.batch(1, 8 * i, 8))


@pytest.mark.gpu
@needs_cuda
def test_samples_that_fit_stay_on_cuda_and_others_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures(100)
    assert device.free_memory(torch.device("cuda")) > 0
    assert isinstance(data.batches(0, "cuda"), device.Resident)
    monkeypatch.setattr(device, "MAX_SHARE", 0)
    assert isinstance(data.batches(0, "cuda"), device.Prefetched)
