"""`leafwing evaluate A --data B` without a run: what is compared, its protocol, what is said, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import leafwing
from leafwing import cli
from leafwing.commands import evaluate, evaluate_pictures
from leafwing.commands.generated import without_hints
from leafwing.commands.selection import are_pictures
from leafwing.data import load
from leafwing.errors import LeafwingError
from leafwing.metrics import features as networks
from leafwing.metrics import memorisation, pairs
from leafwing.metrics.fid import frechet_distance
from leafwing.metrics.memorisation import MIN_TRAINING
from leafwing.networks import lite0
from leafwing.progress import Reporter


class Listener(Reporter):
    """Collects messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(text)


def folder(path: Path, n: int, *, seed: int, side: int = 16, mode: str = "L") -> Path:
    """Noise with large blobs, as PNG files."""
    path.mkdir()
    random = np.random.default_rng(seed)
    for i in range(n):
        small = random.integers(0, 256, (4, 4, len(mode)) if len(mode) > 1 else (4, 4), dtype=np.uint8)
        Image.fromarray(small).resize((side, side), Image.Resampling.BILINEAR).save(path / f"{i:04d}.png")
    return path


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return folder(tmp_path / "real", 40, seed=1)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return folder(tmp_path / "made", 30, seed=2)


def test_as_many_pictures_of_both_are_compared_at_the_size_of_the_real_ones(made: Path, real: Path) -> None:
    rows = evaluate_pictures(made, real, features="pixels")
    assert [row["metric"] for row in rows] == ["fid", "kid", "precision", "recall", "density", "coverage"]
    protocol = rows[0]["protocol"]
    assert (protocol["n_real"], protocol["n_fake"], protocol["shape"]) == (30, 30, "32x32x1")
    assert all(row["pictures"] == str(made) and row["value"] is not None for row in rows)


def test_the_value_is_that_of_all_pictures(made: Path, real: Path) -> None:
    (row,) = evaluate_pictures(made, real, size=16, features="pixels", metrics="fid", n=30)
    network = networks.load_features("pixels", None)
    generated, images = load(made, size=16, channels=1), load(real, size=16)
    order, _ = images.epoch(0, 0, slice(0, 30))

    def outputs(data: Any, rows: Any) -> np.ndarray:
        return network(networks.Tensor(data.pictures(rows)).permute(0, 3, 1, 2) / 127.5 - 1)[0]

    expected = frechet_distance(outputs(images, order), outputs(generated, np.arange(30)))
    assert row["value"] == pytest.approx(expected, rel=1e-4)


def test_archives_and_arrays_in_colour_are_read_like_the_real_ones(tmp_path: Path, real: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 24, 24, 3), dtype=np.uint8)
    np.savez(tmp_path / "made.npz", array)
    listener = Listener()
    (row,) = evaluate_pictures(tmp_path / "made.npz", real, size=16, features="pixels", metrics="fid", progress=listener)
    assert row["protocol"]["shape"] == "16x16x1"
    assert any("resized to 16x16 (height x width): 20, most of them from 24x24" in text for text in listener.texts)
    assert not any("--size" in text for text in listener.texts)
    np.save(tmp_path / "wide.npy", array[:, :, :18])
    evaluate_pictures(tmp_path / "wide.npy", real, size=16, features="pixels", metrics="fid", progress=listener)
    assert any(
        "cropped and resized to 16x16 (height x width): 20, most of them from 24x18" in text for text in listener.texts
    )


def deep(path: Path, n: int, peak: float, kind: type = np.uint16) -> Path:
    """Grey TIFF files with more than 8 bits, of which a quarter is `peak`."""
    path.mkdir()
    for i in range(n):
        values = np.full((16, 16), peak / 8)
        values[i % 8 : i % 8 + 8, :8] = peak
        Image.fromarray(values.astype(kind)).save(path / f"{i}.tif")
    return path


@pytest.mark.parametrize("peak", [4095, 65535])
def test_both_sides_of_deep_pictures_have_the_levels_of_the_real_ones(tmp_path: Path, peak: int) -> None:
    real, dark = deep(tmp_path / "bright", 12, peak), deep(tmp_path / "dark", 12, peak // 4)
    listener = Listener()
    evaluate_pictures(dark, real, size=16, features="pixels", metrics="fid", progress=listener)
    notes = [text for text in listener.texts if "more than 8 bits" in text]
    assert len(notes) == 2
    assert all(f"{peak:,} white" in note for note in notes)
    assert not any("--levels" in text or "--bits" in text for text in listener.texts)


def test_deep_pictures_that_are_stored_in_different_ways_are_read_by_themselves(tmp_path: Path, real: Path) -> None:
    floating = deep(tmp_path / "floating", 12, 1.0, np.float32)
    for made, other in ((deep(tmp_path / "whole", 12, 4095), floating), (floating, real), (real, floating)):
        listener = Listener()
        evaluate_pictures(made, other, size=16, features="pixels", metrics="fid", progress=listener)
        assert any("store their values in different ways" in text for text in listener.texts)


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("0 becomes black (--levels changes that, --bits 16 keeps 16 bits).", "0 becomes black."),
        ("a.csv is not used; --labels a.csv reads it.", "a.csv is not used."),
        ("Not used in a.csv: x. --labels a.csv reads labels from it.", "Not used in a.csv: x."),
        ("3 of 9 images are flat (a.png): dark.", "3 of 9 images are flat (a.png): dark."),
    ],
)
def test_notes_do_not_advise_options_that_evaluate_does_not_have(note: str, expected: str) -> None:
    assert without_hints(note) == expected


def test_two_networks_do_not_share_cached_features(made: Path, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = evaluate_pictures(made, real, features="pixels", metrics="fid")

    def other(name: str, data: Any, **_: Any) -> Any:
        return networks.Features("lite0", "ab" * 8, lambda images: (networks.pixels(-images)[0] + 1, None))

    monkeypatch.setattr(networks, "load_features", other)
    (same,) = evaluate_pictures(made, real, features="lite0", metrics="fid")
    assert same["value"] == pytest.approx(row["value"], rel=1e-3), (
        "the distance of negatives; not that to the other features"
    )


def test_the_protocol_is_that_of_a_run_that_is_evaluated_with_the_same_data(tmp_path: Path, made: Path, real: Path) -> None:
    run = leafwing.train(
        made, "dcgan", images=32, size=16, batch=16, width=8, max_width=16, latent=8, threads=1, precision="fp32",
        out=tmp_path / "run",
    )  # fmt: skip
    options: dict[str, Any] = {"data": real, "features": "pixels", "metrics": "fid", "n": 30}
    assert evaluate(run.folder, **options)[0]["fingerprint"] == evaluate_pictures(made, size=16, **options)[0]["fingerprint"]
    with pytest.raises(LeafwingError, match=r"is a run folder: write `leafwing evaluate .*run --data .*made`"):
        evaluate_pictures(made, run.folder)
    with pytest.raises(LeafwingError, match="is a run folder"):
        evaluate_pictures(run.folder, real)
    with pytest.raises(LeafwingError, match=r"progress sheets of a run.*leafwing evaluate .*run"):
        evaluate_pictures(run.samples, real)
    with pytest.raises(LeafwingError, match="progress sheets of a run"):
        evaluate_pictures(real, run.samples)
    with pytest.raises(LeafwingError, match="outputs has the grids of a run"):
        evaluate_pictures(leafwing.sample(run.folder, 4).parent, real)
    with pytest.raises(LeafwingError, match="is a run folder"):
        evaluate(run.folder, data=run.folder)
    assert not are_pictures(run.folder)
    assert cli.run(["evaluate", str(run.folder), "--size", "16"]) == 2


def test_the_own_network_learns_from_real_pictures_only(made: Path, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(name: str, data: Any, **_: Any) -> Any:
        seen.append((name, data.fingerprint))
        return networks.Features("pixels", "ab" * 8, networks.pixels, "cpu")

    monkeypatch.setattr(networks, "load_features", spy)
    evaluate_pictures(made, real, metrics="fid", size=16)
    assert seen == [("own", load(real, size=16).fingerprint)]


@pytest.mark.parametrize(
    ("installed", "side", "metrics", "network", "reason"),
    [
        (True, 32, "fid", "lite0", "images in colour from 32 px on"),
        (False, 32, "fid", "own", "not installed"),
        (True, 16, "fid", "own", "less than 32 px"),
        (True, 32, "fid,inception_score", None, "needs a classifier"),
    ],
)
def test_the_network_is_chosen_as_for_runs_and_that_is_said(
    tmp_path: Path,
    installed: bool,
    side: int,
    metrics: str,
    network: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, made = (folder(tmp_path / name, 8, seed=seed, side=32, mode="RGB") for seed, name in enumerate(("real", "made")))
    seen = []

    def spy(name: str, data: Any, **_: Any) -> Any:
        seen.append(name)
        return networks.Features("pixels", "ab" * 8, networks.pixels)

    monkeypatch.setattr(lite0, "is_installed", lambda: installed)
    monkeypatch.setattr(networks, "load_features", spy)
    listener = Listener()
    if network is None:
        with pytest.raises(LeafwingError, match=reason):
            evaluate_pictures(made, real, size=side, metrics=metrics)
        return
    evaluate_pictures(made, real, size=side, metrics=metrics, progress=listener)
    assert seen == [network]
    assert any(text.startswith(f"features {network}: ") and reason in text for text in listener.texts)


def test_nothing_is_written_into_the_sources_and_the_document_is_stored(
    tmp_path: Path, made: Path, real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    words = ["evaluate", str(made), "--data", str(real), "--features", "pixels", "--metrics", "kid,memorisation", "--json"]
    assert cli.run([*words, "--out", str(tmp_path / "numbers.json")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "none"
    stored = json.loads((tmp_path / "numbers.json").read_text())
    assert stored["rows"] == document["rows"]
    assert stored["memorisation"]["training"] == 40
    assert {row["protocol"]["split"] for row in document["rows"] if row["by"] == "memorisation"} == {"train"}
    new = {path.name for path in tmp_path.rglob("*")} - {path.name for path in before}
    assert new == {"numbers.json", "numbers-memorisation.png"}
    for out, message in (
        (made / "a.json", "nothing is written into"),
        (tmp_path / "numbers.json", "exists"),
        (tmp_path / "a", ".json"),
    ):
        assert cli.run([*words, "--out", str(out)]) == 2
        assert message in capsys.readouterr().err


def test_copies_are_said(tmp_path: Path, real: Path, made: Path) -> None:
    listener = Listener()
    rows = evaluate_pictures(real, real, features="pixels", metrics="fid,memorisation", progress=listener)
    assert rows[0]["value"] == pytest.approx(0, abs=1e-3)
    assert rows[-1]["verdict"] == "copies"
    assert any("compare a set with itself" in text for text in listener.texts)
    for i in range(3):
        (made / f"copy{i}.png").write_bytes((real / f"{i:04d}.png").read_bytes())
    listener = Listener()
    evaluate_pictures(made, real, features="pixels", metrics="fid", progress=listener)
    assert any(text.startswith("3 of 33 pictures equal a picture of") for text in listener.texts)


def test_copies_among_the_last_files_are_seen_and_have_their_number(
    tmp_path: Path, made: Path, real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all pictures are looked at, and files are often named by class or by time."""
    monkeypatch.setattr(memorisation, "MAX_IMAGES", 40)
    shown: list[dict[int, Any]] = []
    monkeypatch.setattr(
        pairs, "draw", lambda words, chosen, samples, training: shown.append(samples) or Image.new("L", (1, 1))
    )
    for i in range(40):
        (made / f"{30 + i:04d}.png").write_bytes((real / f"{i:04d}.png").read_bytes())
    (row, *_) = evaluate_pictures(made, real, n=70, size=16, metrics="memorisation", out=tmp_path / "numbers.json")
    assert (row["verdict"], row["n"]) == ("copies", 40)
    report = json.loads((tmp_path / "numbers.json").read_text())["memorisation"]
    copied = [(pair["sample"], pair["training"][0]) for pair in report["pairs"] if pair["distances"][0] < 0.01]
    assert len(copied) > 10
    assert all(sample == 30 + number for sample, number in copied)
    for sample, image in shown[0].items():
        assert (np.asarray(image.convert("L")) == np.asarray(Image.open(made / f"{sample:04d}.png"))).all()


def test_too_few_pictures_are_refused_and_few_are_said(tmp_path: Path, real: Path) -> None:
    few = folder(tmp_path / "few", 5, seed=3)
    with pytest.raises(LeafwingError, match=r"few: pictures in it: 5\. Sets are compared from 6 pictures on"):
        evaluate_pictures(few, real, features="pixels")
    with pytest.raises(LeafwingError, match=r"few: pictures in it: 5\."):
        evaluate_pictures(real, few, features="pixels")
    assert evaluate_pictures(folder(tmp_path / "six", 6, seed=3), real, features="pixels")[0]["n"] == 6
    assert evaluate_pictures(few, real, metrics="memorisation")[0]["n"] == 5
    with pytest.raises(LeafwingError, match=f"at least {MIN_TRAINING} distinct"):
        evaluate_pictures(real, folder(tmp_path / "pair", 2, seed=4), metrics="memorisation")
    listener = Listener()
    evaluate_pictures(real, real, metrics="fid", features="pixels", n=20, progress=listener)
    assert any("only 20 samples, FID is biased" in text for text in listener.texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "ppl"], "metric ppl needs a run"),
        (["--metrics", "modes"], "metric modes"),
        (["-n", "31"], "-n 31: choose 6 to 30"),
        (["--checkpoint", "best"], "--checkpoint best"),
        (["--recompute"], "--recompute"),
        (["--precision", "bf16"], "--precision bf16"),
        (["--metrics", "inception_score", "--features", "pixels"], "needs a classifier"),
        (["--features", "vgg"], "no feature network 'vgg'"),
        (["--weights", "a.pt"], "name the network too"),
        (["--features", "own", "--circular"], "--circular"),
    ],
)
def test_what_only_runs_have_is_refused(
    made: Path, real: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["evaluate", str(made), "--data", str(real), *options]) == 2
    assert message in capsys.readouterr().err


def test_what_is_neither_a_run_nor_pictures_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        ([str(made)], "because it has no run.json. To evaluate the pictures in it, add real ones: --data SOURCE"),
        ([str(tmp_path / "nothing"), "--data", str(made)], "no run"),
        ([str(made), "--data", str(tmp_path / "nothing")], "no such file or folder"),
        ([str(made), "--data", "ring"], "these are points"),
        (["ring", "--data", str(made)], "these are points"),
        (["x" * 300, "--data", str(made)], "no run"),
        ([str(made), "--data", "x" * 300], "no such file or folder"),
    ):
        assert cli.run(["evaluate", *words, "--root", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err


def test_pictures_where_a_run_is_expected_are_referred_to_the_function_for_them(made: Path) -> None:
    for call, source in ((lambda: evaluate(made, data="photos"), "'photos'"), (lambda: evaluate(str(made)), "source")):
        with pytest.raises(LeafwingError, match=re.escape(f"leafwing.evaluate_pictures({str(made)!r}, {source})")):
            call()
    with pytest.raises(LeafwingError, match="no run 'nothing'"):
        evaluate("nothing", root=made)


def test_the_table_has_no_column_of_checkpoints(made: Path, real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["evaluate", str(made), "--data", str(real), "--features", "pixels", "--metrics", "fid"]) == 0
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == ["metric", "value"], "with few real images FID has no scale to lead with"
    assert second.startswith("fid ")
    assert third.startswith("real images: one half of the real images against the other, 15 against 15")
