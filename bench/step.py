"""The training step compared with plain PyTorch: the networks and the step of the DCGAN tutorial, and `dcgan` with identical shapes.

    python bench/step.py

The baseline is the tutorial as usually written: eager fp32, NCHW, torch.optim.Adam, two passes of D, a DataLoader over JPEG files.
Each side runs in its own process, because allocator settings belong to a process; they take turns, one waiting while the other
trains, and rows hold the medians of the paired ratios.

The possible ratio depends on the machine, so each row has its limit: the ratio if every operation of our round ran as fast as the
fastest matrix product of this machine in our precision, measured in the same run (`limit_ratio`), and the share of it
(`share_of_limit`). `baseline_share` is the baseline's share of the fastest product in fp32, which it uses. One row per comparison;
the last line of output holds the ratios, limits and shares.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from alternate import Steps, Timing, interleave
from leafwing import recipes
from leafwing.data import load
from leafwing.engine import Engine, choose, synchronise
from leafwing.game import Batch
from leafwing.loop import Training
from leafwing.machine import versions
from rows import argument_parser, store

SIZE, LATENT = 64, 100


# --- the baseline -----------------------------------------------------------------------------------------------------------


def tutorial_networks(width: int) -> tuple[nn.Module, nn.Module]:
    """G and D of the DCGAN tutorial for 64 px."""
    up = [nn.ConvTranspose2d(LATENT, width * 8, 4, 1, 0, bias=False), nn.BatchNorm2d(width * 8), nn.ReLU(True)]
    down = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for k in (4, 2, 1):
        up += [nn.ConvTranspose2d(width * 2 * k, width * k, 4, 2, 1, bias=False), nn.BatchNorm2d(width * k), nn.ReLU(True)]
    for k in (1, 2, 4):
        down += [nn.Conv2d(width * k, width * 2 * k, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 2 * k)]
        down += [nn.LeakyReLU(0.2, inplace=True)]
    up += [nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh()]
    down += [nn.Conv2d(width * 8, 1, 4, 1, 0, bias=False), nn.Sigmoid()]
    nets = nn.Sequential(*up), nn.Sequential(*down)
    for net in nets:
        net.apply(tutorial_weights)
    return nets


def tutorial_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class Folder(torch.utils.data.Dataset[Tensor]):
    """JPEG files, decoded, resized, centre-cropped and normalised on access."""

    def __init__(self, folder: str) -> None:
        self.files = sorted(Path(folder).glob("*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        picture = Image.open(self.files[index]).convert("RGB")
        scale = SIZE / min(picture.size)
        if scale != 1:
            picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BILINEAR)
        left, top = ((side - SIZE) // 2 for side in picture.size)
        picture = picture.crop((left, top, left + SIZE, top + SIZE))
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).contiguous()
        return pixels.float().div(255).sub(0.5).div(0.5)


def tutorial(batch: int, width: int, folder: str, device: str) -> Iterator[None]:
    """One step of the tutorial per `next`, on images of a folder, or on one constant batch without a folder."""
    torch.manual_seed(0)
    netG, netD = (net.to(device) for net in tutorial_networks(width))
    criterion = nn.BCELoss()
    optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-4, betas=(0.5, 0.999))
    loader: Any = [torch.rand(batch, 3, SIZE, SIZE) * 2 - 1]
    if folder:
        workers = 2 if device != "cpu" else 0  # on two cores one worker is slower than none
        loader = torch.utils.data.DataLoader(Folder(folder), batch, shuffle=True, drop_last=True, num_workers=workers)
    while True:
        for real_cpu in loader:
            netD.zero_grad()
            real = real_cpu.to(device)
            label = torch.full((batch,), 1.0, device=device)
            errD_real = criterion(netD(real).view(-1), label)
            errD_real.backward()
            noise = torch.randn(batch, LATENT, 1, 1, device=device)
            fake = netG(noise)
            label.fill_(0.0)
            errD_fake = criterion(netD(fake.detach()).view(-1), label)
            errD_fake.backward()
            optimizerD.step()
            netG.zero_grad()
            label.fill_(1.0)
            errG = criterion(netD(fake).view(-1), label)
            errG.backward()
            optimizerG.step()
            errD_real.item(), errG.item()  # the tutorial prints them
            yield


def baseline(batch: int, width: int, folder: str, device: str) -> Steps:
    """The training function of the tutorial."""
    training = tutorial(batch, width, folder, device)

    def steps(count: int) -> None:
        for _ in range(count):
            next(training)

    return steps


# --- leafwing ----------------------------------------------------------------------------------------------------------------


def training_of(batch: int, width: int, folder: str, device: str, **setup_options: Any) -> Training:
    """`dcgan` with the tutorial's shapes, on images of a folder or on one constant batch."""
    from leafwing.game import DataSpec

    spec = DataSpec.images(SIZE, SIZE)
    # All threads: the waiting process of the other side would count as another program.
    setup = choose(device, **{"threads": torch.get_num_threads(), **setup_options})
    if folder:
        batches = load(folder, size=SIZE).batches(0, setup.device)
    else:
        pixels = torch.randint(0, 256, (batch, SIZE, SIZE, 3), dtype=torch.uint8).to(setup.device)
        batches = lambda images, n: Batch(image=spec.fields["image"].to_network(pixels))  # noqa: E731
    torch.manual_seed(0)
    options = recipes.describe("dcgan").resolve({"batch": batch, "width": width})
    game = recipes.build("dcgan", recipes.find("dcgan"), spec, options)
    return Training(game, batches, Engine(game, setup), images=10**12, batch=batch)


def ours(batch: int, width: int, folder: str, device: str, **setup_options: Any) -> Steps:
    """The training function of `dcgan`, with these options of the engine."""
    training = training_of(batch, width, folder, device, **setup_options)

    def steps(count: int) -> None:
        until = training.clock.images + count * batch
        for _ in training.ticks(10**12, should_stop=lambda clock: clock.images >= until):
            pass

    return steps


# --- the machine's limit -----------------------------------------------------------------------------------------------------


def summarise(seconds: dict[str, Timing], images: int) -> dict[str, float]:
    """The median of the paired ratios, and the speed and memory of each side."""
    baseline, leafwing = seconds["baseline"], seconds["leafwing"]
    ratios = [a / b for a, b in zip(baseline.seconds, leafwing.seconds, strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        **{f"{side}_images_per_second": round(images / timed.median, 1) for side, timed in seconds.items()},
        **{f"{side}_peak_mib": round(timed.peak / 2**20) for side, timed in seconds.items()},
    }


def flops_per_image(batch: int, width: int) -> tuple[float, float]:
    """Floating-point operations of one round per real image: the tutorial's, and leafwing's."""
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for steps in (baseline(batch, width, "", "cpu"), ours(batch, width, "", "cpu")):
        with FlopCounterMode(display=False) as counter:
            steps(1)
        counts.append(counter.get_total_flops() / batch)
    return counts[0], counts[1]


def products(device: str, precision: str, side: int, seconds: float) -> list[float]:
    """FLOP/s of square matrix products that are computed for `seconds`."""
    a, b = (
        torch.randn(side, side, device=device).to(torch.bfloat16 if precision == "bf16" else torch.float32) for _ in range(2)
    )
    speeds: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        synchronise(device)
        started = time.perf_counter()
        a @ b
        synchronise(device)
        speeds.append(2 * side**3 / (time.perf_counter() - started))
    return speeds


def limits(result: dict[str, float], peak_fp32: float, peak: float, flops: tuple[float, float]) -> dict[str, float]:
    """The limit of the ratio on this machine, our share of it, and the baseline's share of its limit in fp32.

    Args:
        result: from `summarise`.
        peak_fp32, peak: GFLOP/s of the fastest matrix product in fp32 and in our precision.
        flops: operations per image of the baseline's round and of ours.
    """
    flop_baseline, flop_leafwing = flops
    baseline_speed, limit_speed = result["baseline_images_per_second"], peak * 1e9 / flop_leafwing
    return {
        "limit_ratio": round(limit_speed / baseline_speed, 2),
        "share_of_limit": round(result["leafwing_images_per_second"] / limit_speed, 3),
        "baseline_share": round(baseline_speed * flop_baseline / (peak_fp32 * 1e9), 3),
        "peak_fp32_gflops": round(peak_fp32, 1),
        "peak_gflops": round(peak, 1),
    }


def matmul_peak(device: str, precision: str, seconds: float = 2.0) -> tuple[float, int]:
    """FLOP/s of the fastest square matrix product over several sizes, and its size."""
    sizes = (1024, 2048, 4096) if device == "cpu" else (4096, 8192, 16384)
    return max((max(products(device, precision, side, seconds)), side) for side in sizes)


def copying(threads: int) -> float:
    """Bytes/s of a copy by this number of threads, larger than the caches."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    target, source = torch.empty(1 << 26, dtype=torch.uint8), torch.ones(1 << 26, dtype=torch.uint8)
    speeds = []
    for _ in range(6):
        started = time.perf_counter()
        target.copy_(source)
        speeds.append(2 * source.numel() / (time.perf_counter() - started))
    torch.set_num_threads(threads_before)
    return statistics.median(speeds)


def cores_apart() -> float:
    """How many times as fast all threads copy as one: about 1 if the cores of a virtual machine share a cache and its path to
    memory, more if its host runs them on different ones. A host may move them at any time.
    """
    return copying(torch.get_num_threads()) / copying(1)


def share_of_peak(batch: int, width: int, device: str, precision: str, repetitions: int, steps: int) -> dict[str, Any]:
    """Time steps and matrix products in turn, in one process, because a machine's clock drifts; medians of the pairs.

    `share` is relative to the fastest product within half a second, `share_of_usual` to the median one. On a CPU each pair has the
    value of `cores_apart`.
    """
    flop_baseline, flop_leafwing = flops_per_image(batch, width)
    train = ours(batch, width, "", device)
    train(3)
    _, side = matmul_peak(device, precision, 0.5)
    pairs: dict[str, list[float]] = {
        name: [] for name in ("share", "share_of_usual", "images_per_second", "peak", "cores_apart")
    }
    for _ in range(repetitions):
        pairs["cores_apart"].append(round(cores_apart(), 2) if device == "cpu" else 0.0)
        synchronise(device)
        started = time.perf_counter()
        train(steps)
        synchronise(device)
        speed = batch * steps / (time.perf_counter() - started)
        product_speeds = products(device, precision, side, 0.5)
        pairs["images_per_second"].append(round(speed, 1))
        pairs["peak"].append(round(max(product_speeds) / 1e9, 1))
        pairs["share"].append(round(speed * flop_leafwing / max(product_speeds), 3))
        pairs["share_of_usual"].append(round(speed * flop_leafwing / statistics.median(product_speeds), 3))
    return {
        "gflop_baseline": round(flop_baseline / 1e9, 3),
        "gflop_leafwing": round(flop_leafwing / 1e9, 3),
        "peak_gflops": statistics.median(pairs["peak"]),
        "images_per_second": statistics.median(pairs["images_per_second"]),
        "share_of_peak": statistics.median(pairs["share"]),
        "share_of_usual": statistics.median(pairs["share_of_usual"]),
        "pairs": pairs,
    }


def jpegs(folder: Path, size: int, n: int) -> str:
    """A folder of n JPEG files: smooth random colours with some grain, so that decoding takes its usual time."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(n):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        grain = generator.normal(0, 6, (size, size, 3))
        Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(
            folder / f"{i:05d}.jpg", quality=90
        )
    return str(folder)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--width", type=int, default=64, help="width of the networks")
    parser.add_argument("--repetitions", type=int, default=5, help="number of repetitions")
    parser.add_argument("--steps", type=int, default=8, help="training steps per repetition")
    parser.add_argument(
        "--only",
        help="only this one: step_ratio_64, step_ratio_128, end_to_end_ratio_64px, end_to_end_ratio_512px, share_of_peak",
    )
    args = parser.parse_args()
    setup = choose(args.device, threads=torch.get_num_threads())
    device = setup.device
    common = {
        "device": setup.device,
        "precision": setup.precision,
        "threads": setup.threads,
        "width": args.width,
        **versions(),
    }
    summary: dict[str, Any] = {}
    peaks = {kind: matmul_peak(device, kind, 1.0)[0] / 1e9 for kind in {"fp32", setup.precision}}
    with tempfile.TemporaryDirectory() as scratch:
        cases = [("step_ratio_64", 64, ""), ("step_ratio_128", 128, "")]
        cases += [
            (f"end_to_end_ratio_{size}px", 128, jpegs(Path(scratch) / str(size), size, n))
            for size, n in ((64, 2048), (512, 1024))
        ]
        for name, batch, folder in (case for case in cases if args.only in (None, case[0])):
            arguments = (batch, args.width, folder, device)
            variants = {"baseline": (baseline, arguments), "leafwing": (ours, arguments)}
            result = summarise(interleave(variants, device, args.repetitions, args.steps), batch * args.steps)
            result |= limits(result, peaks["fp32"], peaks[setup.precision], flops_per_image(batch, args.width))
            store({"bench": "step", "case": name, "batch": batch, **result, **common}, args.results)
            summary[name] = {key: result[key] for key in ("ratio", "limit_ratio", "share_of_limit")}
        if args.only in (None, "share_of_peak"):
            row = share_of_peak(64, args.width, device, setup.precision, 3 * args.repetitions, args.steps)
            store({"bench": "step", "case": "share_of_peak", "batch": 64, **row, **common}, args.results)
            summary["share_of_peak"] = row["share_of_peak"]
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
