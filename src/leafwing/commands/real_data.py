"""The real data that a run is compared with, and the protocol: the conditions of the measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing.commands.selection import WITHOUT_NETWORK, world_of
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.machine import available_memory
from leafwing.progress import Reporter
from leafwing.quantities import plural, show_bytes
from leafwing.runs import Run

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.fields import Field
    from leafwing.game import DataSpec, Output
    from leafwing.metrics.protocol import Protocol
    from leafwing.metrics.segmenter import Segmenter

MIN_SAMPLES = 6
"""Below this, not all metrics of sets are defined."""
MAX_DEFAULT_SAMPLES, MAX_SLOW_SAMPLES = 5_000, 1_000
"""The default number of samples is at most the first, and at most the second with one of the networks `SLOW`."""
SLOW = ("lite0", "inception")
"""Feature networks that take 8 ms and more of CPU time per image, so that 5,000 samples cost more than a short training."""
DIMENSIONS = {"pixels": 768, "own": 128, "lite0": 112, "inception": 2_048}
"""The numbers per image that each of them computes, at most."""


@dataclass(frozen=True)
class RealData:
    """The real data of an evaluation.

    Args:
        real: the real samples.
        split: which part of the run's data they are; see `Protocol`.
        held_out: number of samples held out of training; with other data, of unpaired ones from which images are generated.
        splits: returns the training set and the held-out set of the run.
        held_out_by: the field by which the run's samples were held out together; empty if by none.
    """

    real: Dataset
    split: str
    held_out: int
    splits: Callable[[], tuple[Dataset, Dataset]]
    held_out_by: str = ""


def load_real_data(
    run: Run,
    data: str | Path | None,
    progress: Reporter,
    instead: str = ", or compare with other images (--data)",
    field: str = "image",
) -> RealData:
    """The real data to compare with: other data if given, else the held-out data, else the training data.

    Args:
        run: the run.
        data: other data. Where inputs are unpaired, they are read as this field, and the other one is the run's: its held-out part if
            there is one.
        progress: receives messages and progress.
        instead: further advice where the run's images have changed.
        field: the output that is compared with them.

    Raises:
        LeafwingError: the data cannot be read.
    """
    from leafwing.commands.feeding import Advice, reload_data, split_data

    held_out, by, back = run.data.held_out, run.data.held_out_by or "", "move them back"
    moved = back if run.data.sources else "--data PATH, once, because they are then in the cache"
    advice = Advice(moved, back, "restore them" + (instead if data is None else ""))

    @cache
    def splits() -> tuple[Dataset, Dataset]:
        return split_data(replace(run.data, labelled=None), reload_data(run, progress, advice=advice))

    if data is None:
        training_set, held_out_set = splits()
        if held_out:
            return RealData(held_out_set, "held-out", held_out, splits, by)
        return RealData(training_set, "train", 0, splits)
    if run.spec.points:
        raise InvalidOption(
            "data", data, f"other data must be images, and {run.folder} generates points like {run.data.source}"
        )
    if (Path(data) / "run.json").exists():
        raise InvalidOption("data", data, "it is a run folder, and real images are needed; runs are evaluated one by one")
    real, sources = _read_as(run, data, field, progress), 0
    if run.data.parts:
        real, sources = _join_other_field(run, real, field, splits, progress)
    if real.fingerprint == run.data.fingerprint:
        return RealData(real, "all" if held_out else "train", held_out, splits, by)
    return RealData(real, "other", sources, splits, by)


def _read_as(run: Run, data: str | Path, field: str, progress: Reporter) -> Dataset:
    """Other data, read as a field of the run is."""
    from leafwing.commands.feeding import inherited_options
    from leafwing.data import load
    from leafwing.data.locating import locate

    place, is_second = locate(data), bool(run.data.parts) and field in run.spec.unpaired
    options = inherited_options(run.data, place)
    options |= {"size": (run.spec.height, run.spec.width), "channels": run.spec.channels}
    recorded = {name: value for name, value in run.data.options.items() if name in ("levels", "input_levels")}
    if run.data.parts:
        value = recorded.get("input_levels" if is_second else "levels")
        recorded = {"levels": value} if value else {}
        others = ("input", "levels", "input_levels", *(("fields", "labels", "bits") if is_second else ()))
        options = {name: value for name, value in options.items() if name not in others}
    if is_second:
        kind: Any = run.spec.fields[field]
        options |= {"channels": kind.channels} | ({"bits": 16} if kind.bits == 16 else {})
        if (labels := (run.data.parts or {}).get("input_labels")) and not isinstance(place, str):
            options["labels"] = labels
    levels = {} if isinstance(place, str) else recorded
    try:
        return load(data, **options | levels, progress=progress.report_reading)
    except InvalidOption as error:
        if error.name not in levels:
            raise
        progress.say(f"{data}: not mapped to black and white like the images of {run.folder}, because {error.reason}")
        return load(data, **options, progress=progress.report_reading)


def _join_other_field(
    run: Run, real: Dataset, field: str, splits: Callable[[], tuple[Dataset, Dataset]], progress: Reporter
) -> tuple[Dataset, int]:
    """Other data as one field of an unpaired run, with the run's own samples of the other one; and how many of these were held out.

    Says so if the run was trained on them.
    """
    import numpy as np

    from leafwing.data.loading import join_sources

    def rows_of(data: Dataset) -> np.ndarray:
        return np.arange(len(data)) if data.rows is None else data.rows

    is_second = field in run.spec.unpaired
    training, held_out = (part.without_streams() if is_second else part.streams["input"].data for part in splits())
    partners = held_out if len(held_out) else training
    if trained := np.intersect1d(rows_of(partners), rows_of(training)).size:
        progress.say(
            f"{field} is generated from the images of {run.data.source if is_second else run.data.options['input']}, and the run was "
            f"trained on {trained:,} of these {len(partners):,}: with --hold-out in training, some are kept for evaluation"
        )
    return join_sources(partners, real) if is_second else join_sources(real, partners), len(partners) - trained


def too_few(names: Sequence[str], real: Dataset, field: str, n: int | None = None) -> tuple[list[str], str]:
    """Those of these metrics that are not defined for so few real images, and what is wrong in words; empty if nothing is.

    Args:
        names: metrics.
        real: the real samples.
        field: the output that is compared with them.
        n: number of samples, if the user chose it; as many real images are used at most.

    Raises:
        InvalidOption: `n` is too small for one of the metrics.
    """
    from leafwing.metrics.clouds import LEAST
    from leafwing.metrics.targets import frames_per_sample, target

    images = target(real, field)
    frames, number = frames_per_sample(images.spec.fields["image"]), len(images)
    least = {name: ceil(LEAST[name] / frames) for name in names if name in LEAST}
    lacking = [name for name, needed in least.items() if min(number, n or number) < needed]
    if not lacking:
        return [], ""
    listed = ", ".join(f"{name} (at least {least[name]})" for name in lacking)
    if n is not None and n < number:
        raise InvalidOption("n", n, f"too few samples for {listed}")
    return lacking, f"{plural(number, 'real image')} {'is' if number == 1 else 'are'} too few for {listed}"


def check_samples(n: int, output: Output, spec: DataSpec, features: str) -> None:
    """Raises InvalidOption if the latents and features of n samples need more than half of the free memory; images are kept in a file.

    Args:
        n: number of samples, as the user chose it.
        output: what is generated.
        spec: the fields of the data.
        features: the feature network; empty if no metric needs one.
    """
    from leafwing.metrics.targets import frames_per_sample

    kind = output.kind or spec.fields[output.field]
    latents = 0 if output.prior is None else output.prior(1).nbytes
    rows = 8 * spec.size if spec.points else 4 * DIMENSIONS.get(features, 0) * frames_per_sample(kind)
    each, free = 2 * (latents + rows), available_memory()  # both are computed in blocks and put together
    if free is not None and n * each > free / 2:
        raise InvalidOption(
            "n",
            n,
            f"needs about {show_bytes(n * each)} of memory, and {show_bytes(free)} are free: at most {free // each // 2:,} samples",
        )


def default_samples(features: str) -> int:
    """The default number of samples, if there are as many real images: fewer where a network is slow.

    Args:
        features: the feature network; empty if no metric needs one.
    """
    return MAX_SLOW_SAMPLES if features in SLOW else MAX_DEFAULT_SAMPLES


def protocol_of(
    run: Run,
    real_data: RealData,
    output: Output,
    kind: Field,
    n: int | None,
    seed: int,
    precision: str,
    features: str,
    progress: Reporter,
) -> Protocol:
    """The protocol of an evaluation, without the hash of the feature network.

    Samples that are generated from images alone are at most as many as these: further ones would be the same again, with which recall
    falls to 0 and intervals are too narrow.

    Raises:
        LeafwingError: the real data lack what the samples are compared with or generated from.
    """
    from leafwing.fields import Clip, Image
    from leafwing.metrics import modes
    from leafwing.metrics.protocol import Protocol
    from leafwing.metrics.targets import at_8_bits, frames_per_sample, most_samples, target

    real, options = target(real_data.real, output.field), real_data.real.options
    kind = at_8_bits(kind)
    if real.spec.fields["image"] != kind:
        raise LeafwingError(
            f"{real.source}: the samples of {output.field} are {kind}, and these data have {real.spec.fields['image']}"
        )
    most = min(max(1, default_samples(features) // frames_per_sample(kind)), len(real))
    n_fake = n or modes.SAMPLES.get(world_of(real.source)) or most
    sources = most_samples(output, run.spec, real_data.real)
    if sources is not None and sources < n_fake:
        n_fake = min(n_fake, max(sources, MIN_SAMPLES))
        progress.say(describe_limit(output, sources, n, n_fake))
    is_second = output.field not in real_data.real.columns and real_data.split == "held-out"  # the same share is held out
    sides = kind.shape[1:] + kind.shape[:1] if isinstance(kind, Image | Clip) else ()
    return Protocol(
        data=real.fingerprint,
        split=real_data.split,
        held_out=len(real) if is_second else real_data.held_out,
        n_real=min(n_fake, len(real)),
        n_fake=n_fake,
        shape="x".join(map(str, sides)) or "points",
        fit=options["fit"],
        background=options["background"],
        mirror=real.mirror,
        conditions=conditions_of(output, real_data.real, run.spec),
        features=features,
        network="",
        seed=seed,
        precision=precision,
        output=output.field,
        trained_on_held_out=run.history.trained_on_held_out and real_data.split == "held-out",
        held_out_by=real_data.held_out_by if real_data.held_out else "",
    )


def describe_limit(output: Output, sources: int, n: int | None, n_fake: int) -> str:
    """Why there are fewer samples than asked for, or than there are real images; and what is wrong if there are very few."""
    what = f"n={n}: " if n else ""
    what += f"{n_fake:,} samples of {output.field}, because there are {sources:,} images to generate them from"
    if sources < n_fake:
        return (
            f"{what}: some samples are the same, so that recall is too low and intervals are too narrow. Hold out more when training "
            "(--hold-out), or name other data (--data)"
        )
    return f"{what}, and each gives one"


def conditions_of(output: Output, real: Dataset, spec: DataSpec) -> str:
    """The conditions of the samples in the protocol: those of the real data if these have the same fields.

    That of an unconditional output depends on the data alone, so that it can be compared with conditional ones.

    Raises:
        LeafwingError: the real data lack images from which the samples are generated.
    """
    from leafwing.conditions import pixel_conditions
    from leafwing.metrics.protocol import AS_REAL, DEFAULTS

    same = [
        name
        for name, field in spec.fields.items()
        if real.spec.fields.get(name) == field and (name != output.field or name in output.conditions)
    ]
    if different := [name for name in pixel_conditions(output, spec) if name not in same]:
        name = different[0]
        raise LeafwingError(
            f"{real.source}: {output.field} is generated from {name} ({spec.fields[name]}), and these data have "
            f"{real.spec.fields.get(name, 'no such field')}: evaluate with data that are read as those of the run"
        )
    return AS_REAL if {*output.conditions} <= {*same} and same else DEFAULTS


def protocol_for(name: str, protocol: Protocol, real_data: RealData, segmenter: Segmenter | None = None) -> Protocol:
    """The protocol of a metric: with its network, if any; memorisation and leaks always compare with the training data."""
    from leafwing.metrics import leaks, memorisation
    from leafwing.metrics.targets import frames_per_sample, target

    if name in WITHOUT_NETWORK:
        protocol = replace(protocol, features="", network="", trained_through="")
    if name == "segmenter" and segmenter is not None:
        return replace(protocol, features="segmenter", network=segmenter.digest, trained_through="")
    if name not in ("memorisation", "leaks"):
        return protocol
    most = {"memorisation": memorisation.MAX_IMAGES, "leaks": leaks.MAX_IMAGES}[name]
    whole = real_data.splits()
    training, held_out = (target(part, protocol.output) for part in whole)
    return replace(
        protocol,
        data=training.fingerprint,
        split="train",
        held_out=len(held_out) if protocol.output in whole[1].columns else 0,
        held_out_by=real_data.held_out_by,
        n_real=len(training),
        n_fake=min(protocol.n_fake, max(1, most // frames_per_sample(training.spec.fields["image"]))),
    )


def report_caveats(protocol: Protocol, names: Sequence[str], progress: Reporter) -> None:
    """Prints notes on the limits of a protocol."""
    from leafwing.metrics.caveats import of_protocol

    for text in of_protocol(protocol.as_dict(), names):
        progress.say(text)
