"""Evaluating pictures that another program generated: a folder against a folder, under the protocol of runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.commands.evaluate import (
    ADVICE,
    MAX_DEFAULT_SAMPLES,
    WITHOUT_NETWORK,
    as_row,
    check_metrics,
    report_caveats,
    require_classifier,
    require_same_network,
)
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.progress import Reporter
from leafwing.quantities import check_seed, count
from leafwing.runs import ROOT, folders

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.metrics.memorisation import MemorisationReport
    from leafwing.metrics.pictures import PictureEvidence
    from leafwing.metrics.protocol import Protocol

DEFAULT_METRICS = ("fid", "kid", "prdc")
MIN_PICTURES = 6
"""Below this, not all metrics of sets are defined; memorisation needs one."""


def are_pictures(name: str | Path, root: str | Path = ROOT) -> bool:
    """Whether the first argument of `leafwing evaluate` is a source of pictures, and not a run."""
    from leafwing.data.locating import is_source

    path, name = Path(name), str(name)
    if path.exists():
        return not (path / "run.json").exists()
    runs = {part for folder in folders(root) for part in (folder.name, folder.name.split("-")[0].lstrip("0"))}
    return name != "last" and name not in runs and is_source(name)


def evaluate_pictures(
    pictures: str | Path,
    data: str | Path,
    *,
    size: int | str | tuple[int, int] | None = None,
    metrics: Sequence[str] | str | None = None,
    n: int | str | None = None,
    features: str | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    progress: Reporter | None = None,
) -> list[dict[str, Any]]:
    """Computes metrics of generated pictures against real ones. Neither source is changed.

    Args:
        pictures: the generated pictures: a folder, an archive or an array, see `leafwing.data.load`.
        data: the real ones. Feature networks learn from them only; for memorisation they are the training images.
        size: the size at which both are compared, as for `leafwing.train`. None: chosen from the real ones.
        metrics: keys of `leafwing.metrics.pictures.METRICS`, as a list or separated by commas. None: fid, kid, prdc.
        n: number of pictures on either side. None: as many as both have, at most 5,000. If there are fewer real ones, all of them.
        features, weights: as for `evaluate`.
        seed: random seed of the choice of pictures, if not all are used.
        device: auto, cpu, cuda or mps.
        out: a JSON file of the rows, which must not exist; of memorisation, the page of closest pairs is written beside it as PNG.
        progress: receives messages and progress; None: nothing is shown.

    Returns:
        Rows as those of `evaluate`; instead of the run and its checkpoint they have `pictures` and `pictures_hash`.

    Raises:
        LeafwingError: invalid input; nothing was written.
    """
    import torch

    from leafwing.commands.launching import join_processes
    from leafwing.data.pack import cache_folder
    from leafwing.engine import choose
    from leafwing.metrics.features import FEATURES, load_features
    from leafwing.metrics.pictures import METRICS, PictureEvidence
    from leafwing.metrics.targets import frames, target

    features, seed = features or "own", check_seed(seed)
    number = None if n is None else count(n, "n")
    if features not in FEATURES:
        raise LeafwingError(f"no feature network {features!r}{did_you_mean(features, list(FEATURES))}")
    names = check_metrics(metrics or DEFAULT_METRICS, False, str(data))
    for name in names:
        if name not in METRICS:
            raise LeafwingError(f"metric {name} needs a run; for pictures there are {', '.join(METRICS)}")
    refuse_runs(pictures, data)
    target_files = check_out(out, pictures, data, "memorisation" in names)
    with join_processes(ADVICE) as processes:
        progress = (progress or Reporter()) if processes.first else Reporter()
        device = processes.device(choose(device, "fp32", torch.get_num_threads()).device)
        with processes.first_on_machine():
            real, generated = load_both(pictures, data, size, progress)
            protocol = protocol_of(generated, real, number, seed, 1 if names == ["memorisation"] else MIN_PICTURES)
            network = None
            if "inception_score" in names:
                require_classifier(features, real.spec)
            if set(names) - set(WITHOUT_NETWORK):
                network = load_features(
                    features, frames(target(real, "image")), weights=weights, device=device,
                    report_progress=progress.report_progress,
                )  # fmt: skip
        require_same_network(network.digest if network else "", processes)
        report_caveats(protocol, names, progress)
        with PictureEvidence(
            generated, real, protocol, network,
            cache=cache_folder(None), processes=processes, report_progress=progress.report_progress,
        ) as evidence:  # fmt: skip
            report_copies(evidence, real, generated, progress)
            common = {"pictures": str(pictures), "pictures_hash": generated.fingerprint[:16]}
            rows, memorised = compute_all(evidence, names, common)
        if processes.first and target_files:
            write(target_files, rows, memorised, evidence)
        return rows


def refuse_runs(pictures: str | Path, data: str | Path) -> None:
    """Raises LeafwingError if one of the sources is a run folder, whose grids would be read as pictures."""
    if (Path(data) / "run.json").exists():
        raise InvalidOption("data", data, f"it is a run folder: write `leafwing evaluate {data} --data {pictures}`")
    if (Path(pictures) / "run.json").exists():
        raise LeafwingError(f"{pictures} is a run folder, which `evaluate` evaluates")


def check_out(out: str | Path | None, pictures: str | Path, data: str | Path, with_page: bool) -> list[Path]:
    """The files to write: the JSON file, and the page of closest pairs.

    Raises:
        LeafwingError: one of them exists, is in one of the sources, or is no JSON file.
    """
    if out is None:
        return []
    path = Path(out)
    if path.suffix.lower() != ".json":
        raise InvalidOption("out", out, "the rows are written as one JSON document: name a .json file")
    for source in (Path(pictures), Path(data)):
        if source.is_dir() and path.resolve().is_relative_to(source.resolve()):
            raise InvalidOption("out", out, f"nothing is written into {source}, whose pictures are evaluated")
    paths = [path, *([path.with_name(f"{path.stem}-memorisation.png")] if with_page else [])]
    for target in paths:
        if target.exists():
            raise LeafwingError(f"{target} exists: choose another --out")
    if not path.parent.is_dir():
        raise InvalidOption("out", out, f"there is no folder {path.parent}")
    return paths


def load_both(
    pictures: str | Path, data: str | Path, size: int | str | tuple[int, int] | None, progress: Reporter
) -> tuple[Dataset, Dataset]:
    """The real images, and the generated ones in their size and channels.

    Raises:
        LeafwingError: a source cannot be read, or has no images.
    """
    from leafwing.data import load
    from leafwing.data.built_in import has_points, is_built_in
    from leafwing.fields import Image

    for source in (pictures, data):
        if is_built_in(str(source)) and has_points(str(source)):
            raise LeafwingError(f"{source}: only images are compared without a run, and these are points")
    real = load(data, size=size, progress=progress.report_reading)
    kind = real.spec.fields["image"]
    assert isinstance(kind, Image)
    # The classes of generated pictures are not used, so a strange list of them is no obstacle.
    labels = {} if is_built_in(str(pictures)) else {"labels": "none"}
    shape = (kind.height, kind.width)
    generated = load(pictures, size=shape, channels=kind.channels, progress=progress.report_reading, **labels)  # type: ignore[arg-type]
    for source, dataset in ((pictures, generated), (data, real)):
        if dataset.rejects:
            progress.say(
                f"rejected images in {source}: {len(dataset.rejects)}; `leafwing doctor {source}` lists them with reasons"
            )
        for note in dataset.notes:
            progress.say(f"{source}: {note}")
        report_resizing(source, shape, size is None, progress)
    return real, generated


def report_resizing(source: str | Path, shape: tuple[int, int], chosen: bool, progress: Reporter) -> None:
    """Says that pictures of another size are resized, and how to choose the size if it was not."""
    from leafwing.data.loading import sizes

    others = {size: number for size, number in sizes(source).items() if size != shape}
    if not others:
        return
    most = max(others, key=lambda size: others[size])
    text = f"{source}: images that are resized to {shape[0]}x{shape[1]} (height x width): {sum(others.values()):,}, "
    progress.say(f"{text}most of them from {most[0]}x{most[1]}" + ("; --size chooses another size" if chosen else ""))


def protocol_of(generated: Dataset, real: Dataset, n: int | None, seed: int, least: int) -> Protocol:
    """The protocol, without the feature network: that of a run that is evaluated with `--data`.

    Args:
        generated: the generated pictures.
        real: the real images.
        n: number of pictures; None: see `evaluate_pictures`.
        seed: as there.
        least: the smallest number of pictures with which the metrics are defined.

    Raises:
        LeafwingError: there are too few pictures.
    """
    from leafwing.metrics.protocol import DEFAULTS, Protocol
    from leafwing.metrics.targets import target

    images = target(real, "image")
    for source, number in ((generated.source, len(generated)), (real.source, len(images))):
        if number < least:
            raise LeafwingError(
                f"{source}: pictures in it: {number}. Sets are compared from {least} pictures on; useful numbers need hundreds, FID "
                "thousands"
            )
    if n is not None and not least <= n <= len(generated):
        raise InvalidOption("n", n, f"choose {least} to {len(generated):,}, the number of pictures in {generated.source}")
    number = n or min(MAX_DEFAULT_SAMPLES, len(generated), len(images))
    kind = images.spec.fields["image"]
    return Protocol(
        data=images.fingerprint,
        split="other",
        held_out=0,
        n_real=min(number, len(images)),
        n_fake=number,
        shape="x".join(str(side) for side in (*kind.shape[1:], kind.shape[0])),
        fit=real.options["fit"],
        background=real.options["background"],
        mirror=False,
        conditions=DEFAULTS,
        features="",
        network="",
        seed=seed,
        precision="fp32",
    )


def report_copies(evidence: PictureEvidence, real: Dataset, generated: Dataset, progress: Reporter) -> None:
    """Says if both sources are the same, or if some of the pictures are real ones."""
    if real.fingerprint == generated.fingerprint:
        progress.warn(f"{generated.source} and {real.source} have the same pictures: the numbers compare a set with itself")
    elif copies := evidence.copies():
        progress.warn(
            f"{copies:,} of {evidence.n_fake:,} pictures equal a picture of {real.source} in every pixel: copies look perfect to all "
            "metrics but memorisation. Compare with pictures that the generator has not seen"
        )


def compute_all(
    evidence: PictureEvidence, names: Sequence[str], common: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], MemorisationReport | None]:
    """The rows of all metrics, and the report on memorisation if it is among them."""
    from leafwing.metrics import metric
    from leafwing.metrics.memorisation import MAX_IMAGES, report

    rows, memorised = list[dict[str, Any]](), None
    for name in names:
        conditions, extra = evidence.protocol, dict[str, Any]()
        if evidence.network and name not in WITHOUT_NETWORK:
            conditions = replace(conditions, features=evidence.network.name, network=evidence.network.digest)
        started = time.perf_counter()
        if name == "memorisation":
            memorised = report(evidence)
            measures, extra = memorised.measures(), {"verdict": memorised.verdict, "words": memorised.words}
            n_real, n_fake = len(evidence.real), min(conditions.n_fake, MAX_IMAGES)
            conditions = replace(conditions, split="train", n_real=n_real, n_fake=n_fake)
        else:
            measures = metric(name)(evidence)
        shared = {
            "by": name,
            **common,
            "n": conditions.n_fake,
            "seed": conditions.seed,
            "protocol": conditions.as_dict(),
            "fingerprint": conditions.fingerprint,
            "seconds": round(time.perf_counter() - started, 3),
        }
        rows += [{**as_row(measure), **shared, **extra} for measure in measures]
    return rows, memorised


def as_document(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of `evaluate_pictures` as one JSON document: `pictures`, `rows`, and the `verdict` on memorisation, if any."""
    verdicts = [row["verdict"] for row in rows if row.get("verdict")]
    return {"pictures": rows[-1]["pictures"], "rows": list(rows)} | ({"verdict": verdicts[-1]} if verdicts else {})


def write(
    paths: Sequence[Path], rows: Sequence[Mapping[str, Any]], memorised: MemorisationReport | None, evidence: PictureEvidence
) -> None:
    """Writes the document, with the report on memorisation if there is one, and the page of closest pairs."""
    from leafwing.metrics.pairs import page
    from leafwing.pictures import png

    document = as_document(rows)
    if memorised is not None:
        files.write(paths[1], png(page(evidence, memorised)))
        document["memorisation"] = {**memorised.as_dict(), "page": paths[1].name}
    files.write(paths[0], json.dumps(document, indent=2, ensure_ascii=False) + "\n")
