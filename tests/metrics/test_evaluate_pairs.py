"""`leafwing evaluate` of images from paired images: default metrics, known values, what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import leafwing
from leafwing import cli, data
from leafwing.commands.evaluate import evaluate
from leafwing.commands.figures import as_text
from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.game import DataSpec, Output
from leafwing.metrics.targets import resembles_real
from leafwing.model import Model
from leafwing.runs import Run
from paired import paired_data, write_recipe

PAIRS = paired_data()
HELD_OUT = 20


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A translator that halves the contrast of its input, with 20 held-out pairs."""
    monkeypatch.setattr(data, "load_pack", lambda fingerprint, mirror=False: PAIRS)
    config: dict[str, Any] = {
        "recipe": "scale",
        "options": {"factor": 0.5, "batch": 8, "lr": 0.01},
        "data": {
            "source": PAIRS.source,
            "options": PAIRS.options,
            "fingerprint": PAIRS.fingerprint,
            "samples": len(PAIRS),
            "rejected": 0,
            "held_out": HELD_OUT,
            "spec": PAIRS.spec.as_dict(),
        },
        "schedule": {"images": 8},
        "watching": {},
        "folder": {},
        "machine": {},
    }
    run = Run.create(config, write_recipe(tmp_path), out=tmp_path / "run")
    run.save_checkpoint(run.build_game(), {"images": 8}, last=1, milestone=0)
    return run


def rows_of(run: Run, **how: Any) -> list[dict[str, Any]]:
    return evaluate(run.folder, trust=True, features="pixels", **how)


def test_default_metrics_compare_samples_with_their_targets(run: Run) -> None:
    rows = rows_of(run)
    assert list(dict.fromkeys(row["by"] for row in rows)) == ["fid", "kid", "reconstruction", "prdc", "memorisation"]
    assert {(row["protocol"]["output"], row["protocol"]["conditions"]) for row in rows} == {("image", "as the real ones")}
    assert {(row["protocol"]["split"], row["protocol"]["n_real"]) for row in rows if row["by"] != "memorisation"} == {
        ("held-out", HELD_OUT)
    }
    _, held_out = PAIRS.split(HELD_OUT)
    inputs = held_out.stored("input", np.arange(HELD_OUT)) / 127.5 - 1
    fake = np.round(inputs / 2 * 127.5 + 127.5) / 127.5 - 1
    values = {row["metric"]: row["value"] for row in rows}
    assert values["l1"] == pytest.approx(np.abs(fake + inputs).mean(), abs=1e-6)
    errors = np.square((fake + inputs) / 2).mean(axis=(1, 2, 3))
    assert values["psnr"] == pytest.approx(-10 * np.log10(errors).mean(), abs=1e-5)
    assert values["edge_energy"] == pytest.approx(0.5, abs=0.01)
    text = as_text(rows, verbose=True)
    assert "psnr" in text
    assert "conditions of the real images" in text
    assert rows_of(run) == rows, "stored values were computed again"


def test_samples_from_training_images_are_not_called_copies_of_them(run: Run) -> None:
    """A perfect translator makes the training image that belongs to its input."""
    document = json.loads((run.folder / "run.json").read_text())
    document["data"]["held_out"] = 0
    (run.folder / "run.json").write_text(json.dumps(document))
    assert list(dict.fromkeys(row["by"] for row in rows_of(run, n=20))) == ["fid", "kid", "reconstruction", "prdc"]
    row = rows_of(run, n=20, metrics="memorisation")[0]
    assert row["words"].startswith("No conclusion about copies: each sample is generated from a training image or its pair")
    assert row["verdict"] == "none"


@pytest.mark.parametrize(
    ("field", "conditions", "unpaired", "expected"),
    [
        ("image", ("input",), (), True),
        ("image", ("input",), ("input",), False),
        ("input", ("image",), ("input",), False),
        ("image", ("image", "attributes"), ("input",), True),
        ("image", ("attributes",), (), False),
    ],
)
def test_what_is_generated_from_a_real_sample_resembles_it(
    field: str, conditions: tuple[str, ...], unpaired: tuple[str, ...], expected: bool
) -> None:
    spec = DataSpec.images(16, 16, attributes=("bright",), input=Image(16, 16))
    output = Output(field, lambda nets, inputs, clock: inputs.image, conditions)
    assert resembles_real(output, replace(spec, unpaired=unpaired)) is expected


def test_the_command_writes_the_same_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "evaluate",
        str(run.folder),
        "--trust",
        "--metrics",
        "reconstruction",
        "--features",
        "pixels",
        "--output",
        "image",
    ]
    assert cli.run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == run.metrics()
    assert [row["metric"] for row in run.metrics()] == ["psnr", "psnr_y", "ssim", "l1", "edge_energy", "feature_distance"]


def test_samples_are_those_of_translate(run: Run) -> None:
    rows = rows_of(run, metrics="reconstruction")
    model = Model.load(Run(run.folder, trust=True))
    _, held_out = PAIRS.split(HELD_OUT)
    inputs = held_out.to_network(held_out.batch(0, 0, HELD_OUT)).input
    exact = (model.translate(inputs) + inputs).abs().mean()
    assert next(row["value"] for row in rows if row["metric"] == "l1") == pytest.approx(float(exact), abs=0.5 / 127.5)


def test_splits_with_and_without_shared_inputs_have_two_protocols(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a part of the same data, so one fingerprint would rank them together and share the features of real images."""
    inputs = PAIRS.columns["input"].copy()
    inputs[1::2] = inputs[::2]
    pairs = replace(PAIRS, columns={**PAIRS.columns, "input": inputs}, fingerprint="5a" * 32)
    monkeypatch.setattr(data, "load_pack", lambda fingerprint, mirror=False: pairs)
    path, values = run.folder / "run.json", []
    for by in (None, "input"):
        config = json.loads(path.read_text())
        config["data"] |= {"fingerprint": pairs.fingerprint, "held_out_by": by}
        path.write_text(json.dumps(config))
        rows = rows_of(run, metrics="fid,memorisation", with_scale=False)
        assert {row["protocol"].get("held_out_by") for row in rows} == {by}, "fingerprints of earlier versions stay"
        values.append(rows[0]["value"])
    assert values[0] != values[1]


def test_an_input_gives_one_sample_however_many_are_asked_for(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The same sample again would narrow intervals, lower recall and look like a lack of variety."""
    rows = rows_of(run, n=10 * HELD_OUT)
    assert {(row["protocol"]["n_real"], row["n"]) for row in rows if row["by"] != "memorisation"} == {(HELD_OUT, HELD_OUT)}
    assert "n=200: 20 samples of image, because there are 20 images to generate them from" in capsys.readouterr().err
    assert rows_of(run) == rows
    assert "to generate them from" not in capsys.readouterr().err
    assert rows_of(run, n=10, metrics="kid")[0]["n"] == 10


def test_if_only_what_real_images_reach_is_left_to_compute_that_is_said_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))
    said = []
    for with_scale in (False, True, True):
        rows_of(run, metrics="fid", with_scale=with_scale)
        said.append("computing what real images and noise reach" in capsys.readouterr().err)
    assert said == [False, True, False]


@pytest.mark.parametrize(("inputs", "n", "warned"), [(20, 20, False), (9, 9, False), (2, 6, True)])
def test_unpaired_inputs_that_are_fewer_than_the_images_limit_the_samples(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], inputs: int, n: int, warned: bool
) -> None:
    plain = replace(PAIRS, spec=DataSpec.images(16, 16), columns={"image": PAIRS.array})
    second = replace(plain, columns={"image": PAIRS.columns["input"]}, rows=np.arange(3 * inputs))
    unpaired = plain.with_stream("input", second, {"image": "input"})
    monkeypatch.setattr(data, "load_pack", lambda fingerprint, mirror=False: unpaired)
    document = json.loads((run.folder / "run.json").read_text())
    document["data"]["spec"] = unpaired.spec.as_dict()
    (run.folder / "run.json").write_text(json.dumps(document))
    recipe = run.folder / "recipe.py"
    recipe.write_text(recipe.read_text().replace('need("scale"', 'need("scale", unpaired=("input",)'))
    rows = rows_of(run, metrics="kid,structure,prdc,memorisation")
    assert {row["n"] for row in rows} == {n}
    assert {row["protocol"]["n_real"] for row in rows if row["by"] != "memorisation"} == {n}
    said = capsys.readouterr().err
    assert ("images to generate them from" in said) == (inputs < HELD_OUT)
    assert ("some samples are the same" in said) == warned


@pytest.mark.parametrize(
    ("held_out", "lacking", "others"),
    [
        (1, "1 real image is too few for fid (at least 2), kid (at least 3), prdc (at least 6)", []),
        (4, "4 real images are too few for prdc (at least 6)", ["fid", "kid"]),
        (6, "", ["fid", "kid", "prdc"]),
    ],
)
def test_default_metrics_that_few_pairs_do_not_allow_are_left_out(
    run: Run, held_out: int, lacking: str, others: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((run.folder / "run.json").read_text())
    document["data"]["held_out"] = held_out
    (run.folder / "run.json").write_text(json.dumps(document))
    advice = "name data with more images (--data), or hold out more when training (--hold-out)"
    if lacking:
        with pytest.raises(LeafwingError, match=re.escape(f"metrics='prdc,swd': {held_out} real image")):
            rows_of(run, metrics="prdc,swd")
        assert not run.metrics(), "refused before anything is computed"
    assert {row["by"] for row in rows_of(run)} == {*others, "reconstruction", "memorisation"}
    assert (f"left out: {lacking}: {advice}" in capsys.readouterr().err) == bool(lacking)


def test_too_few_samples_are_refused_before_anything_is_computed(run: Run) -> None:
    with pytest.raises(LeafwingError, match=r"n=4: too few samples for prdc \(at least 6\)"):
        rows_of(run, n=4)
    assert not run.metrics()
    assert rows_of(run, n=4, metrics="kid")[0]["n"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": "ppl"}, "metric ppl .* image is generated from input without latents"),
        ({"output": "inpt"}, "no output 'inpt'.*image"),
        ({"metrics": "modes"}, "modes"),
    ],
)
def test_what_does_not_suit_a_translator_is_refused(run: Run, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        rows_of(run, **arguments)
    assert not (run.folder / "metrics.jsonl").exists()


def test_other_data_need_the_input(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = str(tmp_path / "other")
    Path(source).mkdir()
    requests: list[dict[str, Any]] = []
    other = replace(
        PAIRS, spec=DataSpec.images(16, 16), columns={"image": PAIRS.array}, fingerprint="12" * 32, source=source
    )
    monkeypatch.setattr(data, "load", lambda source, **how: requests.append(how) or other)
    with pytest.raises(LeafwingError, match=r"other: image is generated from input \(image 16x16x3\).*no such field"):
        rows_of(run, data=source, metrics="fid")
    assert requests[0]["input"] == "left", "read as the data of the run"
    monkeypatch.setattr(data, "load", lambda source, **how: replace(PAIRS, fingerprint="12" * 32, source=source))
    rows = rows_of(run, data=source)
    assert rows[0]["protocol"]["split"] == "other"
    assert {row["by"] for row in rows} == {"fid", "kid", "prdc", "reconstruction"}


@pytest.mark.parametrize(
    ("recipe", "metric", "options"),
    [("pix2pix", "reconstruction", {"input": "A"}), ("dcgan", "prdc", {"bits": 16, "latent": 4})],
)
def test_images_with_16_bits_are_compared_at_8(recipe: str, metric: str, options: dict[str, Any], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (24, 16, 16)).astype(np.uint16)
    for i, name in enumerate(("A", "B")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number, pixels in enumerate(values[i::2]):
            PillowImage.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")
    source = tmp_path / "set" if "input" in options else tmp_path / "set/B"
    tiny: dict[str, Any] = {"size": 16, "batch": 2, "width": 8, "max_width": 8, "images": 2, "threads": 1, "hold_out": 6}
    run = leafwing.train(source, recipe, **tiny, **options, stop_on="swd", out=tmp_path / "run")
    assert run.spec.fields["image"] == Image(16, 16, 1, bits=16)
    assert run.history.best.metric == "swd"
    rows = evaluate(run.folder, features="pixels", metrics=metric)
    assert all(np.isfinite(row["value"]) for row in rows)
    assert {row["protocol"]["shape"] for row in rows} == {"16x16x1"}


@pytest.mark.parametrize("hold_out", [0, 6])
def test_other_data_of_an_unpaired_run_are_those_of_the_output(
    tmp_path: Path, hold_out: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they are generated from is the run's: images that it was not trained on, if there are any."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    for name, part in {"images": noise[:24], "inputs": noise[24:48], "other": noise[48:]}.items():
        (tmp_path / name).mkdir()
        for number, pixels in enumerate(part):
            PillowImage.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    tiny: dict[str, Any] = {"size": 16, "batch": 2, "width": 8, "max_width": 8, "blocks": 1, "images": 2, "threads": 1}
    options = {**tiny, "input": tmp_path / "inputs", "hold_out": hold_out}
    run = leafwing.train(tmp_path / "images", "cyclegan", **options, out=tmp_path / "run")
    capsys.readouterr()
    for output, sources in (("image", "inputs"), ("input", "images")):
        (row, *_) = evaluate(run.folder, data=tmp_path / "other", output=output, metrics="swd")
        about = row["protocol"]
        assert (about["split"], about["held_out"], about["n_fake"]) == ("other", hold_out, hold_out or 12)
        same = data.load(tmp_path / "other", size=16, input=str(tmp_path / "inputs") if output == "image" else None)
        assert about["data"].startswith(same.fingerprint)
        text = f"{output} is generated from the images of {tmp_path / sources}, and the run was trained on 24 of these 24"
        assert (text in capsys.readouterr().err) == (not hold_out)
