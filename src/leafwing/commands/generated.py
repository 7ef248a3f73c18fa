"""Evaluating pictures that another program generated: a folder against a folder, under the protocol of runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.commands.evaluate import ADVICE, announce, details_of, require_same_network, scale_of
from leafwing.commands.figures import as_row
from leafwing.commands.first_checks import reading_options, require_folder
from leafwing.commands.real_data import MIN_SAMPLES, default_samples, report_caveats
from leafwing.commands.results import Rows
from leafwing.commands.selection import (
    WITHOUT_NETWORK,
    check_features,
    check_metrics,
    is_run,
    require_classifier,
    require_packages,
)
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import check_seed, count
from leafwing.runs import OUTPUTS

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.data.pictures import Header
    from leafwing.metrics.memorisation import MemorisationReport
    from leafwing.metrics.pictures import PictureEvidence
    from leafwing.metrics.protocol import Protocol

DEFAULT_METRICS = ("fid", "kid", "prdc")


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
    progress: Progress = None,
) -> Rows:
    """Computes metrics of generated pictures against real ones. Neither source is changed.

    Args:
        pictures: the generated pictures: a folder, an archive or an array, see `leafwing.data.load`.
        data: the real ones. Feature networks learn from them only; for memorisation they are the training images.
        size: the size at which both are compared, as for `leafwing.train`. None: chosen from the real ones.
        metrics: keys of `leafwing.metrics.OF_PICTURES`, as a list or separated by commas. None: fid, kid, prdc.
        n: number of pictures on either side. None: as many as both have, at most 5,000, or 1,000 with `lite0` and `inception`. If
            there are fewer real ones, all of them.
        features, weights: as for `evaluate`.
        seed: random seed of the choice of pictures, if not all are used.
        device: auto, cpu, cuda or mps.
        out: a JSON file of the rows, which must not exist; of memorisation, the page of closest pairs is written beside it as PNG.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.

    Returns:
        Rows as those of `evaluate`; instead of the run and its checkpoint they have `pictures` and `pictures_hash`.

    Raises:
        LeafwingError: invalid input; nothing was written.
    """
    from leafwing.data.locating import find
    from leafwing.metrics import OF_PICTURES

    number, seed = None if n is None else count(n, "n"), check_seed(seed)
    check_features(features, weights)
    reading_options({"size": size})
    names = check_metrics(metrics or DEFAULT_METRICS, False, str(data))
    for source in (pictures, data):
        require_packages(metrics=names, features=features, weights=weights, data=find(source))
    for name in names:
        if name not in OF_PICTURES:
            raise LeafwingError(f"metric {name} needs a run; for pictures there are {', '.join(OF_PICTURES)}")
    refuse_runs(pictures, data)
    target_files = check_out(out, pictures, data, "memorisation" in names)
    import torch

    from leafwing.commands.launching import join_processes
    from leafwing.data.pack import cache_folder
    from leafwing.engine import choose
    from leafwing.metrics.choice import choose_features
    from leafwing.metrics.features import load_features
    from leafwing.metrics.pictures import PictureEvidence
    from leafwing.metrics.targets import frames, target

    with join_processes(ADVICE) as processes:
        progress = reporter_of(progress) if processes.first else Reporter()
        device = processes.device(choose(device, "fp32", torch.get_num_threads()).device)
        with processes.first_on_machine():
            real, generated = load_both(pictures, data, size, progress)
            choice = choose_features(real.spec.fields["image"], {}, metrics=names, requested=features)
            needs_network = bool(set(names) - set(WITHOUT_NETWORK))
            least = 1 if names == ["memorisation"] else MIN_SAMPLES
            protocol = protocol_of(generated, real, number, seed, least, choice.name if needs_network else "")
        judge, network = processes.broadcast(choice.name), None  # other machines may lack the package
        if "inception_score" in names:
            require_classifier(judge, real.spec)
        if needs_network:
            if str(choice):
                progress.say(str(choice))
            with processes.first_on_machine():
                network = load_features(
                    judge, frames(target(real, "image")), weights=weights, device=device,
                    report_progress=progress.report_progress,
                )  # fmt: skip
        require_same_network(network.digest if network else "", processes)
        if network:
            protocol = replace(protocol, features=network.name, network=network.digest)
        report_caveats(protocol, names, progress)
        with PictureEvidence(
            generated, real, protocol, network,
            cache=cache_folder(None), processes=processes,
        ) as evidence:  # fmt: skip
            evidence.report_progress = steps = announce(evidence, dict.fromkeys(names, protocol), 1, True, progress)
            report_copies(evidence, real, generated, progress)
            common = {"pictures": str(pictures), "pictures_hash": generated.fingerprint[:16]}
            rows, memorised = compute_all(evidence, names, common)
            steps.finish()
        if processes.first and target_files:
            write(target_files, rows, memorised, evidence)
        return Rows(rows)


def refuse_runs(pictures: str | Path, data: str | Path) -> None:
    """Raises LeafwingError if one of the sources is a run folder or its folder of grids, which would be read as pictures."""
    if is_run(data):
        raise InvalidOption("data", data, f"it is a run folder: write `leafwing evaluate {data} --data {pictures}`")
    if is_run(pictures):
        raise LeafwingError(f"{pictures} is a run folder, which `evaluate` evaluates")
    for source in (pictures, data):
        parent, name = os.path.split(os.path.realpath(source))
        if (what := {"samples": "progress sheets", OUTPUTS: "grids"}.get(name)) and is_run(parent):
            raise LeafwingError(
                f"{source} has the {what} of a run, each of many samples. To evaluate the run: leafwing evaluate {parent}"
            )


def check_out(out: str | Path | None, pictures: str | Path, data: str | Path, with_page: bool) -> list[Path]:
    """The files to write: the JSON file, and the page of closest pairs.

    Raises:
        LeafwingError: one of them exists, is in one of the sources or in no folder that exists, or is no JSON file.
    """
    if out is None:
        return []
    path = Path(out)
    if path.suffix.lower() != ".json":
        raise InvalidOption("out", out, "the rows are written as one JSON document: name a .json file")
    for source in (pictures, data):
        if os.path.isdir(source) and path.resolve().is_relative_to(Path(source).resolve()):
            raise InvalidOption("out", out, f"nothing is written into {source}, whose pictures are evaluated")
    paths = [path, *([path.with_name(f"{path.stem}-memorisation.png")] if with_page else [])]
    for target in paths:
        if os.path.exists(target):
            raise LeafwingError(f"{target} exists: choose another --out")
    require_folder(out)
    return paths


def load_both(
    pictures: str | Path, data: str | Path, size: int | str | tuple[int, int] | None, progress: Reporter
) -> tuple[Dataset, Dataset]:
    """The real images, and the generated ones in their size, channels and levels.

    Raises:
        LeafwingError: a source cannot be read, or has no images.
    """
    from leafwing.data import load
    from leafwing.data.built_in import has_points, is_built_in
    from leafwing.data.loading import headers
    from leafwing.fields import Image

    for source in (pictures, data):
        if is_built_in(str(source)) and has_points(str(source)):
            raise LeafwingError(f"{source}: only images are compared without a run, and these are points")
    real = load(data, size=size, progress=progress.report_reading)
    kind = real.spec.fields["image"]
    assert isinstance(kind, Image)
    # The classes of generated pictures are not used, so a strange list of them is no obstacle.
    reading: dict[str, Any] = {} if is_built_in(str(pictures)) else {"labels": "none"}
    of_generated, of_real = headers(pictures), headers(data)
    if levels := levels_for(of_generated, of_real, real.options.get("levels")):
        reading["levels"] = levels
    elif depths(of_real) != depths(of_generated):
        progress.say(
            f"{pictures} and {data} store their values in different ways, so each is read from black to white by itself"
        )
    shape = (kind.height, kind.width)
    generated = load(pictures, size=shape, channels=kind.channels, progress=progress.report_reading, **reading)
    for source, dataset, stored in ((pictures, generated, of_generated), (data, real, of_real)):
        if dataset.rejects:
            command = f"leafwing doctor {shlex.quote(str(source))}"
            progress.say(f"rejected images in {source}: {len(dataset.rejects)}; `{command}` lists them with reasons")
        for note in dataset.notes:
            progress.say(f"{source}: {without_hints(note)}")
        report_resizing(source, stored, shape, size is None, progress)
    return real, generated


def depths(stored: Sequence[Header]) -> set[str]:
    """How greyscale images with more than 8 bits are stored: `whole` and `floating` numbers; empty if there are none."""
    from leafwing.data.levels import has_depth

    return {"floating" if header.mode == "F" else "whole" for header in stored if has_depth(header.mode)}


def levels_for(generated: Sequence[Header], real: Sequence[Header], chosen: str | None) -> str | None:
    """The levels of the generated pictures: those of the real ones, if both have more than 8 bits and are stored in the same way.

    Args:
        generated, real: the headers of all pictures.
        chosen: the levels of the real ones; None: those of the file formats.
    """
    kinds = depths(real)
    if not kinds or depths(generated) != kinds:
        return None
    return chosen or ("0:1" if "floating" in kinds else "0:65535")


def without_hints(note: str) -> str:
    """A note on a source, without what it says about reading options, which `evaluate` does not have."""
    note = re.sub(r" \([^()]*--[^()]*\)", "", note)
    return re.sub(r"[;.] --.*$", ".", note)


def report_resizing(
    source: str | Path, stored: Sequence[Header], shape: tuple[int, int], chosen: bool, progress: Reporter
) -> None:
    """Says that pictures of another size are resized, or cropped too, and how to choose the size if it was not."""
    sizes = Counter((header.height, header.width) for header in stored if (header.height, header.width) != shape)
    if not sizes:
        return
    cropped = any(height * shape[1] != width * shape[0] for height, width in sizes)
    what = "cropped and resized" if cropped else "resized"
    most = sizes.most_common(1)[0][0]
    text = f"{source}: images that are {what} to {shape[0]}x{shape[1]} (height x width): {sizes.total():,}, "
    progress.say(f"{text}most of them from {most[0]}x{most[1]}" + ("; --size chooses another size" if chosen else ""))


def protocol_of(generated: Dataset, real: Dataset, n: int | None, seed: int, least: int, features: str = "") -> Protocol:
    """The protocol, without the feature network: that of a run that is evaluated with `--data`.

    Args:
        generated: the generated pictures.
        real: the real images.
        n: number of pictures; None: see `evaluate_pictures`.
        seed: as there.
        least: the smallest number of pictures with which the metrics are defined.
        features: the feature network; empty if no metric needs one.

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
    number = n or min(default_samples(features), len(generated), len(images))
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
    from leafwing.metrics.scale import measures_of

    rows, memorised = list[dict[str, Any]](), None
    for name in names:
        conditions, extra = evidence.protocol, dict[str, Any]()
        if name in WITHOUT_NETWORK:
            conditions = replace(conditions, features="", network="")
        started = time.perf_counter()
        if name == "memorisation":
            memorised = report(evidence)
            measures, extra = memorised.measures(), {"verdict": memorised.verdict, "words": memorised.words}
            n_real, n_fake = len(evidence.real), min(conditions.n_fake, MAX_IMAGES)
            conditions = replace(conditions, split="train", n_real=n_real, n_fake=n_fake)
        else:
            measures, extra = metric(name)(evidence), details_of(name, evidence)
        shared = {
            "by": name,
            **common,
            "n": conditions.n_fake,
            "seed": conditions.seed,
            "protocol": conditions.as_dict(),
            "fingerprint": conditions.fingerprint,
            "seconds": round(time.perf_counter() - started, 3),
        }
        scales = {measure.name: scale_of(evidence, measure.name) if measures_of([name]) else {} for measure in measures}
        rows += [{**as_row(measure), **shared, **extra, **scales[measure.name]} for measure in measures]
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
