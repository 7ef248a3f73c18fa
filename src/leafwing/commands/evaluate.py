"""Evaluating a run: computes metrics of its samples against real data, and appends them to `metrics.jsonl` with their protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.commands.results import Rows
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import check_seed, count
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.engine.processes import Processes
    from leafwing.fields import Field
    from leafwing.game import DataSpec, Game, Output
    from leafwing.metrics.evidence import Measure
    from leafwing.metrics.protocol import Protocol
    from leafwing.metrics.samples import RunEvidence
    from leafwing.metrics.segmenter import Segmenter
    from leafwing.model import Model

MAX_DEFAULT_SAMPLES, MIN_FID_SAMPLES = 5_000, 1_000
"""The default number of samples is at most MOST; below FEW, FID is noticeably biased."""
WITHOUT_NETWORK = ("swd", "ms_ssim", "structure", "cycle", "segmenter", "modes", "leaks", "memorisation")
"""Metrics of the samples themselves, which do not depend on the feature network."""
ADVICE = "Evaluate again: completed numbers are kept"


@dataclass(frozen=True)
class RealData:
    """The real data of an evaluation.

    Args:
        real: the real samples.
        split: which part of the run's data they are; see `Protocol`.
        held_out: number of samples held out of training.
        splits: returns the training set and the held-out set of the run.
    """

    real: Dataset
    split: str
    held_out: int
    splits: Callable[[], tuple[Dataset, Dataset]]


def evaluate(
    run: str | Path | Run,
    *,
    data: str | Path | None = None,
    metrics: Sequence[str] | str | None = None,
    n: int | str | None = None,
    output: str | None = None,
    checkpoint: int | str | None = None,
    features: str | None = None,
    weights: str | Path | None = None,
    circular: bool = False,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    recompute: bool = False,
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Progress = None,
    processes: Processes | None = None,
) -> Rows:
    """Computes metrics of a run and appends them to its `metrics.jsonl`, each with its protocol.

    Results of the same weights under the same protocol that exist already are reused.

    Args:
        run: the run, its folder, name or number, or `last`. For pictures of other programs see `evaluate_pictures`.
        data: other real images, read with the run's size and channels. None: the held-out data, or the training data if none were
            held out.
        metrics: keys of `leafwing.metrics.METRICS`, as a list or separated by commas. None: fid, kid, prdc and, without `data`,
            memorisation, and leaks for runs with augmentation; for images that are generated from images also whether they keep what
            was given: reconstruction if there are pairs, else structure, and cycle for a run that translates both ways; for points and
            stacked digits, modes.
        n: number of samples. None: the number of real samples, at most 5,000; for data with known modes the number used in papers. As
            many real samples are used, if there are enough.
        output: the field to generate and compare; None: the main output.
        checkpoint: images shown, `last` (None), `best`, or `all`.
        features: a key of `leafwing.metrics.FEATURES`. None: see `leafwing.metrics.choice`.
        weights: weights file of the feature network `lite0` or `inception`. None: that of the installed package, or the public one,
            downloaded once.
        circular: use `features` although the training looked through a network of the same family; the protocol says so.
        seed: random seed of the samples and of the choice of real ones.
        device: auto, cpu, cuda or mps.
        precision: precision of sampling: fp32, bf16 or auto; see `sample`.
        recompute: compute results again that exist already.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        root: folder of the numbered run folders.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.
        processes: the processes that are training this run, all of which must call this; None: see `join_processes`.

    Returns:
        Rows, checkpoint by checkpoint: metric, value (None if undefined), low, high, better, by (the key of the metric), run, images,
        weights (name of the file), weights_hash, n, seed, protocol, fingerprint, seconds.

    Raises:
        LeafwingError: invalid input; completed results are kept.
    """
    opened = Run.open(run, root=root, trust=trust)
    checkpoints = select_checkpoints(opened, checkpoint)
    if metrics is not None:
        check_metrics(metrics, opened.spec.points, opened.data.source)
    import torch

    from leafwing.commands.launching import join_processes
    from leafwing.data.pack import cache_folder
    from leafwing.engine import choose, keep_freed_memory
    from leafwing.metrics import WITH_WEIGHTS
    from leafwing.metrics.choice import choose_features
    from leafwing.metrics.features import load_features
    from leafwing.metrics.samples import RunEvidence
    from leafwing.metrics.targets import frames, target
    from leafwing.model import Model

    n, seed = None if n is None else count(n, "n"), check_seed(seed)
    if features is None and (weights is not None or circular):
        name, value = ("weights", weights) if weights is not None else ("circular", circular)
        raise InvalidOption(name, value, f"name the network too: --features {' or '.join(WITH_WEIGHTS)}")
    with nullcontext(processes) if processes else join_processes(ADVICE) as processes:
        progress = reporter_of(progress) if processes.first else Reporter()
        model = Model(opened.build_game(), opened.spec)
        chosen = model.find_output(output)
        kind = model.kind(chosen)
        augment = augmentation_of(opened, model.game, kind)
        names = select_metrics(metrics, opened, model.game.abilities.outputs, chosen, kind, data, augment)
        setup = choose(device, precision, torch.get_num_threads())
        if "ppl" in names and setup.precision != "fp32":
            raise LeafwingError(
                f"the metric ppl needs --precision fp32: it takes steps of 1e-4 in the latents, which {setup.precision} rounds away"
            )
        device = processes.device(setup.device)
        keep_freed_memory()
        pretrained = {opened.name: sorted({*opened.pretrained, *model.game.pretrained})}
        choice = choose_features(kind, pretrained, metrics=names, requested=features, circular=circular)
        judge = processes.broadcast(choice.name)  # other machines may lack the package
        network = None
        with processes.first_on_machine():
            real_data = load_real_data(opened, data, progress)
            if set(names) - set(WITHOUT_NETWORK):
                if str(choice):
                    progress.say(str(choice))
                learned = real_data.splits()[0] if real_data.split == "held-out" else real_data.real
                network = load_features(
                    judge,
                    frames(target(learned, chosen.field)),
                    weights=weights,
                    device=device,
                    report_progress=progress.report_progress,
                )
        require_same_network(network.digest if network else "", processes)
        protocol = protocol_of(opened, real_data, chosen, kind, n, seed, setup.precision)
        if network:
            through = choice.trained_through
            protocol = replace(protocol, features=network.name, network=network.digest, trained_through=through)
        report_caveats(protocol, names, progress)
        segmenter = read_segmenter(model, chosen, real_data, processes, progress) if "segmenter" in names else None
        protocols = {name: protocol_for(name, protocol, real_data, segmenter) for name in names}

        def samples_of(images: int) -> RunEvidence:
            return RunEvidence(
                Model.load(opened, checkpoint=images, device=device, precision=setup.precision),
                real_data.real,
                protocol,
                network,
                parts=real_data.splits,
                cache=cache_folder(None),
                processes=processes,
                segmenter=segmenter,
                augment=augment,
                report_progress=progress.report_progress,
            )

        arguments = (protocols, recompute, processes, samples_of)
        return Rows(row for images in checkpoints for row in evaluate_checkpoint(opened, images, *arguments))


def read_segmenter(model: Model, output: Output, real_data: RealData, processes: Processes, progress: Reporter) -> Segmenter:
    """The segmenter of the run's training pairs, trained if it is not in the cache."""
    from leafwing.metrics.segmenter import load_segmenter

    name = model.translation(output.field)[1]
    with processes.first_on_machine():
        training = real_data.splits()[0]
        segmenter = load_segmenter(training, output.field, name, report_progress=progress.report_progress)
    require_same_network(segmenter.digest, processes)
    return segmenter


def evaluate_checkpoint(
    run: Run,
    images: int,
    protocols: Mapping[str, Protocol],
    recompute: bool,
    processes: Processes,
    samples_of: Callable[[int], RunEvidence],
) -> list[dict[str, Any]]:
    """The rows of one checkpoint; those that do not exist yet are computed and saved one metric at a time.

    Args:
        run: the run.
        images: the checkpoint.
        protocols: the metrics, and the protocol of each.
        recompute: compute existing rows again.
        processes: the processes that share the work.
        samples_of: returns the samples of a checkpoint.
    """
    path = run.weights()[images]
    digest = files.digest(path)[:16]
    existing = [] if recompute else stored_rows(run)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        samples = None
        for name, conditions in protocols.items():
            common = {
                "by": name,
                "run": run.name,
                "images": images,
                "weights": path.name,
                "weights_hash": digest,
                "n": conditions.n_fake,
                "seed": conditions.seed,
                "protocol": conditions.as_dict(),
                "fingerprint": conditions.fingerprint,
            }
            identity = ("by", "weights_hash", "fingerprint")
            old = {row["metric"]: row for row in existing if all(row.get(key) == common[key] for key in identity)}
            old = processes.broadcast(old)
            if old:
                rows += old.values()
                continue
            samples = samples or stack.enter_context(samples_of(images))
            started = time.perf_counter()
            measures, extra = compute(name, samples, run, images)
            common["seconds"] = round(time.perf_counter() - started, 3)
            new = [{**as_row(measure), **common, **extra} for measure in measures]
            if processes.first:
                run.add_metrics(new)
            rows += new
    return rows


def stored_rows(run: Run) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, oldest first, as this version writes them."""
    from leafwing.metrics.protocol import upgrade

    return [upgrade(row) for row in run.metrics()]


def protocol_for(name: str, protocol: Protocol, real_data: RealData, segmenter: Segmenter | None = None) -> Protocol:
    """The protocol of a metric: with its network, if any; memorisation and leaks always compare with the training data."""
    from leafwing.metrics.memorisation import MAX_IMAGES
    from leafwing.metrics.targets import frames_per_sample, target

    if name in WITHOUT_NETWORK:
        protocol = replace(protocol, features="", network="", trained_through="")
    if name == "segmenter" and segmenter is not None:
        return replace(protocol, features="segmenter", network=segmenter.digest, trained_through="")
    if name not in ("memorisation", "leaks"):
        return protocol
    whole = real_data.splits()
    training, held_out = (target(part, protocol.output) for part in whole)
    return replace(
        protocol,
        data=training.fingerprint,
        split="train",
        held_out=len(held_out) if protocol.output in whole[1].columns else 0,
        n_real=len(training),
        n_fake=min(protocol.n_fake, max(1, MAX_IMAGES // frames_per_sample(training.spec.fields["image"]))),
    )


def compute(name: str, samples: RunEvidence, run: Run, images: int) -> tuple[list[Measure], dict[str, Any]]:
    """The measures of a metric, and extra keys of their rows. Memorisation also writes a report and an image of the closest pairs."""
    from leafwing.metrics import leaks, memorisation, metric

    if name == "leaks":
        results = leaks.report(samples)
        return [measure for result in results for measure in result.measures()], {"words": leaks.describe(results)}
    if name != "memorisation":
        return metric(name)(samples), {}
    from leafwing.metrics.pairs import page
    from leafwing.metrics.protocol import MAIN
    from leafwing.pictures import png

    result = memorisation.report(samples)
    stem = f"memorisation-{images:09d}" + ("" if samples.protocol.output == MAIN else f"-{samples.protocol.output}")
    paths = {kind: run.folder / f"{stem}{suffix}" for kind, suffix in (("report", ".json"), ("page", ".png"))}
    if samples.processes.first:
        files.write(paths["report"], json.dumps(result.as_dict(), indent=2, ensure_ascii=False) + "\n")
        files.write(paths["page"], png(page(samples, result)))
    extra = {"verdict": result.verdict, "words": result.words}
    return result.measures(), extra | {kind: path.name for kind, path in paths.items()}


def as_row(measure: Measure) -> dict[str, Any]:
    """A measure as plain JSON; NaN and infinite values become None."""
    values = {"value": measure.value, "low": measure.low, "high": measure.high}
    finite = {name: float(value) if value is not None and isfinite(value) else None for name, value in values.items()}
    return {"metric": measure.name, **finite, "better": measure.better}


def select_metrics(
    metrics: Sequence[str] | str | None,
    run: Run,
    outputs: Sequence[Output],
    output: Output,
    kind: Field,
    data: object = None,
    augment: str = "none",
) -> list[str]:
    """The requested metrics, or the default ones for one of the run's outputs, whose samples are of this kind.

    Raises:
        LeafwingError: no such metric, or one that does not suit the output.
    """
    from leafwing.fields import Vector
    from leafwing.metrics.targets import keeping_metrics, require_images

    require_images(output.field, kind)
    source, points = run.data.source, isinstance(kind, Vector)
    if metrics is not None:
        names = check_metrics(metrics, points, source)
        check_output(names, outputs, output, run.spec)
        if "leaks" in names and augment == "none":
            raise LeafwingError(
                f"metric leaks has nothing to check: critics of {run.folder} saw {output.field} without changes (--augment)"
            )
        return names
    if points or world_of(source) == "stacked":
        return ["modes"]
    of_training = [*["leaks"] * (augment != "none"), "memorisation"] if data is None else []
    return ["fid", "kid", *keeping_metrics(outputs, output, run.spec), "prdc", *of_training]


def augmentation_of(run: Run, game: Game, kind: Field) -> str:
    """The augmentation of what the run's critics saw, chosen or the recipe's; `none` if samples of this kind pass unchanged."""
    from leafwing.fields import Image

    return run.settings.critic.augment or game.augment if isinstance(kind, Image) else "none"


def check_metrics(metrics: Sequence[str] | str, points: bool, source: str) -> list[str]:
    """The names of metrics, without duplicates.

    Args:
        metrics: names, as a list or separated by commas.
        points: whether the samples are points.
        source: the data source.

    Raises:
        LeafwingError: no such metric, or one that does not suit the data.
    """
    from leafwing.metrics import METRICS

    items = metrics.split(",") if isinstance(metrics, str) else metrics
    names = list(dict.fromkeys(name.strip() for name in items if name.strip()))
    if not names:
        raise InvalidOption("metrics", metrics, f"choose at least one of {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            raise LeafwingError(f"no metric {name!r}{did_you_mean(name, list(METRICS))}")
        if points and name != "modes":
            raise LeafwingError(
                f"metric {name} needs images, and the samples of {source} are points; only modes is defined for points"
            )
        if name == "modes" and not (points or world_of(source) == "stacked"):
            raise LeafwingError(
                f"metric modes needs data with known modes (ring, grid, stacked), not {source}; for images "
                f"there are: {', '.join(other for other in METRICS if other != name)}"
            )
    return names


def check_output(names: Sequence[str], outputs: Sequence[Output], output: Output, spec: DataSpec) -> None:
    """Raises LeafwingError if one of these metrics does not suit an output, from what it is generated."""
    from leafwing.metrics.targets import suits

    sources = " and ".join(output.conditions) or "latents"
    needs = {
        "structure": "compares images with the images that they are generated from",
        "cycle": "needs a run that also translates its images back",
        "segmenter": "needs images that are generated from paired label maps",
    }
    for name in names:
        if name in needs and not suits(name, outputs, output, spec):
            raise LeafwingError(f"metric {name} {needs[name]}, and this {output.field} is generated from {sources}")
    if "ppl" in names and output.prior is None:
        raise LeafwingError(
            f"metric ppl takes steps in the latents, and {output.field} is generated from {sources} without latents"
        )
    if "reconstruction" in names and not suits("reconstruction", outputs, output, spec):
        raise LeafwingError(
            f"metric reconstruction compares samples with the real targets of their inputs, and {output.field} is generated from "
            f"{sources}, which {'belong' if ' and ' in sources or not output.conditions else 'belongs'} to no target"
        )


def require_classifier(features: str, spec: DataSpec) -> None:
    """Raises LeafwingError if a feature network is not a classifier."""
    if features == "inception" or (features == "own" and spec.labels):
        return
    raise LeafwingError(
        f"metric inception_score needs a classifier, and the features {features} of these data have none: use --features inception, "
        "or --features own with labelled data"
    )


def select_checkpoints(run: Run, checkpoint: int | str | None) -> list[int]:
    """The requested checkpoints, by images shown, oldest first.

    Raises:
        LeafwingError: no such checkpoint.
    """
    run.require_weights()
    existing = list(run.weights())
    if checkpoint in (None, "last", "all"):
        return existing if checkpoint == "all" else existing[-1:]
    if (images := run.resolve_checkpoint(checkpoint)) not in existing:
        raise LeafwingError(
            f"{run.folder} has no checkpoint at {images:,} images; available: {', '.join(map(str, existing))}, or all"
        )
    return [images]


def world_of(source: str) -> str:
    """The name of a built-in data set; empty for other sources."""
    from leafwing.data.built_in import BUILT_IN

    name = source.partition(":")[0]
    return name if name in BUILT_IN else ""


def load_real_data(run: Run, data: str | Path | None, progress: Reporter) -> RealData:
    """The real data to compare with: other data if given, else the held-out data, else the training data.

    Raises:
        LeafwingError: the data cannot be read.
    """
    from leafwing.commands.feeding import inherited_options, reload_data
    from leafwing.data import load
    from leafwing.data.built_in import is_built_in

    held_out = run.data.held_out

    @cache
    def splits() -> tuple[Dataset, Dataset]:
        return reload_data(run, progress).split(held_out)

    if data is None:
        training_set, held_out_set = splits()
        if held_out:
            return RealData(held_out_set, "held-out", held_out, splits)
        return RealData(training_set, "train", 0, splits)
    if run.spec.points:
        raise InvalidOption(
            "data", data, f"other data must be images, and {run.folder} generates points like {run.data.source}"
        )
    if (Path(data) / "run.json").exists():
        raise InvalidOption("data", data, "it is a run folder, and real images are needed; runs are evaluated one by one")
    options = inherited_options(run.data, data)
    options |= {"size": (run.spec.height, run.spec.width), "channels": run.spec.channels}
    levels = {name: value for name, value in run.data.options.items() if name in ("levels", "input_levels")}
    levels = {} if is_built_in(str(data)) else levels
    try:
        real = load(data, **options | levels, progress=progress.report_reading)
    except InvalidOption as error:
        if error.name not in levels:
            raise
        progress.say(f"{data}: not mapped to black and white like the images of {run.folder}, because {error.reason}")
        real = load(data, **options, progress=progress.report_reading)
    if real.fingerprint == run.data.fingerprint:
        return RealData(real, "all" if held_out else "train", held_out, splits)
    return RealData(real, "other", 0, splits)


def protocol_of(
    run: Run, real_data: RealData, output: Output, kind: Field, n: int | None, seed: int, precision: str
) -> Protocol:
    """The protocol of an evaluation, without the feature network.

    Raises:
        LeafwingError: the real data lack what the samples are compared with or generated from.
    """
    from leafwing.fields import Clip, Image
    from leafwing.metrics import modes
    from leafwing.metrics.protocol import Protocol
    from leafwing.metrics.targets import frames_per_sample, target

    real, options = target(real_data.real, output.field), real_data.real.options
    if real.spec.fields["image"] != kind:
        raise LeafwingError(
            f"{real.source}: the samples of {output.field} are {kind}, and these data have {real.spec.fields['image']}"
        )
    most = min(max(1, MAX_DEFAULT_SAMPLES // frames_per_sample(kind)), len(real))
    n_fake = n or modes.SAMPLES.get(world_of(real.source)) or most
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
        features="",
        network="",
        seed=seed,
        precision=precision,
        output=output.field,
    )


def conditions_of(output: Output, real: Dataset, spec: DataSpec) -> str:
    """The conditions of the samples in the protocol: those of the real data if these have the same fields.

    That of an unconditional output depends on the data alone, so that it can be compared with conditional ones.

    Raises:
        LeafwingError: the real data lack images from which the samples are generated.
    """
    from leafwing.conditions import pixel_conditions
    from leafwing.metrics.protocol import AS_REAL, DEFAULTS

    same = [name for name, field in spec.fields.items() if name != output.field and real.spec.fields.get(name) == field]
    if different := [name for name in pixel_conditions(output, spec) if name not in same]:
        name = different[0]
        raise LeafwingError(
            f"{real.source}: {output.field} is generated from {name} ({spec.fields[name]}), and these data have "
            f"{real.spec.fields.get(name, 'no such field')}: evaluate with data that are read as those of the run"
        )
    return AS_REAL if {*output.conditions} <= {*same} and same else DEFAULTS


def report_caveats(protocol: Protocol, names: Sequence[str], progress: Reporter) -> None:
    """Prints notes on the limits of a protocol."""
    if protocol.split == "train" and protocol.shape != "points":
        progress.say(
            "comparing with the training data, because nothing was held out: a model that copies its training images looks "
            "perfect. `leafwing train --hold-out auto` holds out images for evaluation"
        )
    n = min(protocol.n_real, protocol.n_fake)
    if n < MIN_FID_SAMPLES and "fid" in names:
        progress.say(
            f"with only {n:,} samples, FID is biased upwards: compare it only under the same protocol, and use KID, which is unbiased"
        )


def as_document(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of `evaluate` as one JSON document: `run`, `rows`, and the `verdict` on memorisation of the last checkpoint, if any."""
    verdicts = [row["verdict"] for row in rows if row.get("verdict")]
    return {"run": rows[-1]["run"], "rows": list(rows)} | ({"verdict": verdicts[-1]} if verdicts else {})


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of `evaluate` as text: a table, the words of metrics that have some, and a line for each protocol."""
    from leafwing.metrics.protocol import describe
    from leafwing.tables import align_columns

    of_run = "images" in rows[0]
    lines = [(*["images"] * of_run, "metric", "value", "95% interval", "better")]
    for row in rows:
        interval = "" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
        value = "unknown" if row["value"] is None else f"{row['value']:.4g}"
        lines.append((*([f"{row['images']:,}"] if of_run else []), row["metric"], value, interval, row["better"]))
    words = dict.fromkeys(
        (f"{row['images']:,} images: " if of_run else "") + row["words"] for row in rows if row.get("words")
    )
    protocols = dict.fromkeys(describe(row["protocol"]) for row in rows)
    return "\n".join([align_columns(lines), *words, *protocols])


def require_same_network(digest: str, processes: Processes) -> None:
    """Raises LeafwingError if processes on several machines have different feature networks."""
    import torch

    prefix = torch.frombuffer(bytearray(bytes.fromhex(digest)[:7] + b"\0"), dtype=torch.int64) if digest else torch.zeros(1)
    if len(processes.gather(prefix).unique()) > 1:
        raise LeafwingError(
            "the feature network was trained on several machines with different results: evaluate on one machine, or share one cache "
            "folder (LEAFWING_CACHE)"
        )
