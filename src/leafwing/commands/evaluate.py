"""Evaluating a run: computes metrics of its samples against real data, and appends them to `metrics.jsonl` with their protocol."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.commands.figures import as_row
from leafwing.commands.real_data import (
    RealData,
    check_samples,
    load_real_data,
    protocol_for,
    protocol_of,
    report_caveats,
    too_few,
)
from leafwing.commands.results import Rows
from leafwing.commands.selection import (
    WITHOUT_NETWORK,
    are_pictures,
    augmentation_of,
    check_features,
    check_metrics,
    require_classifier,
    require_packages,
    select_checkpoints,
    select_metrics,
)
from leafwing.commands.steps import ONCE, Steps, describe, expected_seconds
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import check_seed, count, show_duration
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    from leafwing.engine.processes import Processes
    from leafwing.game import Output
    from leafwing.metrics.evidence import Evidence, Measure
    from leafwing.metrics.protocol import Protocol
    from leafwing.metrics.samples import RunEvidence, Samples
    from leafwing.metrics.segmenter import Segmenter
    from leafwing.model import Model

ADVICE = "Evaluate again: completed numbers are kept"


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
    with_scale: bool = True,
) -> Rows:
    """Computes metrics of a run and appends them to its `metrics.jsonl`, each with its protocol.

    Results of the same weights under the same protocol that exist already are reused.

    Args:
        run: the run, its folder, name or number, or `last`. For pictures of other programs see `evaluate_pictures`.
        data: other real images, read with the run's size and channels. None: the held-out data, or the training data if none were
            held out.
        metrics: keys of `leafwing.metrics.METRICS`, as a list or separated by commas. None: fid, kid, prdc and, without `data`,
            memorisation, and leaks for runs with augmentation; for images that are generated from images also whether they keep what
            was given: reconstruction if there are pairs, else structure, and cycle for a run that translates both ways, and no
            memorisation if these are training images or their pairs; for points and stacked digits, modes.
        n: number of samples. None: the number of real samples, at most 5,000, or 1,000 with the slow networks `lite0` and `inception`;
            for data with known modes the number used in papers. As many real samples are used, if there are enough. Where samples are
            generated from images without latents, at most one for each of these.
        output: the field to generate and compare; None: the main output.
        checkpoint: images shown, `last` (None), `best`, or `all`.
        features: a key of `leafwing.metrics.FEATURES`. None: see `leafwing.metrics.choice`.
        weights: weights file of the feature network `lite0` or `inception`. None: that of the installed package, or the public one,
            downloaded once.
        circular: allow `features` even if the run was trained with a network of the same family; the protocol says so.
        seed: random seed of the samples and of the choice of real ones.
        device: auto, cpu, cuda or mps.
        precision: precision of sampling: fp32, bf16 or auto; see `sample`.
        recompute: compute results again that exist already.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        root: folder of the numbered run folders.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.
        processes: those that are training this run, or of a comparison, all of which must call this; None: see `join_processes`.
        with_scale: also compute what other real images and noise reach, once for all runs on these data; see `metrics.scale`.

    Returns:
        Rows, checkpoint by checkpoint: metric, value (None if undefined), low, high, better, by (the key of the metric), run, images,
        weights (name of the file), weights_hash, n, seed, protocol, fingerprint, seconds; for fid, kid and prdc also scale (see
        `metrics.scale.Scale.of`; None with too few real images), and for prdc variety (see `metrics.prdc.variety`).

    Raises:
        LeafwingError: invalid input; completed results are kept.
    """
    from leafwing.data.locating import find

    if not isinstance(run, Run) and are_pictures(run, root):
        real = "source" if data is None else repr(str(data))
        raise LeafwingError(
            f"{run} is not a run folder, because it has no run.json. To evaluate the pictures in it: "
            f"leafwing.evaluate_pictures({str(run)!r}, {real})"
        )
    n, seed = None if n is None else count(n, "n"), check_seed(seed)
    check_features(features, weights, circular)
    if data is not None:
        find(data)
    opened = Run.open(run, root=root, trust=trust)
    checkpoints = select_checkpoints(opened, checkpoint)
    named = [] if metrics is None else check_metrics(metrics, opened.spec.points, opened.data.source)
    require_packages(metrics=named, features=features, weights=weights, data=data)
    import torch

    from leafwing.commands.launching import join_processes
    from leafwing.data.pack import cache_folder
    from leafwing.engine import choose, keep_freed_memory
    from leafwing.metrics.choice import choose_features
    from leafwing.metrics.features import load_features
    from leafwing.metrics.samples import RunEvidence
    from leafwing.metrics.targets import frames, target
    from leafwing.model import Model

    is_alone = processes is None  # trainings and comparisons have checked, and others use memory meanwhile
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
        if "inception_score" in names:
            require_classifier(choice.name, opened.spec)
        judge = processes.broadcast(choice.name)  # other machines may lack the package
        network = None
        with processes.first_on_machine():
            real_data = load_real_data(opened, data, progress, field=chosen.field)
            names = require_enough(names, real_data, chosen.field, n, metrics, progress)
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
        judged_by = judge if network else ""
        protocol = protocol_of(opened, real_data, chosen, kind, n, seed, setup.precision, judged_by, progress)
        if network:
            through = choice.trained_through
            protocol = replace(protocol, features=network.name, network=network.digest, trained_through=through)
        report_caveats(protocol, names, progress)
        segmenter = read_segmenter(model, chosen, real_data, processes, progress) if "segmenter" in names else None
        protocols = {name: protocol_for(name, protocol, real_data, segmenter) for name in names}

        steps: list[Steps] = []

        def samples_of(images: int, missing: Sequence[str]) -> RunEvidence:
            if n is not None and is_alone:
                check_samples(protocol.n_fake, chosen, model.spec, judged_by)
            evidence = RunEvidence(
                Model.load(opened, checkpoint=images, device=device, precision=setup.precision),
                real_data.real,
                protocol,
                network,
                parts=real_data.splits,
                cache=cache_folder(None),
                processes=processes,
                segmenter=segmenter,
                augment=augment,
                report_progress=lambda *progress_made: steps[0](*progress_made),
            )
            if not steps:
                count_left = len(checkpoints) - checkpoints.index(images)
                steps.append(
                    announce(evidence, {name: protocols[name] for name in missing}, count_left, with_scale, progress)
                )
            return evidence

        rows = Rows()
        checkpoints = processes.broadcast(select_checkpoints(opened, checkpoint))  # a training writes and removes them
        for images in checkpoints:
            if checkpoint == "all" and not processes.broadcast(images in opened.weights()):
                progress.say(f"not evaluated: the checkpoint at {images:,} images, which training has removed meanwhile")
                continue
            rows += evaluate_checkpoint(opened, images, protocols, recompute, processes, samples_of, with_scale)
        for shown in steps:
            shown.finish()
        return rows


def require_enough(
    names: Sequence[str], real_data: RealData, field: str, n: int | None, requested: object, progress: Reporter
) -> list[str]:
    """The metrics that are defined for this number of real images; says which of the default ones are left out.

    Args:
        names: the metrics.
        real_data: what the samples are compared with.
        field: the output that is compared.
        n: number of samples, if the user chose it.
        requested: the metrics as the user named them; None: the default ones.
        progress: receives the message.

    Raises:
        LeafwingError: one that the user named is not defined, or none of the default ones.
    """
    lacking, problem = too_few(names, real_data.real, field, n)
    if not lacking:
        return [*names]
    problem += ": name data with more images (--data)"
    problem += ", or hold out more when training (--hold-out)" * (real_data.split == "held-out")
    if requested is not None:
        raise InvalidOption("metrics", ",".join(names), problem)
    rest = [name for name in names if name not in lacking]
    if not rest:
        raise LeafwingError(problem)
    progress.say(f"left out: {problem}")
    return rest


def announce(
    samples: Samples, protocols: Mapping[str, Protocol], checkpoints: int, with_scale: bool, progress: Reporter
) -> Steps:
    """Says how long the evaluation will take, and returns its progress callback.

    Args:
        samples: the evidence of the first checkpoint.
        protocols: the metrics to compute, and the protocol of each; none if only the scale of stored figures is missing.
        checkpoints: number of checkpoints to evaluate.
        with_scale: whether the scale is computed.
        progress: receives the message and the progress.
    """
    if not samples.processes.first or samples.spec.points:
        return Steps({}, 1, progress.report_progress)
    from leafwing.metrics.scale import measures_of

    if not protocols:
        seconds = expected_seconds(samples, {}, ["fid"], True)
        seconds = {name: seconds[name] for name in ONCE if name in seconds}
        if seconds:
            progress.say(
                f"computing what real images and noise reach, once for these data: about {show_duration(sum(seconds.values()))}"
            )
        return Steps(seconds, 1, progress.report_progress)
    with_network = [name for name in protocols if name not in WITHOUT_NETWORK]
    seconds = expected_seconds(samples, protocols, with_network, with_scale and bool(measures_of(with_network)))
    progress.say(describe(seconds, samples.protocol, checkpoints, samples.processes.world_size))
    return Steps(seconds, checkpoints, progress.report_progress)


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
    samples_of: Callable[[int, Sequence[str]], RunEvidence],
    with_scale: bool,
) -> list[dict[str, Any]]:
    """The rows of one checkpoint; those that do not exist yet are computed and saved one metric at a time.

    Args:
        run: the run.
        images: the checkpoint.
        protocols: the metrics, and the protocol of each.
        recompute: compute existing rows again.
        processes: the processes that share the work.
        samples_of: returns the samples of a checkpoint, for these metrics.
        with_scale: whether rows get the scale of their measure.
    """
    from leafwing.metrics.scale import measures_of

    path = run.require_weights(images)
    digest = files.digest(path)[:16]
    existing = [] if recompute else stored_rows(run)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        samples = None
        for i, (name, conditions) in enumerate(protocols.items()):
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
            identity = ("by", "weights_hash", "fingerprint", "protocol")
            old = {row["metric"]: row for row in existing if all(row.get(key) == common[key] for key in identity)}
            if any("page" in row and not has_page(run, row) for row in old.values()):
                old = {}
            old = processes.broadcast(old)
            scaled = with_scale and bool(measures_of([name]))
            if old and not (scaled and any("scale" not in row for row in old.values())):
                rows += old.values()
                continue
            samples = samples or stack.enter_context(samples_of(images, [] if old else [*protocols][i:]))
            if old:  # from early stopping or an earlier version
                completed = [row | scale_of(samples, row["metric"]) for row in old.values()]
                if processes.first:
                    run.add_metrics(completed)
                rows += completed
                continue
            started = time.perf_counter()
            measures, extra = compute(name, samples, run, images, conditions.fingerprint)
            common["seconds"] = round(time.perf_counter() - started, 3)
            scales = {measure.name: scale_of(samples, measure.name) if scaled else {} for measure in measures}
            new = [{**as_row(measure), **common, **extra, **scales[measure.name]} for measure in measures]
            if processes.first:
                run.add_metrics(new)
            rows += new
    return rows


def stored_rows(run: Run) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, oldest first, as this version writes them."""
    from leafwing.metrics.protocol import upgrade

    return [upgrade(row) for row in run.metrics()]


def compute(
    name: str, samples: RunEvidence, run: Run, images: int, fingerprint: str
) -> tuple[list[Measure], dict[str, Any]]:
    """The measures of a metric, and extra keys of their rows. Memorisation also writes a report and an image of the closest pairs.

    Args:
        name: the metric.
        samples: the evidence.
        run: the run.
        images: the checkpoint.
        fingerprint: that of the protocol. If another evaluation of this checkpoint has written its report, this one gets another name.
    """
    from leafwing.metrics import leaks, memorisation, metric

    if name == "leaks":
        results = leaks.report(samples)
        return [measure for result in results for measure in result.measures()], {
            "words": leaks.describe(results, samples.augment)
        }
    if name != "memorisation":
        return metric(name)(samples), details_of(name, samples, samples.model.spec.labels)
    from leafwing.metrics.pairs import page
    from leafwing.metrics.protocol import MAIN
    from leafwing.metrics.targets import resembles_real
    from leafwing.pictures import png

    result = memorisation.report(samples)
    if samples.protocol.split in ("train", "all") and resembles_real(samples.output, samples.model.spec):
        result = replace(result, verdict="none", words=memorisation.FROM_TRAINING)
    stem = f"memorisation-{images:09d}" + ("" if samples.protocol.output == MAIN else f"-{samples.protocol.output}")
    others = (run.folder / f"{stem}.json").exists() and fingerprint_of(run.folder / f"{stem}.json") != fingerprint
    stem = samples.processes.broadcast(f"{stem}-{fingerprint[:8]}" if others else stem)
    paths = {kind: run.folder / f"{stem}{suffix}" for kind, suffix in (("report", ".json"), ("page", ".png"))}
    if samples.processes.first:
        document = {"fingerprint": fingerprint, **result.as_dict()}
        files.write(paths["report"], json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        files.write(paths["page"], png(page(samples, result)))
    extra = {"verdict": result.verdict, "words": result.words}
    return result.measures(), extra | {kind: path.name for kind, path in paths.items()}


def has_page(run: Run, row: Mapping[str, Any]) -> bool:
    """Whether the report and the page that a row of memorisation names are there, and not those of another evaluation."""
    report, page = (run.folder / Path(str(row.get(kind, ""))).name for kind in ("report", "page"))
    return page.is_file() and report.is_file() and fingerprint_of(report) in ("", row["fingerprint"])


def fingerprint_of(report: Path) -> str:
    """The fingerprint of the evaluation that a report of memorisation belongs to; empty if it is of an earlier version, or damaged."""
    match = re.search(r'"fingerprint": "([0-9a-f]+)"', report.read_text(encoding="utf-8", errors="replace"))
    return match[1] if match else ""


def scale_of(samples: Samples, measure: str) -> dict[str, Any]:
    """The key `scale` of a row: None if there are too few real images."""
    scale = samples.scale_of_metrics
    return {"scale": scale.of(measure, samples.frames) if scale else None}


def details_of(name: str, samples: Evidence, labels: Sequence[str] = ()) -> dict[str, Any]:
    """The keys `variety` and, with classes, `by_class` of rows of `prdc`; see `metrics.prdc`. `labels`: the names of the classes."""
    from leafwing.metrics.prdc import by_class, variety

    if name != "prdc":
        return {}
    real, fake, classes = samples.real_features(), samples.fake_features(), samples.fake_labels()
    value, shares = variety(real, fake), {} if classes is None else by_class(real, fake, classes, labels)
    details = {"variety": round(value, 4)} if isfinite(value) else {}
    return details | ({"by_class": {key: round(share, 4) for key, share in shares.items()}} if shares else {})


def require_same_network(digest: str, processes: Processes) -> None:
    """Raises LeafwingError if processes on several machines have different feature networks."""
    import torch

    prefix = torch.frombuffer(bytearray(bytes.fromhex(digest)[:7] + b"\0"), dtype=torch.int64) if digest else torch.zeros(1)
    if len(processes.gather(prefix).unique()) > 1:
        raise LeafwingError(
            "the feature network was trained on several machines with different results: evaluate on one machine, or share one cache "
            "folder (LEAFWING_CACHE)"
        )
