"""Batches on a device: every transfer method gives those of `Dataset.batch`, bit for bit, without synchronising."""

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
from leafwing.fields import Box, Caption
from leafwing.game import Batch, DataSpec

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def noise_images(n: int, mirror: bool = False, labelled: bool = True) -> Dataset:
    """n images of noise, 4x3 in two channels."""
    array = np.random.default_rng(0).integers(0, 256, (n, 4, 3, 2), np.uint8)
    columns = {"image": array} | ({"label": np.arange(n) % 3} if labelled else {})
    return Dataset(
        DataSpec.images(4, 3, 2, labels=("a", "b", "c") if labelled else ()), columns, "x", "x", {"mirror": mirror}
    )


def points(n: int) -> Dataset:
    array = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    return Dataset(DataSpec.vectors(2), {"image": array}, "x", "x", {})


def equal_batches(a: Batch, b: Batch) -> bool:
    """Whether two batches have the same fields, bits, types and layout."""
    return a.keys() == b.keys() and all(equal_tensors(value, b[key]) for key, value in a.items())


def equal_tensors(a: torch.Tensor, b: torch.Tensor) -> bool:
    same_layout = a.stride() == b.stride() or not a.numel()
    return a.dtype == b.dtype and same_layout and torch.equal(a.cpu(), b.cpu())


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
    size: int, seed: int, requests: list[tuple[int, int]], mirror: bool, labelled: bool
) -> None:
    """At any position, in any order, across epochs, and for more samples than the data set has."""
    data = noise_images(size, mirror, labelled)
    batches = device.ResidentBatches(data, seed, CPU)
    for images, n in requests:
        assert equal_batches(batches(images, n), data.batch(seed, images, n))


def test_resident_points_give_the_same_batches() -> None:
    data = points(10)
    batches = device.ResidentBatches(data, 3, CPU)
    for images, n in ((0, 4), (8, 4), (5, 23), (7, 0)):
        assert equal_batches(batches(images, n), data.batch(3, images, n))


def test_resident_batches_are_as_stored_and_are_copies() -> None:
    data = noise_images(5)
    batches = device.ResidentBatches(data, 0, CPU)
    batch = batches(0, 5)
    assert (batch.image.dtype, batch.image.shape) == (torch.uint8, (5, 4, 3, 2))
    assert batch.image.is_contiguous()
    batch.image.zero_()
    batch.label.zero_()
    assert equal_batches(batches(0, 5), data.batch(0, 0, 5))


@pytest.mark.parametrize("resident", [True, False])
def test_networks_see_images_with_channels_last_in_memory(resident: bool) -> None:
    """The layout of convolutions, so that no batch is copied again; and the values of 8 bits exactly."""
    data = noise_images(5)
    image = data.batches(0, "cpu", resident=resident)(0, 5).image
    assert (image.dtype, image.shape) == (torch.float32, (5, 2, 4, 3))
    assert image.is_contiguous(memory_format=torch.channels_last)
    stored = data.batch(0, 0, 5).image.permute(0, 3, 1, 2)
    assert torch.equal(((image + 1) * 127.5).round().to(torch.uint8), stored)


@pytest.mark.parametrize("chunk", [1, 24, 100, 10**9])
def test_samples_are_uploaded_in_chunks_from_a_read_only_memory_map(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "CHUNK_BYTES", chunk)
    array = np.random.default_rng(1).integers(0, 256, (7, 4, 3, 2), np.uint8)
    np.save(tmp_path / "pictures.npy", array)
    tensor = device.upload(np.load(tmp_path / "pictures.npy", mmap_mode="r"), CPU)
    assert np.array_equal(tensor.numpy(), array)
    assert device.upload(np.arange(5), CPU).tolist() == [0, 1, 2, 3, 4]
    assert device.upload(np.zeros((0, 4), np.float32), CPU).shape == (0, 4)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_resident_batch_reads_nothing_back(mirror: bool) -> None:
    """The meta device has no values: any code that waits for one fails."""
    batches = noise_images(10, mirror).batches(0, "meta", resident=True)
    for images in range(0, 40, 4):
        batch = batches(images, 4)
        assert (batch.image.shape, batch.image.device.type, batch.label.shape) == ((4, 2, 4, 3), "meta", (4,))


def test_the_order_of_an_epoch_is_uploaded_once_and_two_epochs_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    data, computed = noise_images(10), []
    epoch = Dataset.epoch
    monkeypatch.setattr(
        Dataset, "epoch", lambda self, seed, number, part: computed.append(number) or epoch(self, seed, number, part)
    )
    batches = device.ResidentBatches(data, 0, CPU)
    for images in (0, 4, 8, 4, 12, 16, 8, 20, 16):
        batches(images, 4)
    assert computed == [0, 1, 2]
    batches(0, 25)
    assert computed == [0, 1, 2, 0, 1, 2]
    assert len(batches.epochs) == 2


# --- alternatives -------------------------------------------------------------------------------------------------------------


def captioned(n: int, mirror: bool = False) -> Dataset:
    """n images with one to three captions each; the first word of each caption is the image's number."""
    words = (*(f"word{i}" for i in range(n)), "left", "right", "red", "blue", "star")
    captions = np.zeros((n, 3, 4), np.int64)
    for i in range(n):
        for j in range(1 + i % 3):
            captions[i, j, :3] = (i + 1, n + 1 + j % 2, n + 3 + j)
    image = np.random.default_rng(0).integers(0, 256, (n, 4, 3, 1), np.uint8)
    box = np.random.default_rng(1).random((n, 4)).astype(np.float32) / 2
    spec = DataSpec.images(4, 3, 1, caption=Caption(words, 4), box=Box())
    return Dataset(spec, {"image": image, "caption": captions, "box": box}, "x", "x", {"mirror": mirror})


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 12), st.integers(0, 2**40), st.integers(0, 60), st.lists(st.integers(0, 30), max_size=4), st.booleans()
)
def test_alternatives_are_a_function_of_seed_and_position(
    n: int, seed: int, images: int, cuts: list[int], mirror: bool
) -> None:
    """Whatever the batch size, the transfer method and the number of processes."""
    data = captioned(n, mirror)
    whole = data.batch(seed, images, sum(cuts))
    methods: dict[str, Callable[[int, int], Batch]] = {
        "resident": device.stored_batches(data, seed, CPU, True),
        "prefetched": device.BatchPrefetcher(device.stored_batches(data, seed, CPU, False), CPU),
    }
    halves = [device.stored_batches(data, seed, CPU, bool(rank), rank, 2) for rank in range(2)]
    start = images
    for cut in cuts:
        rows = slice(start - images, start - images + cut)
        for method in methods.values():
            assert equal_batches(method(start, cut), whole.rows(rows))
        parts = [half(start, cut) for half in halves]
        assert all(torch.equal(torch.cat([part[name] for part in parts]), whole.rows(rows)[name]) for name in whole)
        start += cut
    caption, box = data.to_network(whole).caption, data.to_network(whole).box
    assert caption.shape == (sum(cuts), 4)
    assert box.shape == (sum(cuts), 4)


def test_all_captions_of_a_sample_are_shown_over_the_epochs_and_follow_its_image() -> None:
    data = captioned(9)
    shown: dict[int, set[tuple[int, ...]]] = {}
    for epoch in range(30):
        batch = data.batch(0, 9 * epoch, 9)
        for image, caption, box in zip(batch.image, batch.caption.tolist(), batch.box, strict=True):
            number = caption[0] - 1
            assert np.array_equal(image.numpy(), data.array[number])
            assert np.array_equal(box.numpy(), data.columns["box"][number])
            shown.setdefault(number, set()).add(tuple(caption))
    assert {number: len(captions) for number, captions in shown.items()} == {i: 1 + i % 3 for i in range(9)}


@pytest.mark.parametrize("resident", [True, False])
def test_captions_and_boxes_are_mirrored_with_their_image(resident: bool) -> None:
    data, straight = captioned(40, mirror=True), captioned(40)
    mirrored, plain = (device.stored_batches(d, 3, CPU, resident)(0, 40) for d in (data, straight))
    kind = data.spec.fields["caption"]
    flips = [not torch.equal(a, b) for a, b in zip(mirrored.image, plain.image, strict=True)]
    assert 8 < sum(flips) < 32
    for i, flipped in enumerate(flips):
        now, before = mirrored.rows(slice(i, i + 1)), plain.rows(slice(i, i + 1))
        assert torch.equal(now.image, before.image.flip(2) if flipped else before.image)
        assert torch.equal(now.caption, kind.mirror(before.caption) if flipped else before.caption)
        assert torch.allclose(now.box, Box().mirror(before.box) if flipped else before.box)


def test_a_resident_batch_with_alternatives_reads_nothing_back() -> None:
    batches = captioned(10, mirror=True).batches(0, "meta", resident=True)
    assert batches(8, 4).caption.shape == (4, 4)


# --- choice of the transfer method --------------------------------------------------------------------------------------------


def test_choice_of_the_transfer_method(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise_images(100, labelled=False)  # 2,400 bytes

    def methods(target: str, free: int, data: Dataset = data, **options: Any) -> list[str]:
        monkeypatch.setattr(device, "free_memory", lambda where: free)
        used: list[str] = []
        for name in ("ResidentBatches", "BatchPrefetcher"):
            monkeypatch.setattr(device, name, lambda *arguments, name=name: used.append(name))
        data.batches(0, target, **options)
        return used

    assert methods("meta", 9_600) == ["ResidentBatches"]
    assert methods("meta", 9_599) == ["BatchPrefetcher"]
    assert methods("meta", 0, resident=True) == ["ResidentBatches"]
    assert methods("meta", 10**9, resident=False) == ["BatchPrefetcher"]
    assert methods("cpu", 10**9) == methods("cpu", 10**9, resident=False) == []
    other = data.with_stream("other", noise_images(50, labelled=False))  # and 1,200 bytes
    assert methods("meta", 14_400, other) == ["ResidentBatches"]
    assert methods("meta", 14_399, other) == ["BatchPrefetcher"]
    monkeypatch.undo()
    assert device.free_memory(CPU) == 0


def test_on_a_cpu_batches_are_those_of_batch() -> None:
    data = noise_images(10, mirror=True)
    for options in (None, False):
        assert equal_batches(data.batches(4, resident=options)(7, 8), data.to_network(data.batch(4, 7, 8)))


# --- prefetching -------------------------------------------------------------------------------------------------------------


def prefetching(data: Dataset, seed: int = 0) -> tuple[device.BatchPrefetcher, list[tuple[int, int, bool]]]:
    """A prefetched stream, and its requests: position, count, whether in another thread."""
    requests: list[tuple[int, int, bool]] = []

    def read(images: int, n: int) -> Batch:
        requests.append((images, n, threading.current_thread() is not threading.main_thread()))
        return data.batch(seed, images, n)

    return device.BatchPrefetcher(read, CPU), requests


def test_the_next_batch_is_read_by_a_thread_and_any_other_on_demand() -> None:
    batches, requests = prefetching(noise_images(10))
    for images, n in ((0, 4), (4, 4), (0, 4), (4, 3)):
        batches(images, n)
    batches.pending.result()
    assert requests == [
        (0, 4, False), (4, 4, True),
        (8, 4, True),
        (0, 4, False), (4, 4, True),
        (4, 3, False), (7, 3, True),
    ]  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3).map(lambda k: 5 * k), st.just(5)), max_size=12), st.booleans())
def test_prefetching_gives_the_same_batches(requests: list[tuple[int, int]], mirror: bool) -> None:
    data = noise_images(7, mirror)
    batches, _ = prefetching(data, seed=2)
    for images, n in requests:
        assert equal_batches(batches(images, n), data.batch(2, images, n))


def test_a_batch_does_not_change_while_the_next_one_is_read() -> None:
    data = noise_images(10)
    batches, _ = prefetching(data)
    first = batches(0, 4)
    for images in (4, 8, 12):
        batches(images, 4)
    assert equal_batches(first, data.batch(0, 0, 4))


@pytest.mark.parametrize("images", [4, 0])
def test_an_error_in_the_thread_is_raised_by_the_next_call(images: int) -> None:
    data, broken = noise_images(10), [True]

    def read(images: int, n: int) -> Batch:
        if images == 4 and broken:
            raise OSError("the disk is gone")
        return data.batch(0, images, n)

    batches = device.BatchPrefetcher(read, CPU)
    batches(0, 4)
    with pytest.raises(OSError, match="the disk is gone"):
        batches(images, 4)
    broken.clear()
    assert equal_batches(batches(4, 4), data.batch(0, 4, 4))


def test_the_thread_ends_with_the_stream() -> None:
    before = set(threading.enumerate())
    batches, _ = prefetching(noise_images(10))
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
data = Dataset(DataSpec.images(2, 2, 1), {"image": np.zeros((9, 2, 2, 1), np.uint8)}, "x", "x", {})
batches = device.BatchPrefetcher(lambda images, n: data.batch(0, images, n), torch.device("cpu"))
print(batches(0, 4).image.shape[0])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")


# --- several processes -------------------------------------------------------------------------------------------------------

METHODS: dict[str, Callable[[Dataset, tuple[int, int]], Callable[[int, int], Batch]]] = {
    "resident": lambda data, share: data.batches(5, "cpu", resident=True, rank=share[0], world_size=share[1]),
    "read": lambda data, share: data.batches(5, "cpu", rank=share[0], world_size=share[1]),
    "prefetched": lambda data, share: device.BatchPrefetcher(
        data.batches(5, "cpu", rank=share[0], world_size=share[1]), CPU
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_processes_rows_are_the_batch(method: str, processes: int) -> None:
    data = noise_images(10, mirror=True)
    streams = [METHODS[method](data, (rank, processes)) for rank in range(processes)]
    for images, n in ((0, 6), (6, 6), (8, 7), (15, 25), (3, 1), (4, 0)):
        parts = [stream(images, n) for stream in streams]
        whole = data.to_network(data.batch(5, images, n))
        assert all(torch.equal(torch.cat([part[key] for part in parts]), whole[key]) for key in whole)
        assert max(part.n for part in parts) - min(part.n for part in parts) <= 1


def test_a_process_prefetches_its_rows_of_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    data, requests = noise_images(50), []
    batch = Dataset.batch
    monkeypatch.setattr(
        Dataset,
        "batch",
        lambda self, *arguments, **options: requests.append(arguments) or batch(self, *arguments, **options),
    )
    read = device.BatchPrefetcher.__call__
    prefetchers: list[device.BatchPrefetcher] = []
    monkeypatch.setattr(
        device.BatchPrefetcher, "__call__", lambda self, *arguments: prefetchers.append(self) or read(self, *arguments)
    )
    batches = data.batches(0, "meta", resident=False, rank=1, world_size=2)
    for images in (0, 8, 16):
        batches(images, 8)
    prefetchers[0].pending.result()
    assert requests == [(0, 4, 4), (0, 12, 4), (0, 20, 4), (0, 28, 4)]


# --- errors ------------------------------------------------------------------------------------------------------------------


def test_invalid_arguments_are_refused() -> None:
    data = noise_images(5)
    for rank, world_size in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"rank={rank}, world_size={world_size}"):
            data.batches(0, rank=rank, world_size=world_size)
    with pytest.raises(ValueError, match="seed=-1"):
        data.batches(-1)
    for options in (True, None):
        batches = data.batches(0, "cpu", resident=options)
        for images, n in ((-1, 2), (0, -1)):
            with pytest.raises(ValueError, match="negative"):
                batches(images, n)


# --- on a CUDA device --------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("resident", [True, False])
def test_batches_on_cuda_are_the_same_without_synchronising(resident: bool) -> None:
    data = noise_images(100, mirror=True)
    batches = data.batches(1, "cuda", resident=resident)
    batches(0, 8)  # the first one creates streams and buffers
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = [batches(8 * i, 8) for i in range(1, 30)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for i, batch in enumerate(results, 1):
        assert batch.image.is_cuda
        assert equal_batches(batch, data.to_network(data.batch(1, 8 * i, 8)))


@pytest.mark.gpu
@needs_cuda
def test_samples_that_fit_are_resident_on_cuda_and_others_are_prefetched(monkeypatch: pytest.MonkeyPatch) -> None:
    data, used = noise_images(100), []
    assert device.free_memory(torch.device("cuda")) > 0
    for name in ("ResidentBatches", "BatchPrefetcher"):
        monkeypatch.setattr(device, name, lambda *arguments, name=name: used.append(name))
    data.batches(0, "cuda")
    monkeypatch.setattr(device, "MAX_SHARE", 0)
    data.batches(0, "cuda")
    assert used == ["ResidentBatches", "BatchPrefetcher"]
