"""Evaluate a run: real data, a model and metrics meet; every number is kept in the run's `metrics.jsonl` with its protocol."""

from __future__ import annotations

import hashlib
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
from leafwing.errors import LeafwingError, did_you_mean
from leafwing.progress import Silent
from leafwing.quantities import count, whole
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.engine.processes import Processes
    from leafwing.game import DataSpec
    from leafwing.metrics.evidence import Measure
    from leafwing.metrics.protocol import Protocol
    from leafwing.metrics.samples import Samples

MOST, FEW = 5_000, 1_000
WITHOUT_NETWORK = ("swd", "ms_ssim", "modes", "memorisation")
"""Metrics that look at the samples themselves: their numbers do not depend on the feature network."""
AGAIN = "Evaluate again: what was finished is kept"


@dataclass(frozen=True)
class Sides:
    """What samples are held against.

    Args:
        real: the real samples.
        split: what they are; see `Protocol`.
        held_out: how many of their data were kept out of training.
        parts: gives what the run was trained on, and what was kept out.
    """

    real: Dataset
    split: str
    held_out: int
    parts: Callable[[], tuple[Dataset, Dataset]]


def evaluate(
    run: str | Path,
    *,
    data: str | Path | None = None,
    metrics: Sequence[str] | str | None = None,
    n: int | str | None = None,
    checkpoint: int | str | None = None,
    features: str | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    again: bool = False,
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Silent | None = None,
    processes: Processes | None = None,
) -> list[dict[str, Any]]:
    """Numbers about what a run makes, each with the protocol that it was worked out under, appended to the run's `metrics.jsonl`.

    A number that is there already, of the same weights under the same protocol, is not worked out again.

    Args:
        run: folder, name, number or `last`.
        data: other real pictures, read with the run's size and channels. None: what was held out of training, or, where nothing
            was, what the run was trained on.
        metrics: keys of `leafwing.metrics.METRICS`, in a list or with commas between. None: fid, kid, prdc, and without `data`
            memorisation; for points and stacked digits, modes.
        n: how many samples. None: as many as there are real pictures, 5,000 at the most; for worlds with known modes as many as the
            papers took. So many real samples are taken too, as far as there are.
        checkpoint: images shown, `last` (None), `best`, or `all`.
        features: a key of `leafwing.metrics.features.FEATURES`. None: own.
        weights: of `inception`: a file; None: the public one, downloaded once.
        seed: of the samples, and of the choice of real ones.
        device: auto, cpu, cuda or mps.
        precision: of the model: fp32, bf16 or auto; see `sample`.
        again: work everything out anew.
        trust: execute the folder's `recipe.py` although it is no installed recipe.
        root: where numbered run folders lie.
        progress: who is told; None for nobody.
        processes: those that train the run just now, all of which must call this; None: see `together`.

    Returns:
        Rows, checkpoint by checkpoint: metric, value (None where it cannot be worked out), low, high, better, by (the metric's key),
        run, images, weights (their file), weights_hash, n, seed, protocol, fingerprint, seconds.

    Raises:
        LeafwingError: bad input; numbers that were finished are kept.
    """
    import torch

    from leafwing.commands.launching import together
    from leafwing.data.pack import cache_folder
    from leafwing.engine import choose, keep_freed_memory
    from leafwing.metrics.features import FEATURES, load_features
    from leafwing.metrics.samples import Samples
    from leafwing.model import Model

    features, samples, seed = features or "own", None if n is None else count(n, "n"), whole("seed", seed, 0)
    if features not in FEATURES:
        raise LeafwingError(f"no feature network {features!r}{did_you_mean(features, list(FEATURES))}")
    with nullcontext(processes) if processes else together(AGAIN) as processes:
        heard = (progress or Silent()) if processes.first else Silent()
        opened = Run.open(run, root=root, trust=trust)
        names = chosen(metrics, opened, data)
        opened.function()  # raises: a recipe that is not trusted
        checkpoints = which(opened, checkpoint)
        setup = choose(device, precision, torch.get_num_threads())
        if "ppl" in names and setup.precision != "fp32":
            raise LeafwingError(
                f"metric ppl needs --precision fp32: it takes steps of 1e-4 in the latents, which {setup.precision} rounds away"
            )
        here = processes.device(setup.device)
        keep_freed_memory()
        network = None
        with processes.first_on_machine():
            sides = reference(opened, data, heard)
            if set(names) - set(WITHOUT_NETWORK):
                taught = sides.parts()[0] if sides.split == "held-out" else sides.real
                network = load_features(
                    features, taught, weights=weights, device=here, report_progress=heard.report_progress
                )
        same_everywhere(network.digest if network else "", processes)
        protocol = conditions(opened, sides, samples, seed, setup.precision)
        if network:
            protocol = replace(protocol, features=network.name, network=network.digest)
        announce(protocol, names, heard)

        def both_sides(shown: int) -> Samples:
            model = Model.load(opened, checkpoint=shown, device=here, precision=setup.precision)
            told: dict[str, Any] = {
                "cache": cache_folder(None),
                "processes": processes,
                "report_progress": heard.report_progress,
            }
            return Samples(model, sides.real, protocol, network, parts=sides.parts, **told)

        found = []
        for shown in checkpoints:
            found += of_checkpoint(opened, shown, names, protocol, again, processes, both_sides)
        return found


def of_checkpoint(
    run: Run,
    shown: int,
    names: Sequence[str],
    protocol: Protocol,
    again: bool,
    processes: Processes,
    both_sides: Callable[[int], Samples],
) -> list[dict[str, Any]]:
    """The rows of one checkpoint: those that are there already, and the others worked out now and kept at once."""
    path = run.weights()[shown]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    known = [] if again else run.numbers()
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        samples = None
        for name in names:
            under = replace(protocol, features="", network="") if name in WITHOUT_NETWORK else protocol
            if name == "memorisation":
                under = beside_training(under, run)
            about = {
                "by": name,
                "run": run.name,
                "images": shown,
                "weights": path.name,
                "weights_hash": digest,
                "n": under.n_fake,
                "seed": under.seed,
                "protocol": under.as_dict(),
                "fingerprint": under.fingerprint,
            }
            same = ("by", "weights_hash", "fingerprint")
            old = {row["metric"]: row for row in known if all(row.get(key) == about[key] for key in same)}
            old = processes.broadcast(old)
            if old:
                rows += old.values()
                continue
            samples = samples or stack.enter_context(both_sides(shown))
            started = time.perf_counter()
            measures, more = worked_out(name, samples, run, shown)
            about["seconds"] = round(time.perf_counter() - started, 3)
            new = [{**plain(measure), **about, **more} for measure in measures]
            if processes.first:
                run.add_numbers(new)
            rows += new
    return rows


def beside_training(protocol: Protocol, run: Run) -> Protocol:
    """The protocol of memorisation, which looks at the training pictures whatever the other metrics look at."""
    from leafwing.metrics.memorisation import MAX_IMAGES

    about = run.config["data"]
    held_out = int(about.get("held_out", 0))
    return replace(
        protocol,
        data=about["fingerprint"],
        split="train",
        held_out=held_out,
        n_real=about["samples"] - held_out,
        n_fake=min(protocol.n_fake, MAX_IMAGES),
    )


def worked_out(name: str, samples: Samples, run: Run, shown: int) -> tuple[list[Measure], dict[str, Any]]:
    """What a metric measures. Memorisation leaves its report and a page of the closest pairs in the run folder too."""
    from leafwing.metrics import metric

    if name != "memorisation":
        return metric(name)(samples), {}
    from leafwing.metrics.memorisation import report
    from leafwing.metrics.pairs import page
    from leafwing.pictures import png

    found = report(samples)
    written = {
        kind: run.folder / f"memorisation-{shown:09d}{ending}" for kind, ending in (("report", ".json"), ("page", ".png"))
    }
    if samples.processes.first:
        files.write(written["report"], json.dumps(found.as_dict(), indent=2, ensure_ascii=False) + "\n")
        files.write(written["page"], png(page(samples, found)))
    about = {"verdict": found.verdict, "words": found.words}
    return found.measures(), about | {kind: path.name for kind, path in written.items()}


def plain(measure: Measure) -> dict[str, Any]:
    """A measure in plain JSON, which has no word for what is no finite number but None."""
    numbers = {"value": measure.value, "low": measure.low, "high": measure.high}
    held = {name: float(one) if one is not None and isfinite(one) else None for name, one in numbers.items()}
    return {"metric": measure.name, **held, "better": measure.better}


def chosen(metrics: Sequence[str] | str | None, run: Run, data: object = None) -> list[str]:
    """The metrics asked for, or those that suit the run.

    Raises:
        LeafwingError: there is no such metric, or it does not suit.
    """
    source, points = run.config["data"]["source"], run.spec.points
    if metrics is None:
        if points or world_of(source) == "stacked":
            return ["modes"]
        return ["fid", "kid", "prdc"] + (["memorisation"] if data is None else [])
    return suitable(metrics, points, source)


def suitable(metrics: Sequence[str] | str, points: bool, source: str) -> list[str]:
    """Names of metrics, checked for what a run makes.

    Raises:
        LeafwingError: there is no such metric, or it does not suit points, or pictures of this source.
    """
    from leafwing.metrics import METRICS

    asked = metrics.split(",") if isinstance(metrics, str) else metrics
    names = list(dict.fromkeys(name.strip() for name in asked if name.strip()))
    if not names:
        raise LeafwingError(f"metrics {metrics!r}: name at least one of {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            raise LeafwingError(f"no metric {name!r}{did_you_mean(name, list(METRICS))}")
        if points and name != "modes":
            raise LeafwingError(
                f"metric {name} looks at pictures, and a run on {source} makes points; for points there is: modes"
            )
        if name == "modes" and not (points or world_of(source) == "stacked"):
            raise LeafwingError(
                f"metric modes needs data whose modes are known (ring, grid, stacked), which {source} is not; for pictures "
                f"there are: {', '.join(one for one in METRICS if one != name)}"
            )
    return names


def classifies(features: str, spec: DataSpec) -> None:
    """Raises LeafwingError for features of a network that is no classifier."""
    if features == "inception" or (features == "own" and spec.labels):
        return
    raise LeafwingError(
        f"metric inception_score needs a classifier, and features {features} of these data are none. Use --features inception, or "
        "--features own with data that have labels"
    )


def which(run: Run, checkpoint: int | str | None) -> list[int]:
    """The checkpoints asked for, by images shown, oldest first.

    Raises:
        LeafwingError: there is no such checkpoint.
    """
    found = list(run.weights())
    if not found:
        raise LeafwingError(f"{run.folder} holds no weights: its training ended before the first checkpoint")
    if checkpoint in (None, "last"):
        return found[-1:]
    if checkpoint == "all":
        return found
    if (shown := run.shown(checkpoint)) not in found:
        raise LeafwingError(f"{run.folder} has no weights of {shown:,} images; it has: {', '.join(map(str, found))}, or all")
    return [shown]


def world_of(source: str) -> str:
    """The built-in world that a source is; empty for a user's pictures."""
    from leafwing.data.worlds import WORLDS

    name = source.partition(":")[0]
    return name if name in WORLDS else ""


def reference(run: Run, data: str | Path | None, heard: Silent) -> Sides:
    """The real side: other data if asked for, else what was held out of training, else what the run was trained on.

    Raises:
        LeafwingError: they cannot be read.
    """
    from leafwing.commands.feeding import same_data
    from leafwing.data import load

    about = run.config["data"]
    held_out = int(about.get("held_out", 0))

    @cache
    def parts() -> tuple[Dataset, Dataset]:
        return same_data(run, heard).split(held_out)

    if data is None:
        train, held = parts()
        return Sides(held, "held-out", held_out, parts) if held_out else Sides(train, "train", 0, parts)
    if run.spec.points:
        raise LeafwingError(
            f"--data {data}: other data are for pictures, and {run.folder} makes points of {about['source']}"
        )
    options = {name: value for name, value in about["options"].items() if name in ("fit", "background", "mirror")}
    size = (run.spec.height, run.spec.width)
    real = load(data, size=size, channels=run.spec.channels, **options, progress=heard.packing)
    if real.fingerprint == about["fingerprint"]:
        return Sides(real, "all" if held_out else "train", held_out, parts)
    return Sides(real, "other", 0, parts)


def conditions(run: Run, sides: Sides, n: int | None, seed: int, precision: str) -> Protocol:
    """The protocol of an evaluation, but for the feature network."""
    from leafwing.metrics import modes
    from leafwing.metrics.protocol import Protocol
    from leafwing.metrics.samples import AS_REAL, IN_TURN

    real, spec, options = sides.real, run.spec, sides.real.options
    n_fake = n or modes.SAMPLES.get(world_of(real.source)) or min(MOST, len(real))
    alike = real.spec.attributes == spec.attributes != () if real.labels is None else real.spec.labels == spec.labels
    return Protocol(
        data=real.fingerprint,
        split=sides.split,
        held_out=sides.held_out,
        n_real=min(n_fake, len(real)),
        n_fake=n_fake,
        shape="points" if spec.points else f"{spec.height}x{spec.width}x{spec.channels}",
        fit=options["fit"],
        background=options["background"],
        mirror=real.mirror,
        labels=AS_REAL if alike else IN_TURN,
        features="",
        network="",
        seed=seed,
        precision=precision,
    )


def announce(protocol: Protocol, names: Sequence[str], heard: Silent) -> None:
    """Says what samples are held against, and where that limits what the numbers mean."""
    if protocol.split == "train" and protocol.shape != "points":
        heard.say(
            "real side: the training data, because nothing was held out of training. A model that copies looks perfect beside them; "
            "`leafwing train --hold-out auto` keeps some pictures for evaluation"
        )
    few = min(protocol.n_real, protocol.n_fake)
    if few < FEW and "fid" in names:
        heard.say(
            f"{few:,} samples are few: FID is biased upwards, the more so the fewer there are. Compare it under the same protocol "
            "alone, and look at KID, which is not biased"
        )


def numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of `evaluate` as one JSON document: `run`, `rows`, and the `verdict` on memorisation where there is one, of the last."""
    verdicts = [row["verdict"] for row in rows if row.get("verdict")]
    return {"run": rows[-1]["run"], "rows": list(rows)} | ({"verdict": verdicts[-1]} if verdicts else {})


def describe_numbers(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of `evaluate` for people: a table, what a metric says in words, and each protocol in a line."""
    from leafwing.metrics.protocol import describe
    from leafwing.tables import aligned

    lines = [("images", "metric", "value", "95 %", "better")]
    for row in rows:
        interval = "" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
        value = "unknown" if row["value"] is None else f"{row['value']:.4g}"
        lines.append((f"{row['images']:,}", row["metric"], value, interval, row["better"]))
    words = dict.fromkeys(f"{row['images']:,} images: {row['words']}" for row in rows if row.get("words"))
    protocols = dict.fromkeys(describe(row["protocol"]) for row in rows)
    return "\n".join([aligned(lines), *words, *protocols])


def same_everywhere(digest: str, processes: Processes) -> None:
    """Raises LeafwingError when processes on several machines have not the same feature network."""
    import torch

    mine = torch.frombuffer(bytearray(bytes.fromhex(digest)[:7] + b"\0"), dtype=torch.int64) if digest else torch.zeros(1)
    if len(processes.gather(mine).unique()) > 1:
        raise LeafwingError(
            "the feature network was trained on several machines and came out differently: evaluate on one of them, or let all have "
            "one cache folder (LEAFWING_CACHE)"
        )
