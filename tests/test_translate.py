"""Pictures from pictures: names, sizes, modes and file types are kept, whatever the pictures are."""

from __future__ import annotations

import io
import json
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import leafwing
from leafwing import cli, fields, files
from leafwing.commands.outputs import check_outputs
from leafwing.data import pictures as data_pictures
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import Batch, DataSpec
from leafwing.model import Model
from saved_run import IMAGES, save

GREY = DataSpec.images(16, 16, 1, input=fields.Image(16, 16, 1))
COLOUR = DataSpec.images(16, 16, 3, input=fields.Image(16, 16, 3))
NEGATIVE = 'Output("image", lambda nets, inputs, clock: nets.F(inputs.input), ("input",))'


@pytest.fixture
def negative(tmp_path: Path) -> Path:
    """A run that makes negatives of colour images."""
    return save(tmp_path / "run", COLOUR, NEGATIVE)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def plain(width: int, height: int, colour: Any = (200, 100, 50), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height), colour)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several sizes, modes and types, in sub-folders, and files that are none."""
    root = tmp_path / "pictures"
    (root / "more" / "deep").mkdir(parents=True)
    plain(16, 16).save(root / "a.png")
    plain(40, 24).save(root / "wide.JPG", quality=95)
    plain(5, 7, (200, 100, 50, 128), "RGBA").save(root / "more" / "small.png")
    plain(100, 60, 200, "L").save(root / "more" / "deep" / "grey.bmp")
    plain(20, 20).save(root / "more" / "w.webp", lossless=True)
    plain(20, 30).save(root / "more" / "t.tiff")
    (root / "broken.png").write_bytes(b"no picture")
    (root / "notes.txt").write_text("about the pictures")
    return root


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_names_folders_sizes_and_types_are_kept(negative: Path, folder: Path, tmp_path: Path) -> None:
    result = leafwing.translate(negative, folder, out=tmp_path / "out", trust=True)
    expected = ["a.png", "more/deep/grey.bmp", "more/small.png", "more/t.tiff", "more/w.webp", "wide.JPG"]
    assert names(tmp_path / "out") == expected
    assert (result.folder, result.written) == (tmp_path / "out", 6)
    assert [(reject.name, reject.reason) for reject in result.rejected] == [("broken.png", "not an image")]
    for name in expected:
        with Image.open(folder / name) as before, Image.open(tmp_path / "out" / name) as after:
            assert (after.size, after.format) == (before.size, before.format)
    assert read(tmp_path / "out" / "a.png").tolist() == [[[55, 155, 205]] * 16] * 16
    assert np.abs(read(tmp_path / "out" / "wide.JPG").astype(int) - [55, 155, 205]).max() <= 3
    assert read(tmp_path / "out" / "more" / "deep" / "grey.bmp").tolist() == [[[55] * 3] * 100] * 60
    with Image.open(tmp_path / "out" / "more" / "small.png") as image:
        assert image.mode == "RGBA"
        assert np.unique(image.getchannel("A")).tolist() == [128], "the alpha channel is not that of the picture"


def test_nothing_is_cut_off_and_the_picture_keeps_its_orientation(negative: Path, tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :20] = 255  # a white stripe on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the stripe is at the top
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    out = leafwing.translate(negative, tmp_path / "turned.jpg", out=tmp_path / "a", trust=True).folder
    turned = read(out / "turned.jpg").astype(int)
    assert turned.shape == (80, 40, 3)
    assert turned[:15].max() < 40
    assert turned[25:].min() > 215
    with Image.open(out / "turned.jpg") as image:
        assert image.getexif().get(0x0112, 1) == 1
    out = leafwing.translate(negative, tmp_path / "plain.png", out=tmp_path / "b", trust=True).folder
    straight = read(out / "plain.png").astype(int)
    assert straight[:, :15].max() < 40
    assert straight[:, 25:].min() > 215


def test_what_is_written_is_what_the_model_makes(tmp_path: Path) -> None:
    run = save(tmp_path / "run", GREY, NEGATIVE)
    noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8)
    (tmp_path / "in").mkdir()
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "in" / f"{i:02d}.png")
    result = leafwing.translate(run, tmp_path / "in", out=tmp_path / "out", trust=True)
    written = np.stack([read(path) for path in sorted(result.folder.iterdir())])
    images = fields.Image(16, 16, 1).to_network(torch.from_numpy(noise[..., None]))
    expected = fields.Image(16, 16, 1).to_stored(Model.load(run, trust=True).translate(images)).numpy()[..., 0]
    assert (written == expected).all()
    assert (written == 255 - noise).all()


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "file", "idx"])
def test_archives_and_single_files(negative: Path, folder: Path, tmp_path: Path, kind: str) -> None:
    source, expected = tmp_path / f"photos.{kind}", ["a.png", "more/small.png"]
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for name in expected:
                archive.write(folder / name, name)
    elif kind == "tar.gz":
        with tarfile.open(source, "w:gz") as archive:
            for name in reversed(expected):
                archive.add(folder / name, name)
    elif kind == "file":
        source, expected = folder / "a.png", ["a.png"]
    else:
        source = tmp_path / "train-images-idx3-ubyte"
        source.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(16) + bytes([255] * 16))
        expected = ["train/0000000.png", "train/0000001.png"]
    result = leafwing.translate(negative, source, trust=True)
    assert result.folder == negative / "translations" / f"{IMAGES:09d}-{source.name}"
    assert names(result.folder) == expected
    if kind == "idx":
        assert [int(read(result.folder / name).max()) for name in expected] == [255, 0]


def test_names_in_archives_cannot_leave_the_output_folder(negative: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    plain(4, 4).save(buffer, "PNG")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name in ("../../up.png", "/root.png", "a/../../b.png", "b.png", "c/b.png"):
            archive.writestr(name, buffer.getvalue())
    before = names(tmp_path)
    result = leafwing.translate(negative, tmp_path / "evil.zip", out=tmp_path / "x" / "out", trust=True)
    assert result.written == 5
    assert names(result.folder) == ["a/b.png", "b.png", "c/b.png", "root.png", "up.png"]
    assert {*names(tmp_path)} - {*before} == {f"x/out/{name}" for name in names(result.folder)}


def test_a_type_that_cannot_hold_the_result_becomes_png_and_is_named(tmp_path: Path) -> None:
    run = save(tmp_path / "run", DataSpec.images(16, 16, 4, input=fields.Image(16, 16, 3)), SOLID)
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.pgm", "b.png", "c.webp", "d"):
        plain(8, 8).convert("L" if name == "b.pgm" else "RGB").save(
            tmp_path / "in" / name, {"pgm": "PPM", "jpg": "JPEG"}.get(name[2:], "PNG" if name in ("b.png", "d") else "WEBP")
        )
    result = leafwing.translate(run, tmp_path / "in", out=tmp_path / "out", trust=True)
    assert names(result.folder) == ["a.png", "b-2.png", "b.png", "c.webp", "d.png"]
    assert "Written as .png, not as their own type of file: 3." in result.notes


SOLID = 'Output("image", lambda nets, inputs, clock: torch.ones(inputs.n, data.channels, *size) + nets.G(0), ("input",))'


def test_of_several_frames_the_first_is_translated(negative: Path, tmp_path: Path) -> None:
    frames = [plain(16, 16, (250, 250, 250)), plain(16, 16, (5, 5, 5))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    result = leafwing.translate(negative, tmp_path / "a.gif", trust=True)
    assert result.notes == ["Files with several frames or pages: 1; only the first was translated."]
    with Image.open(result.folder / "a.gif") as image:
        assert image.n_frames == 1  # type: ignore[attr-defined]
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - 5).max() <= 1


def test_transparent_pictures_are_seen_on_the_background_of_the_run(tmp_path: Path) -> None:
    run = save(tmp_path / "run", COLOUR, NEGATIVE, {"background": "black"})
    plain(16, 16, (255, 255, 255, 0), "RGBA").save(tmp_path / "clear.png")
    result = leafwing.translate(run, tmp_path / "clear.png", trust=True)
    assert read(result.folder / "clear.png").tolist() == [[[255, 255, 255, 0]] * 16] * 16


def test_masks_are_read_from_grey_images(tmp_path: Path) -> None:
    spec = DataSpec.images(4, 4, 1, input=fields.Mask(4, 4))
    run = save(tmp_path / "run", spec, 'Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",))')
    Image.fromarray(np.array([[127, 128]] * 2, np.uint8).repeat(2, 0).repeat(2, 1)).save(tmp_path / "m.png")
    result = leafwing.translate(run, tmp_path / "m.png", trust=True)
    assert read(result.folder / "m.png").tolist() == [[128, 128, 255, 255]] * 4  # 0 and 1, as values of an image


CLASSES = DataSpec.images(4, 4, 1, input=fields.Segmentation(4, 4, ("sky", "sea", "sand")))
INDEX = (
    'Output("image", lambda nets, inputs, clock: nets.G(inputs.input.argmax(1, keepdim=True).float() - 1), ("input",)), '
    'Output("input", lambda nets, inputs, clock: nets.F(torch.cat([inputs.image.abs() < 2, inputs.image > 9, inputs.image > 9], 1)'
    '.float()) * -1, ("image",))'
)


def test_segmentations_are_read_as_class_indices_and_others_are_refused(tmp_path: Path) -> None:
    run = save(tmp_path / "run", CLASSES, INDEX)
    (tmp_path / "in").mkdir()
    indices = np.array([[0, 1], [2, 0]], np.uint8).repeat(2, 0).repeat(2, 1)
    Image.fromarray(indices).save(tmp_path / "in" / "grey.png")
    palette = Image.fromarray(indices)
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "in" / "palette.png")
    Image.fromarray(indices + 1).save(tmp_path / "in" / "too high.png")
    plain(4, 4).save(tmp_path / "in" / "colours.png")
    result = leafwing.translate(run, tmp_path / "in", trust=True)
    assert names(result.folder) == ["grey.png", "palette.png"]
    for name in names(result.folder):
        assert (read(result.folder / name) == np.array([0, 128, 255])[indices]).all()
    assert {reject.name: reject.reason for reject in result.rejected} == {
        "colours.png": "mode RGB: a segmentation is a grey or palette image of class indices",
        "too high.png": "value 3 is not a class: this run has 3, 0 to 2",
    }


def test_segmentations_are_written_as_palette_images(tmp_path: Path) -> None:
    run = save(tmp_path / "run", CLASSES, INDEX)
    plain(9, 6, 80, "L").save(tmp_path / "photo.jpg")
    result = leafwing.translate(run, tmp_path / "photo.jpg", output="input", trust=True)
    assert result.folder.name == f"{IMAGES:09d}-photo.jpg-input"
    with Image.open(result.folder / "photo.png") as image:
        assert (image.mode, image.size) == ("P", (9, 6))
        assert np.unique(image).tolist() == [0]


def test_clips_are_written_as_animations(tmp_path: Path) -> None:
    outputs = (
        'Output("clip", lambda nets, inputs, clock: torch.stack([inputs.image, nets.F(inputs.image)], 2), ("image",), '
        "kind=fields.Clip(2, *size, 3))"
    )
    run = save(tmp_path / "run", DataSpec.images(8, 8), outputs)
    plain(12, 10).save(tmp_path / "photo.png")
    result = leafwing.translate(run, tmp_path / "photo.png", trust=True)
    with Image.open(result.folder / "photo.webp") as clip:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(clip)]
    assert [frame.shape for frame in frames] == [(10, 12, 3)] * 2
    assert [frame[0, 0].tolist() for frame in frames] == [[200, 100, 50], [55, 155, 205]]


def test_both_directions_of_a_two_way_run(tmp_path: Path) -> None:
    outputs = f'{NEGATIVE}, Output("input", lambda nets, inputs, clock: nets.G(inputs.image), ("image",))'
    run = save(tmp_path / "run", COLOUR, outputs)
    plain(16, 16).save(tmp_path / "a.png")
    first = leafwing.translate(run, tmp_path / "a.png", trust=True)
    second = leafwing.translate(run, tmp_path / "a.png", output="input", trust=True)
    assert read(first.folder / "a.png")[0, 0].tolist() == [55, 155, 205]
    assert read(second.folder / "a.png")[0, 0].tolist() == [200, 100, 50]
    with pytest.raises(LeafwingError, match="no output 'inptu'; did you mean input"):
        leafwing.translate(run, tmp_path / "a.png", output="inptu", trust=True)


RANDOM = DataSpec.images(
    16, 16, labels=("ant", "bee"), input=fields.Image(16, 16, 3), caption=fields.Caption(("a", "star"), 3)
)
NOISY = (
    'Output("image", lambda nets, inputs, clock: nets.G(squares(inputs.latent) * 0.5 + 0.4 * inputs.label.view(-1, 1, 1, 1) '
    '- 0.1 * inputs.caption[:, :1, None, None]), ("input", "label", "caption"), Normal(2))'
)


def test_what_is_random_depends_on_the_seed_and_the_number_of_the_picture(tmp_path: Path) -> None:
    run = save(tmp_path / "run", RANDOM, NOISY, examples={"caption": ["a star", "star"]})
    (tmp_path / "in").mkdir()
    for i in range(40):
        plain(16, 16).save(tmp_path / "in" / f"{i:02d}.png")

    def shades(number: int, **options: Any) -> list[int]:
        result = leafwing.translate(run, tmp_path / "in", out=tmp_path / f"out{number}", trust=True, **options)
        return [int(read(path)[0, 0, 0]) for path in sorted(result.folder.iterdir())]

    model = Model.load(run, trust=True)
    images = torch.zeros(40, 3, 16, 16)
    expected = fields.Image(16, 16, 3).to_stored(model.translate(images, seed=3))[:, 0, 0, 0].tolist()
    assert shades(1, seed=3) == pytest.approx(expected, abs=1), "not as if all were translated at once"
    assert shades(2, seed=4) != shades(3, seed=3)
    assert len({*expected}) > 20, "the pictures have the same latents"
    one = shades(4, seed=3, conditions=["label=bee", "caption=a star"])
    assert shades(5, seed=3, conditions={"label": 1, "caption": "a star"}) == one
    assert one != shades(6, seed=3, conditions=["label=ant", "caption=a star"])


def test_the_default_folder_names_what_was_set(tmp_path: Path) -> None:
    run = save(tmp_path / "run", RANDOM, NOISY, examples={"caption": ["a star", "star"]})
    plain(16, 16).save(tmp_path / "a.png")
    result = leafwing.translate(run, tmp_path / "a.png", seed=3, conditions=["caption=a star"], trust=True)
    assert result.folder.name == f"{IMAGES:09d}-a.png-seed3-caption_a_star"


# --- errors ---------------------------------------------------------------------------------------------------------------


def test_an_existing_folder_is_never_written_to(negative: Path, folder: Path, tmp_path: Path) -> None:
    result = leafwing.translate(negative, folder / "a.png", trust=True)
    for options in ({"out": result.folder}, {}, {"out": folder / "notes.txt"}):
        with pytest.raises(LeafwingError, match="exists: choose another --out"):
            leafwing.translate(negative, folder / "a.png", trust=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: root / "nothing", "no such file or folder; give an image file, a folder of images or an archive"),
        (lambda root: root / "notes.txt", "neither a folder"),
        (lambda root: root / "broken.png", "no usable pictures: broken.png: not an image"),
        (lambda root: root / "empty", "empty has no usable pictures"),
    ],
)
def test_without_a_usable_picture_nothing_is_written(
    negative: Path, folder: Path, tmp_path: Path, prepare: Callable[[Path], Path], message: str
) -> None:
    (folder / "empty").mkdir()
    before = names(tmp_path), sorted(negative.iterdir())
    with pytest.raises(LeafwingError, match=message):
        leafwing.translate(negative, prepare(folder), trust=True)
    assert (names(tmp_path), sorted(negative.iterdir())) == before


def test_a_full_disk_leaves_no_empty_folders(
    negative: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(StorageError, match="no space left"):
        leafwing.translate(negative, folder / "a.png", out=tmp_path / "x" / "y", trust=True)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("spec", "outputs", "message"),
    [
        (
            COLOUR,
            'Output("image", lambda nets, inputs, clock: squares(inputs.latent), prior=Normal(2))',
            "leafwing sample RUN",
        ),
        (
            DataSpec.images(16, 16, input=fields.Image(16, 16, 3), hole=fields.Mask(16, 16)),
            'Output("image", lambda nets, inputs, clock: inputs.input, ("input", "hole"))',
            "needs input and hole of each picture: use model.translate from Python",
        ),
        (
            DataSpec.images(16, 16, clip=fields.Clip(2, 16, 16)),
            'Output("image", lambda nets, inputs, clock: inputs.clip[:, :, 0], ("clip",))',
            "generates from clip of 2 frames 16x16x3, which pictures cannot be",
        ),
        (
            DataSpec.images(16, 16, labels=("a", "b")),
            'Output("label", lambda nets, inputs, clock: inputs.image.sum((1, 2, 3)).long() * 0, ("image",))',
            "not a picture: use model.translate from Python",
        ),
    ],
)
def test_runs_that_cannot_translate_pictures_say_so(
    folder: Path, tmp_path: Path, spec: DataSpec, outputs: str, message: str
) -> None:
    run = save(tmp_path / "run", spec, outputs)
    with pytest.raises(LeafwingError, match=message):
        leafwing.translate(run, folder, trust=True)


def test_an_invalid_condition_writes_nothing(negative: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"label=3.*this run was trained without labels"):
        leafwing.translate(negative, folder, conditions=["label=3"], trust=True)
    assert not (negative / "translations").exists()


def test_later_translations_are_removed_when_training_goes_back(negative: Path, folder: Path) -> None:
    from leafwing.runs import Run

    result = leafwing.translate(negative, folder / "a.png", trust=True)
    Run(negative).rewind(IMAGES)
    assert result.folder.is_dir()
    Run(negative).rewind(IMAGES - 1)
    assert not result.folder.exists()


def test_memory_does_not_grow_with_the_number_of_pictures(
    negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 16 decoded pictures exist before the next ones are written."""
    (tmp_path / "in").mkdir()
    for i in range(70):
        plain(4, 4).save(tmp_path / "in" / f"{i:02d}.png")
    opened, write, events = data_pictures.opened, files.write, []
    monkeypatch.setattr(data_pictures, "opened", lambda *arguments: events.append(1) or opened(*arguments))
    monkeypatch.setattr(files, "write", lambda path, content: events.append(-1) or write(path, content))
    leafwing.translate(negative, tmp_path / "in", trust=True)
    assert events.count(-1) == 70
    assert np.cumsum(events).max() <= 16


# --- the command line -----------------------------------------------------------------------------------------------------


def test_the_command_writes_pictures_and_prints_the_folder(
    negative: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["translate", str(negative), str(folder), "--trust"]
    assert cli.run([*words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(tmp_path / "out")
    assert "pictures translated: 6" in printed.err
    assert "not translated: 1 of 7: broken.png: not an image" in " ".join(printed.err.split())
    assert cli.run([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["written"], result["rejected"]) == (6, [{"name": "broken.png", "reason": "not an image"}])
    assert Path(result["folder"]).is_dir()
    assert cli.run(words) == 2
    assert "exists: choose another --out" in capsys.readouterr().err
    assert cli.run(["translate", str(negative)]) == 2
    assert "missing PICTURES: an image file, a folder or an archive" in capsys.readouterr().err


def test_sample_of_a_translator_says_which_command_to_use(negative: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sample", str(negative), "--trust"]) == 2
    assert "`leafwing translate RUN PICTURES`" in capsys.readouterr().err
    assert not [*(negative / "samples").iterdir()]


# --- derived inputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["grey", "edges", "blur", "low4"])
def test_an_input_that_training_derived_is_derived_from_the_pictures(tmp_path: Path, how: str) -> None:
    from leafwing.data.derive import DERIVED, derived_fields

    image = fields.Image(16, 16, 3)
    spec = DataSpec({"image": image, **derived_fields(how, image)})
    make = "lambda nets, inputs, clock: nets.G(inputs.input.mean(1, keepdim=True))"
    output = f'Output("image", {make}, ("input",), kind=fields.Image(spec.height, spec.width, 1))'
    output = output.replace("spec.", 'data.fields["input"].')
    run = save(tmp_path / "run", spec, output, {"input": how}, source="photos")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    derive = None if how in ("grey", "edges") else True
    result = leafwing.translate(run, tmp_path / "a.png", derive=derive, trust=True)
    assert result.notes == [f"The input was derived from each picture, as in training: {how}."]
    (expected,) = DERIVED[how](pixels[None])["input"]
    side = expected.shape[0]
    written = np.asarray(Image.open(result.folder / "a.png").resize((side, side), Image.Resampling.BOX)).astype(int)
    assert np.abs(written - expected.mean(2)).max() <= (1 if side == 16 else 40)


def test_a_hole_of_training_is_cut_into_the_pictures_with_its_mask(tmp_path: Path) -> None:
    image = fields.Image(16, 16, 3)
    spec = DataSpec({"image": image, "input": image, "hole": fields.Mask(16, 16)})
    make = "lambda nets, inputs, clock: nets.G(inputs.input * (1 - inputs.hole) + inputs.hole)"
    run = save(tmp_path / "run", spec, f'Output("image", {make}, ("input", "hole"))', {"input": "hole"}, source="photos")
    plain(16, 16, (0, 0, 0)).save(tmp_path / "a.png")
    written = read(leafwing.translate(run, tmp_path / "a.png", trust=True).folder / "a.png")
    assert np.unique(written).tolist() == [0, 255]
    assert (written == 255).all(2).sum() == 64, "not a quarter of the picture"


def test_inputs_that_a_data_set_has_itself_are_not_derived(tmp_path: Path) -> None:
    run = save(tmp_path / "run", COLOUR, NEGATIVE, {"input": "edges"}, source="sprites")
    plain(16, 16).save(tmp_path / "a.png")
    result = leafwing.translate(run, tmp_path / "a.png", trust=True)
    assert read(result.folder / "a.png")[0, 0].tolist() == [55, 155, 205]
    assert result.notes == []


def test_odd_names_are_kept_where_that_is_possible(negative: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    plain(16, 16).save(buffer, "PNG")
    (tmp_path / "in").mkdir()
    for name in ("x" * 251 + ".png", "two\nlines.png"):
        (tmp_path / "in" / name).write_bytes(buffer.getvalue())
    result = leafwing.translate(negative, tmp_path / "in", trust=True)
    assert sorted(path.name for path in result.folder.iterdir()) == ["two_nlines.png", "x" * 251 + ".png"]
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("y" * 300 + ".png", "a.png", "a.png/b.png"):
            archive.writestr(name, buffer.getvalue())
    result = leafwing.translate(negative, tmp_path / "in.zip", trust=True)
    written = sorted(str(path.relative_to(result.folder)) for path in result.folder.rglob("*.png") if path.is_file())
    assert written == ["a-2.png", "a.png/b.png", "y" * 236 + ".png"]


def test_no_two_results_have_names_that_some_file_systems_take_for_one(negative: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    plain(16, 16).save(buffer, "PNG")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("a.bmp", "A.png", "caf\u00e9.png", "cafe\u0301.png", "B/x.png", "b/X.png", "b/y.png"):
            archive.writestr(name, buffer.getvalue())
    result = leafwing.translate(negative, tmp_path / "in.zip", trust=True)
    written = [unicodedata.normalize("NFC", name).casefold() for name in names(result.folder)]
    assert result.written == len({*written}) == 7
    assert "b/y.png" in names(result.folder)


def test_an_empty_path_is_not_the_current_folder(negative: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["translate", str(negative), "", "--trust"]) == 2
    assert "'': no such file or folder" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused(negative: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(LeafwingError, match="not a regular file"):
        leafwing.translate(negative, tmp_path / "pipe.png", trust=True)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.zeros(2, 3, 16, 16, dtype=torch.int64),
            r"input of type torch.int64: give floating-point values in \[-1, 1\]",
        ),
        (torch.zeros(3, 16, 16), r"input of shape \(3, 16, 16\): those of this run have shape \(n, 3, 16, 16\)"),
        (torch.full((2, 3, 16, 16), 200.0), r"input: values from 200 to 200 are far outside of \[-1, 1\]"),
        (None, "must be a Tensor or a NumPy array, not NoneType"),
        ("a.png", "must be a Tensor or a NumPy array, not str.* `leafwing translate` reads files"),
    ],
)
def test_what_is_no_tensor_of_images_is_refused(negative: Path, images: Any, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        Model.load(negative, trust=True).translate(images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("nets.F(inputs.input)[:1]", "output image makes 1 samples from 2 inputs"),
        ("None", "output image makes NoneType, not a tensor"),
    ],
)
def test_outputs_that_are_no_samples_of_the_inputs_are_refused(tmp_path: Path, make: str, message: str) -> None:
    run = save(tmp_path / "run", COLOUR, f'Output("image", lambda nets, inputs, clock: {make}, ("input",))')
    with pytest.raises(LeafwingError, match=message):
        Model.load(run, trust=True).translate(torch.zeros(2, 3, 16, 16))


LATER = 'Output("v", lambda nets, inputs, clock: inputs.input.flatten(1)[:, :2], ("input",), kind=fields.Vector(2))'


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (f"{NEGATIVE}, {NEGATIVE}", "the recipe has two outputs image"),
        (LATER, "main output v is a vector generated from images"),
        (f"{NEGATIVE}, {LATER}", None),
    ],
)
def test_outputs_are_checked_before_training(tmp_path: Path, outputs: str, message: str | None) -> None:
    run = save(tmp_path / "run", COLOUR, outputs)
    model = Model.load(run, trust=True)
    batch = Batch(image=torch.zeros(2, 3, 16, 16), input=torch.zeros(2, 3, 16, 16))
    with pytest.raises(LeafwingError, match=message) if message else nullcontext():
        check_outputs(model, batch)


@pytest.mark.parametrize(
    ("half", "size", "derive", "expected"),
    [
        ("right", (32, 16), None, "half"),
        ("right", (33, 16), None, "half"),
        ("right", (16, 16), None, "whole"),
        ("right", (36, 16), None, "whole"),
        ("right", (32, 16), False, "whole"),
        ("right", (16, 16), True, "half"),
        ("top", (16, 32), None, "half"),
        ("top", (32, 16), None, "whole"),
    ],
)
def test_a_half_of_a_pair_is_translated_as_in_training(
    tmp_path: Path, half: str, size: tuple[int, int], derive: bool | None, expected: str
) -> None:
    run = save(tmp_path / "run", COLOUR, NEGATIVE.replace(",))", ",), multiple=1)"), {"input": half}, source="facades")
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pair.png")
    result = leafwing.translate(run, tmp_path / "pair.png", out=tmp_path / "out", derive=derive, trust=True)
    part = pixels
    if expected == "half":
        part = pixels[:, -(size[0] // 2) :] if half == "right" else pixels[: size[1] // 2]
    made = read(tmp_path / "out" / "pair.png")
    assert made.shape == part.shape
    assert np.array_equal(made[..., 3], part[..., 3]), "transparency of the half"
    note = f"The {half} half of a picture was its input, as in training: 1" + (
        "." if derive else "; --no-derive takes whole pictures."
    )
    assert (note in result.notes) == (expected == "half")
