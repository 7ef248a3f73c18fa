"""Samples of any field with any conditions, as a grid, a folder of files or an .npz file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageSequence

import leafwing
from leafwing import cli, fields, pictures
from leafwing.commands.sample import sweep_titles
from leafwing.commands.session import SHEET_ROWS, save_samples, sheet_rows
from leafwing.data import Dataset
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.game import DataSpec
from leafwing.layout import GAP
from leafwing.model import Model
from leafwing.pictures import Cell, Sheet
from leafwing.progress import Reporter
from leafwing.runs import Run
from saved_run import IMAGES, save

STEP = 128 + GAP
"""From one image of 16 or 32 pixels on a grid to the next."""
DESCRIBED = DataSpec.images(
    16, 16, labels=("ant", "bee"), attributes=("smiling", "colour=red", "colour=blue"),
    caption=fields.Caption(("a", "red", "star", "left"), 4), box=fields.Box(),
)  # fmt: skip
MAKE = "lambda nets, inputs, clock: nets.G(squares(inputs.latent) * 0.5 + inputs.box[:, :1, None, None])"
OUTPUTS = f'Output("image", {MAKE}, ("label", "attributes", "caption", "box"), Normal(2))'
EXAMPLES = {
    "label": [0, 0, 1],
    "attributes": ["110", "010", "101"],
    "caption": ["a star", "red star", "a red star"],
    "box": [[0, 0, 0.5, 0.5], [0.25, 0, 0.5, 0.5], [0.5, 0, 0.5, 0.5]],
}


@pytest.fixture
def described(tmp_path: Path) -> Path:
    return save(tmp_path / "run", DESCRIBED, OUTPUTS, examples=EXAMPLES)


def arrays(run: Path, n: int | None = 6, **options: Any) -> dict[str, np.ndarray]:
    path = leafwing.sample(run, n, format="npz", trust=True, **options)
    with np.load(path) as file:
        return {**file}


def test_an_npz_file_has_all_conditions_by_name(described: Path) -> None:
    result = arrays(described)
    assert [*result] == ["samples", "labels", "attributes", "attribute_names", "caption", "box"]
    assert result["samples"].shape == (6, 16, 16, 3)
    assert result["labels"].tolist() == [0, 1] * 3
    assert result["attribute_names"].tolist() == ["smiling", "colour=red", "colour=blue"]
    assert result["attributes"].dtype == np.uint8
    rows = zip(result["labels"].tolist(), result["caption"].tolist(), result["box"][:, 0].tolist(), strict=True)
    assert {*rows} <= {(0, "a star", 0.0), (0, "red star", 0.25), (1, "a red star", 0.5)}
    assert result["attributes"][1].tolist() == [1, 0, 1], "attributes and captions are those of one example"


@pytest.mark.parametrize(
    "conditions",
    [
        ["label=bee", "caption=a red, red star", "box=.25,.25,.5,.5", "smiling=0,colour=red"],
        {"label": 1, "caption": "a red, red star", "box": (0.25, 0.25, 0.5, 0.5), "smiling": 0, "colour": "red"},
    ],
)
def test_every_condition_can_be_set(described: Path, conditions: Any) -> None:
    result = arrays(described, conditions=conditions)
    assert result["labels"].tolist() == [1] * 6
    assert result["caption"].tolist() == ["a red red star"] * 6
    assert result["box"].tolist() == [[0.25, 0.25, 0.5, 0.5]] * 6
    assert result["attributes"].tolist() == [[0, 1, 0]] * 6
    model = Model.load(described, trust=True)
    attributes = {"smiling": 0, "colour": "red"}
    direct = model.sample(6, label=1, caption="a red red star", box=".25,.25,.5,.5", attributes=attributes)
    assert (result["samples"] == pictures.to_pixels(direct)).all()


@pytest.mark.parametrize(
    ("n", "options", "labels"),
    [
        (3, {"conditions": {"label": ["bee", 0, 1]}}, [1, 0, 1]),
        (3, {"conditions": {"label": np.array([1, 1, 0])}}, [1, 1, 0]),
        (2, {"conditions": {"label": torch.tensor(1)}}, [1, 1]),
        (2, {"label": "all", "conditions": {"caption": ["a", "red", "star", "left"]}}, [0, 0, 1, 1]),
        (4, {"label": "bee", "conditions": {"box": (0.25, 0.25, 0.5, 0.5)}}, [1] * 4),
    ],
)
def test_every_sample_may_have_its_own_conditions(
    described: Path, n: int, options: dict[str, Any], labels: list[int]
) -> None:
    result = arrays(described, n, **options)
    assert result["labels"].tolist() == labels
    if "caption" in options["conditions"]:
        assert result["caption"].tolist() == options["conditions"]["caption"]


def test_class_names_of_any_length_and_script_name_files(tmp_path: Path) -> None:
    """Also together with so many options that a name would be longer than file systems allow."""
    spec = DataSpec.images(16, 16, labels=("猫", "犬", "x" * 250), attributes=tuple("abcdefghij"))
    make = 'Output("image", lambda nets, inputs, clock: nets.G(squares(inputs.latent)), ("label", "attributes"), Normal(2))'
    run = save(tmp_path / "run", spec, make)
    folder = leafwing.sample(run, 3, format="folder", trust=True)
    names = sorted(path.name for path in folder.iterdir())
    assert names[:2] == ["000000-猫.png", "000001-犬.png"]
    assert names[2].startswith("000002-xxx")
    conditions = dict.fromkeys("abcdefghij", 1)
    paths = [leafwing.sample(run, 2, label=label, conditions=conditions, trust=True) for label in spec.labels]
    paths += [leafwing.sample_seeds(run, "1", label=label, conditions=conditions, trust=True) for label in spec.labels]
    paths += [leafwing.walk(run, [1, 2], seconds=0.1, label=label, trust=True) for label in spec.labels]
    assert len({*paths}) == 9
    assert all(path.exists() for path in paths)


def test_single_samples_say_of_which_class_they_are_if_nobody_chose(tmp_path: Path) -> None:
    run = save(
        tmp_path / "run",
        DataSpec.images(16, 16, labels=("dress", "hat")),
        'Output("image", lambda nets, inputs, clock: nets.G(squares(inputs.latent)), ("label",), Normal(2))',
    )
    listener, said = Reporter(), list[str]()
    listener.say = said.append  # type: ignore[method-assign]
    names = [
        leafwing.sample_seeds(run, "1,2", trust=True, progress=listener, **options).name  # type: ignore[arg-type]
        for options in ({"format": "grid"}, {}, {"label": "hat"}, {"conditions": ["label=hat"]})
    ]
    assert said == ["all of class dress: --label chooses another"] * 2
    assert all(name in path for name, path in zip(("dress", "dress", "hat", "hat"), names, strict=True))


def test_pictures_that_do_not_fit_into_memory_together_are_refused(described: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["leafwing.commands.sample"], "available_memory", lambda: 1 << 20)
    for format in ("grid", "npz"):
        with pytest.raises(InvalidOption, match=r"n=300: needs about .* of memory, and 1 MiB are free"):
            leafwing.sample(described, 300, format=format, trust=True)
    assert len([*leafwing.sample(described, 300, format="folder", trust=True).glob("*.png")]) == 300


def test_the_command_sets_conditions(described: Path, tmp_path: Path) -> None:
    words = ["sample", str(described), "--trust", "-n", "3", "--npz", "--out", str(tmp_path / "a.npz")]
    assert cli.run([*words, "--label", "ant", "--set", "caption=a red, star", "--set", "box=.2,.2,.5,.5"]) == 0
    with np.load(tmp_path / "a.npz") as file:
        assert file["caption"].tolist() == ["a red star"] * 3
        assert file["labels"].tolist() == [0] * 3


def test_the_command_says_which_words_are_ignored_and_what_follows_real_samples(
    described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", str(described), "--trust", "-n", "2"]
    assert cli.run([*words, "--set", "caption=a purple star", "--out", str(tmp_path / "a.png")]) == 0
    message = " ".join(capsys.readouterr().err.split())
    assert "caption: purple ignored: not a word of the training captions, or beyond 4 words" in message
    assert "Each sample has the box of a real one" in message
    assert cli.run([*words, "--set", "caption=a red star", "--npz", "--out", str(tmp_path / "a.npz")]) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"conditions": ["captoin=a"]},
            "no condition 'captoin'; did you mean caption.*label, caption, box, smiling, colour",
        ),
        ({"conditions": {"label": [0, 1, 0]}}, "3 values of label for 2 samples"),
        ({"conditions": ["caption=purple"]}, "knows none of its words, but 4 others: a, red, star, left"),
        ({"conditions": ["box=1,2"]}, "left, top, width and height"),
        ({"conditions": ["label=ant"], "label": "bee"}, "label is given twice, as ant and as bee"),
        ({"conditions": ["colour=rad"]}, "did you mean red"),
        ({"output": "imag"}, "no output 'imag'; did you mean image"),
        ({"label": "all", "sweep": "code=0:1"}, "mutually exclusive"),
    ],
)
def test_invalid_conditions_write_nothing(described: Path, options: dict[str, Any], message: str) -> None:
    before = sorted(described.rglob("*"))
    with pytest.raises(LeafwingError, match=message):
        leafwing.sample(described, 2, trust=True, **options)
    assert sorted(described.rglob("*")) == before


def test_all_labels_have_the_same_latents_and_their_own_conditions(described: Path) -> None:
    result = arrays(described, 4, label="all", conditions={"box": ".25,.25,.5,.5"})
    assert result["labels"].tolist() == [0] * 4 + [1] * 4
    assert (result["samples"][:4] == result["samples"][4:]).all()
    assert {*result["caption"][4:].tolist()} == {"a red star"}


def test_another_output_is_named_and_written_in_its_format(tmp_path: Path) -> None:
    outputs = (
        'Output("image", lambda nets, inputs, clock: squares(inputs.latent), prior=Normal(2)), '
        'Output("low", lambda nets, inputs, clock: squares(inputs.latent)[:, :1, :4, :4] > 0, prior=Normal(2), '
        "kind=fields.Mask(4, 4))"
    )
    run = save(tmp_path / "run", DataSpec.images(16, 16), outputs)
    result = arrays(run, 5, output="low")
    assert result["samples"].shape == (5, 4, 4, 1)
    assert {*result["samples"].flatten().tolist()} <= {0, 1}
    path = leafwing.sample(run, 5, output="low", format="folder", trust=True)
    assert path.name == f"{IMAGES:09d}-seed0-n5-low"
    written = [np.unique(Image.open(file)).tolist() for file in sorted(path.iterdir())]
    assert written == [[255 * int(sample.max())] for sample in result["samples"]]


CLIPS = (
    'Output("clip", lambda nets, inputs, clock: torch.stack([squares(inputs.latent), -squares(inputs.latent)], 2), '
    "prior=Normal(2))"
)


def test_clips_are_a_grid_of_strips_a_folder_of_animations_or_raw(tmp_path: Path) -> None:
    run = save(tmp_path / "run", DataSpec.images(32, 32, clip=fields.Clip(2, 32, 32)), CLIPS)
    raw = arrays(run, 3)["samples"]
    assert raw.shape == (3, 2, 32, 32, 3)
    grid = np.asarray(Image.open(leafwing.sample(run, 3, trust=True)))
    assert grid.shape == (3 * STEP + GAP, 2 * 128 + 2 * GAP, 3)
    assert grid[GAP + STEP + 20, [20, 160], 0].tolist() == raw[1, :, 0, 0, 0].tolist()
    folder = leafwing.sample(run, 3, format="folder", trust=True)
    assert [path.name for path in sorted(folder.iterdir())] == [f"{i:06d}.webp" for i in range(3)]
    with Image.open(folder / "000001.webp") as clip:
        frames = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(clip)])
    assert (frames == raw[1]).all()


def test_clips_are_films_on_request(tmp_path: Path) -> None:
    run = save(tmp_path / "run", DataSpec.images(32, 32, clip=fields.Clip(2, 32, 32)), CLIPS)
    raw = arrays(run, 3)["samples"]
    moving = leafwing.sample(run, 3, trust=True, out=tmp_path / "grid.webp")
    with Image.open(moving) as grid:
        shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(grid)]
    assert [frame.shape for frame in shown] == [(2 * STEP + GAP, 2 * STEP + GAP, 3)] * 2
    assert np.abs(shown[1][40, 160].astype(int) - raw[1, 1, 8, 4]).max() < 12
    av = pytest.importorskip("av")
    folder = leafwing.sample(run, 3, format="folder", animation="mp4", trust=True, out=tmp_path / "folder")
    seeds = leafwing.commands.sample_seeds(run, "4", animation="mp4", trust=True)
    assert [path.name for path in sorted(folder.iterdir())] == [f"{i:06d}.mp4" for i in range(3)]
    for path, clip in ((folder / "000001.mp4", raw[1]), (seeds / "seed000004.mp4", arrays(run, 1, seed=4)["samples"][0])):
        with av.open(str(path)) as film:
            frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)]
        assert np.abs(np.stack(frames).mean((1, 2)) - clip.mean((1, 2))).max() < 8


def test_what_is_no_clip_is_not_animated(tmp_path: Path) -> None:
    run = save(tmp_path / "run", DataSpec.images(32, 32, clip=fields.Clip(2, 32, 32)), CLIPS)
    with pytest.raises(LeafwingError, match=r"animation='gif': .*--out"):
        leafwing.sample(run, 3, animation="gif", trust=True)
    with pytest.raises(LeafwingError, match="unsupported file type"):
        leafwing.sample(run, 3, animation="avi", format="folder", trust=True)
    image = 'Output("image", lambda nets, inputs, clock: squares(inputs.latent), prior=Normal(2))'
    images = save(tmp_path / "images", DataSpec.images(32, 32), image)
    for options in ({"out": tmp_path / "a.mp4"}, {"animation": "gif", "format": "folder"}):
        with pytest.raises(LeafwingError, match=r"only clips are animated"):
            leafwing.sample(images, 3, trust=True, **options)
    assert not (run / "outputs").exists()
    assert not (images / "outputs").exists()


def test_what_cannot_be_drawn_is_an_error_that_names_npz(tmp_path: Path) -> None:
    output = 'Output("box", lambda nets, inputs, clock: inputs.latent[:, [0, 0, 1, 1]], prior=Normal(2))'
    run = save(tmp_path / "run", DataSpec.images(16, 16, box=fields.Box()), output)
    for format in ("grid", "folder"):
        with pytest.raises(LeafwingError, match="box: samples cannot be written as images: choose npz"):
            leafwing.sample(run, 3, format=format, trust=True)
    assert arrays(run, 3)["samples"].shape == (3, 4)


def test_an_output_without_latents_is_generated_from_its_conditions(tmp_path: Path) -> None:
    output = 'Output("image", lambda nets, inputs, clock: inputs.box[:, :1, None, None].expand(-1, 3, *size), ("box",))'
    run = save(tmp_path / "run", DESCRIBED, output, examples={"box": [[0.5, 0, 0.5, 0.5]]})
    assert np.unique(arrays(run)["samples"]).tolist() == [191]


# --- grids ----------------------------------------------------------------------------------------------------------------


def size(path: Path | str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


LABELLED = 'Output("image", lambda nets, inputs, clock: squares(inputs.latent), ("label",), Normal(2))'


def test_a_grid_of_a_run_with_classes_has_a_row_for_each_by_default(tmp_path: Path) -> None:
    run = save(tmp_path / "run", DataSpec.images(4, 4, labels=("ant", "bee", "cow")), LABELLED)
    path = leafwing.sample(run, trust=True)
    assert path == run / "outputs" / f"{IMAGES:09d}-seed0-n10-all.png"
    width, height = size(path)
    assert height == 3 * STEP + GAP
    assert width > 10 * STEP + GAP + 16, "the names are missing"
    assert leafwing.sample(run, label="all", out=tmp_path / "all.png", trust=True).read_bytes() == path.read_bytes()
    one = leafwing.sample(run, label="bee", trust=True)
    assert size(one) == (8 * STEP + GAP, 8 * STEP + GAP), "what all samples are is not written below each"
    assert arrays(run, None)["labels"].tolist() == [i % 3 for i in range(64)], "an array has the classes in turn"


def test_of_many_classes_the_first_are_shown_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save(tmp_path / "run", DataSpec.images(4, 4, labels=tuple(f"c{i}" for i in range(30))), LABELLED)
    assert cli.run(["sample", str(run), "--trust", "--scale", "1"]) == 0
    streams = capsys.readouterr()
    assert "the first 20 of 30 classes are shown" in streams.err
    assert size(streams.out.strip())[1] == 20 * (4 + GAP) + GAP
    assert cli.run(["sample", str(run), "--trust", "--scale", "1", "--label", "all"]) == 0
    streams = capsys.readouterr()
    assert "classes are shown" not in streams.err
    assert size(streams.out.strip())[1] == 30 * (4 + GAP) + GAP


def test_a_grid_says_in_which_conditions_its_samples_differ(described: Path) -> None:
    model = Model.load(described, trust=True)
    inputs = model.conditions(4, label=["ant", "ant", "bee", "bee"], box=".25,.25,.5,.5")
    stored = np.zeros((4, 16, 16, 3), np.uint8)
    kind = model.kind(model.output)
    sheet = pictures.sample_grid(kind, stored, 2, model.spec, inputs)
    assert sheet.names == ["ant", "bee"]
    texts = [cell.text for row in sheet.rows for cell in row]
    assert texts == [
        "; ".join(filter(None, parts)) for parts in zip(attributes_of(inputs), captions_of(inputs), strict=True)
    ]
    in_turn = pictures.sample_grid(kind, stored, 3, model.spec, inputs)
    assert in_turn.names == []
    assert [cell.text.partition(";")[0] for row in in_turn.rows for cell in row] == ["ant", "ant", "bee", "bee"]


def attributes_of(inputs: Any) -> list[str]:
    names = np.array(DESCRIBED.attributes)
    return [", ".join(names[row.bool().numpy()].tolist()) for row in inputs.attributes]


def captions_of(inputs: Any) -> list[str]:
    kind = DESCRIBED.fields["caption"]
    assert isinstance(kind, fields.Caption)
    return [kind.decode(row) for row in inputs.caption.tolist()]


def test_samples_are_enlarged_by_a_whole_factor_on_request(described: Path, tmp_path: Path) -> None:
    true = arrays(described)["samples"]
    large = arrays(described, scale=3)["samples"]
    assert (large == true.repeat(3, 1).repeat(3, 2)).all()
    settings = {"label": "ant", "caption": "a star", "box": "0,0,.5,.5", "smiling": 1, "colour": "red"}
    grid = leafwing.sample(described, 6, scale=3, conditions=settings, trust=True)
    assert size(grid) == (3 * (48 + GAP) + GAP, 2 * (48 + GAP) + GAP)
    for scale, side in ((None, 16), (3, 48)):
        folder = leafwing.sample(described, 2, format="folder", scale=scale, trust=True)
        assert {size(path) for path in folder.iterdir()} == {(side, side)}
    seeds = leafwing.commands.sample_seeds(described, "4", scale=2, trust=True)
    assert size(seeds / "seed000004.png") == (32, 32)
    for scale, message in ((0, "at least 1"), (900, "could not be opened|of memory")):
        with pytest.raises(LeafwingError, match=message):
            leafwing.sample(described, 6, scale=scale, trust=True)


def test_clips_are_enlarged_in_height_and_width(tmp_path: Path) -> None:
    run = save(tmp_path / "run", DataSpec.images(8, 8, clip=fields.Clip(2, 8, 8)), CLIPS)
    true = arrays(run, 3)["samples"]
    assert (arrays(run, 3, scale=2)["samples"] == true.repeat(2, 2).repeat(2, 3)).all()


def test_nothing_is_overwritten(described: Path) -> None:
    paths = [
        leafwing.sample(described, 2, format=format, trust=True) for format in ("grid", "npz", "folder") for _ in range(2)
    ]
    stem = f"{IMAGES:09d}-seed0-n2"
    assert [path.name for path in paths] == [
        f"{stem}.png",
        f"{stem}-2.png",
        f"{stem}.npz",
        f"{stem}-2.npz",
        stem,
        f"{stem}-2",
    ]
    assert not [*(described / "samples").iterdir()]
    Run(described).rewind(0)
    assert sorted((described / "outputs").iterdir()) == sorted(paths), (
        "training that goes back to an earlier checkpoint keeps them"
    )


def test_the_progress_ends_at_the_number_of_samples(described: Path) -> None:
    calls = {
        "grid": lambda listener: leafwing.sample(described, 70, trust=True, progress=listener),
        "folder": lambda listener: leafwing.sample(described, 70, format="folder", trust=True, progress=listener),
        "seeds": lambda listener: leafwing.sample_seeds(described, "0-4", trust=True, progress=listener),
    }
    for name, call in calls.items():
        counts: list[tuple[int, int]] = []
        listener = Reporter()
        listener.report_progress = lambda what, done, total, counts=counts: counts.append((done, total))  # type: ignore
        call(listener)
        expected = [(done, 5) for done in range(1, 6)] if name == "seeds" else [(64, 70), (70, 70)]
        assert counts == expected, name


def test_seeds_as_a_grid_have_their_numbers_below_them(described: Path, tmp_path: Path) -> None:
    """In order, about square, and with the pixels of the single files."""
    seeds = [3, 7, 8, 9, 100]
    conditions = {"label": "bee", "caption": "a red star", "smiling": 1, "colour": "red", "box": (0, 0, 1, 1)}
    options: dict[str, Any] = {"conditions": conditions, "trust": True}
    folder = leafwing.sample_seeds(described, "3,7-9,100", **options)
    path = leafwing.sample_seeds(described, "3,7-9,100", format="grid", **options)
    cells = [
        Cell(fields.Image(16, 16, 3), np.array(Image.open(folder / f"seed{seed:06d}.png")), text=f"{seed}") for seed in seeds
    ]
    assert path.read_bytes() == pictures.png(Sheet([cells[:3], cells[3:]]).image())
    assert path.parent == described / "outputs"
    assert leafwing.sample_seeds(described, "3,7-9,100", format="grid", **options).read_bytes() == path.read_bytes()
    out = tmp_path / "grid.png"
    words = ["sample", str(described), "--seeds", "3,7-9,100", "--grid", "--scale", "2", "--trust", "--out", str(out)]
    sets = ["label=bee", "caption=a red star", "smiling=1,colour=red", "box=0,0,1,1"]
    for expected in (0, 2):  # nothing is overwritten
        assert cli.run([*words, *(word for text in sets for word in ("--set", text))]) == expected
    assert out.read_bytes() == pictures.png(Sheet([cells[:3], cells[3:]]).image(scale=2))
    with pytest.raises(LeafwingError, match="format='npz': choose from folder, grid"):
        leafwing.sample_seeds(described, "1", format="npz", trust=True)


def test_the_seeds_on_a_grid_come_before_what_differs_too() -> None:
    spec, array = DESCRIBED, np.zeros((2, 16, 16, 3), np.uint8)
    sheet = pictures.sample_grid(spec.fields["image"], array, 2, spec, {"label": torch.tensor([0, 1])}, texts=["3", "16"])
    assert [cell.text for cell in sheet.rows[0]] == ["3: ant", "16: bee"]
    sheet = pictures.sample_grid(spec.fields["image"], array, 2, spec, {"label": torch.tensor([1, 1])}, texts=["3", "16"])
    assert [cell.text for cell in sheet.rows[0]] == ["3", "16"]


def test_a_folder_of_seeds_is_not_continued_with_other_weights(described: Path) -> None:
    """Those of the same number of images, after training went back."""
    leafwing.sample_seeds(described, "0", trust=True)
    (weights,) = described.glob("weights-*")
    tensors = safetensors.torch.load_file(weights)
    weights.write_bytes(safetensors.torch.save({name: value + 1 for name, value in tensors.items()}))
    with pytest.raises(LeafwingError, match="samples of another run, checkpoint"):
        leafwing.sample_seeds(described, "0-1", trust=True)


def test_a_sweep_has_its_values_as_titles() -> None:
    model: Any = SimpleNamespace(codes={"category": 3, "code0": 1})
    assert sweep_titles(model, "category") == ["0", "1", "2"]
    titles = sweep_titles(model, "code0=-2:2.5")
    assert (titles[:3], titles[-1]) == (["-2", "-1.5", "-1"], "2.5")
    assert sweep_titles(model, None) == []


# --- several processes ----------------------------------------------------------------------------------------------------

NOISY = 'Output("image", lambda nets, inputs, clock: nets.G(torch.randn(inputs.n, 3, *size) / 3), ("label",), Normal(2))'


@pytest.mark.parametrize("format", ["npz", "folder"])
@pytest.mark.parametrize("n", [10, 70, 150])
def test_several_processes_write_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, n: int) -> None:
    run = save(tmp_path / "run", DataSpec.images(4, 4, labels=("a", "b")), NOISY)
    alone = leafwing.sample(run, n, seed=5, format=format, trust=True)
    load, devices, parts = Model.load, list[str](), list[torch.Tensor]()

    def gather(part: torch.Tensor) -> torch.Tensor:
        parts.insert(0, part)
        return torch.cat(parts)

    for rank in (2, 1, 0):  # one after the other: the first process gathers the parts of the others

        @contextmanager
        def join(advice: str, rank: int = rank) -> Iterator[SimpleNamespace]:
            calls: dict[str, Any] = {"gather": gather, "barrier": lambda: None, "device": lambda name: f"{name}:{rank}"}
            yield SimpleNamespace(rank=rank, world_size=3, first=rank == 0, **calls)

        monkeypatch.setattr("leafwing.commands.launching.join_processes", join)
        monkeypatch.setattr(Model, "load", lambda *args, device, **others: devices.append(device) or load(*args, **others))
        monkeypatch.setattr(Path, "exists", lambda path: False)
        together = leafwing.sample(run, n, seed=5, format=format, out=tmp_path / "out", trust=True)
        monkeypatch.undo()
    assert devices == ["cpu:2", "cpu:1", "cpu:0"]
    if format == "folder":
        names = [path.name for path in sorted(alone.iterdir())]
        assert names == [path.name for path in sorted(together.iterdir())]
        assert len(names) == n
        assert all((alone / name).read_bytes() == (together / name).read_bytes() for name in names)
        return
    with np.load(alone) as one, np.load(together) as several:
        assert all((one[name] == several[name]).all() for name in one)
        assert len(np.unique(one["samples"].reshape(n, -1), axis=0)) == n


# --- progress sheets of a training ----------------------------------------------------------------------------------------


def dataset(spec: DataSpec, columns: dict[str, np.ndarray]) -> Dataset:
    return Dataset(spec, columns, "0" * 64, "test", {"mirror": True})


PAIRED = DataSpec.images(16, 16, 1, input=fields.Image(16, 16, 1))
COPY = 'Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",))'


def pairs(n: int) -> Dataset:
    """Images that differ, with those of 255 minus them as inputs."""
    images = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 1), np.uint8)
    return dataset(PAIRED, {"image": images, "input": 255 - images})


@pytest.mark.parametrize("held_out", [0, 10])
def test_rows_of_sheets_are_paired_and_held_out_if_possible(tmp_path: Path, held_out: int) -> None:
    run = Run(save(tmp_path / "run", PAIRED, COPY, held_out=held_out, samples=30), trust=True)
    data = pairs(30)
    rows = sheet_rows(run, data, run.build_game())
    assert rows is not None
    assert {*rows} == {"image", "input"}
    assert rows.n == SHEET_ROWS
    assert torch.allclose(rows.input, -rows.image, atol=1e-6), "the fields of a row do not belong together"
    part = data.split(held_out)[1] if held_out else data
    stored = {image.tobytes() for image in part.pictures(range(len(part)))}
    shown = [image.tobytes() for image in fields.Image(16, 16, 1).to_stored(rows.image).numpy()]
    assert {*shown} <= stored, "not held out, or mirrored"
    assert len({*shown}) == SHEET_ROWS


def test_rows_of_few_samples_and_of_an_unpaired_second_source(tmp_path: Path) -> None:
    run = Run(save(tmp_path / "run", PAIRED, COPY), trust=True)
    rows = sheet_rows(run, pairs(3), run.build_game())
    assert rows is not None
    assert rows.n == 3
    spec = DataSpec.images(16, 16, 1)
    images, others = (dataset(spec, {"image": pairs(n).columns["image"]}) for n in (20, 12))
    both = images.with_stream("input", others, {"image": "input"})
    rows = sheet_rows(run, both, run.build_game())
    assert rows is not None
    assert (rows.n, {*rows}) == (SHEET_ROWS, {"image", "input"})


def test_sheets_of_latents_and_labels_need_no_rows(tmp_path: Path) -> None:
    for i, conditions in enumerate(("()", '("label",)', '("label", "attributes")')):
        output = f'Output("image", lambda nets, inputs, clock: squares(inputs.latent), {conditions}, Normal(2))'
        run = Run(save(tmp_path / f"run{i}", DESCRIBED, output), trust=True)
        assert sheet_rows(run, pairs(3), run.build_game()) is None


def progress(run: Path, rows: Any, counts: Sequence[int] = (0, 50)) -> list[Path]:
    opened = Run(run, trust=True)
    model = Model.load(opened)
    for images in counts:
        save_samples(opened, model, images, rows)
    return sorted(path for path in opened.samples.iterdir())


def test_a_translator_has_progress_sheets_and_a_reel(tmp_path: Path) -> None:
    folder = save(tmp_path / "run", PAIRED, COPY)
    run = Run(folder, trust=True)
    paths = progress(folder, sheet_rows(run, pairs(30), run.build_game()))
    assert [path.name for path in paths] == ["000000000.png", "000000050.png"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(leafwing.reel(folder)) as reel:
        assert reel.format == "WEBP"
    other = [leafwing.reel(folder, size=200) for _ in range(2)]
    assert [path.relative_to(folder).as_posix() for path in other] == [
        "outputs/000000050-reel.webp",
        "outputs/000000050-reel-2.webp",
    ]
    assert max(size(other[0])) == 200
    with pytest.raises(LeafwingError, match="size=20: choose from 64 to 4096"):
        leafwing.reel(folder, size=20)


def test_clips_have_an_animation_beside_each_sheet(tmp_path: Path) -> None:
    run = save(tmp_path / "run", DataSpec.images(32, 32, clip=fields.Clip(2, 32, 32)), CLIPS)
    paths = progress(run, None)
    assert [path.name for path in paths] == ["000000000.png", "000000000.webp", "000000050.png", "000000050.webp"]
    with Image.open(paths[1]) as clip:
        assert clip.n_frames == 2  # type: ignore[attr-defined]
    leafwing.reel(run)
    Run(run).rewind(10)
    assert [path.name for path in sorted((run / "samples").iterdir())] == ["000000000.png", "000000000.webp"]


def test_a_run_without_latents_says_so(tmp_path: Path) -> None:
    output = 'Output("image", lambda nets, inputs, clock: inputs.box[:, :1, None, None].expand(-1, 3, *size), ("box",))'
    run = save(tmp_path / "run", DESCRIBED, output, examples={"box": [[0.5, 0, 0.5, 0.5]]})
    with pytest.raises(LeafwingError, match="generates its image without latents"):
        Model.load(run, trust=True).latents(3)
    empty = save(tmp_path / "empty", DESCRIBED, 'Output("image", lambda nets, inputs, clock: torch.zeros(1, 3, *size))')
    with pytest.raises(LeafwingError, match="generates its image without latents"):
        leafwing.sample(empty, trust=True)
    with pytest.raises(LeafwingError, match="from neither latents nor conditions"):
        Model.load(empty, trust=True).sample(3)


def test_an_npz_file_has_no_other_ending(tmp_path: Path) -> None:
    run = save(tmp_path / "run", PAIRED, COPY)
    with pytest.raises(LeafwingError, match=r"g\.png: an \.npz file is written"):
        leafwing.sample(run, format="npz", out=tmp_path / "g.png", trust=True)
    assert not (tmp_path / "g.png").exists()
