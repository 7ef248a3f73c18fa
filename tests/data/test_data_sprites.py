"""The built-in sprites with chosen fields and inputs: content, options, cache, errors."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from leafwing import sprites
from leafwing.data import BUILT_IN, load
from leafwing.data.doctor import doctor
from leafwing.data.pack import Store
from leafwing.data.sprites import INPUTS
from leafwing.errors import LeafwingError, StorageError
from leafwing.fields import Caption, Image, Segmentation
from leafwing.sprites import FIELDS

ALL = "label,attributes,caption,box,keypoints,segmentation,edges,low,hole,clip"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer scenes, but more than are computed at a time: drawing all of them takes seconds."""
    monkeypatch.setattr("leafwing.data.sprites.COUNT", 1_400)
    monkeypatch.setattr("leafwing.data.sprites.UNPAIRED_COUNT", 400)


def content(data: object) -> dict[str, str]:
    """A hash of each column."""
    return {name: hashlib.sha256(column.tobytes()).hexdigest()[:16] for name, column in data.columns.items()}  # type: ignore[attr-defined]


def test_without_options_nothing_changed() -> None:
    data = load("sprites")
    assert data.fingerprint.startswith("227e3fa296b3bb5c")
    assert list(data.columns) == ["image", "label", "attributes"]
    every = hashlib.sha256(b"".join(name.encode() + data.columns[name].tobytes() for name in sorted(data.columns)))
    assert every.hexdigest().startswith("487ee2cbb434487a")
    assert {"fields", "input"}.isdisjoint(data.options)
    assert load("sprites", fields="attributes,label").fingerprint == data.fingerprint


@pytest.mark.usefixtures("few")
def test_every_field_can_be_chosen() -> None:
    data = load("sprites", size=16, fields=ALL)
    assert list(data.spec.fields) == list(data.columns) == list(FIELDS)
    assert data.options["fields"] == ALL
    sample = sprites.scenes(len(data), 20_141_107).rows(slice(1_290, 1_300))  # across the parts that are computed at a time
    for name, expected in sprites.emit(sample, 16, FIELDS).items():
        assert data.columns[name].dtype == expected.dtype, name
        assert data.columns[name].shape == (len(data), *expected.shape[1:]), name
        assert np.array_equal(data.columns[name][1_290:1_300], expected), name
        assert data.spec.fields[name] == FIELDS[name].kind(16)
    batch = data.batches(0)(0, 4)
    assert {name: tuple(batch[name].shape) for name in batch} == {
        name: (4, *kind.shape) for name, kind in data.spec.fields.items()
    }
    assert torch.equal(batch.clip[:, :, 0], batch.image)
    again = load("sprites", **data.options)
    assert (again.fingerprint, content(again)) == (data.fingerprint, content(data))


@pytest.mark.usefixtures("few")
def test_the_order_of_the_fields_does_not_matter_but_their_choice_does() -> None:
    a, b, c = (load("sprites", size=16, fields=fields) for fields in ("caption,box", "box, caption,image", "image"))
    assert (a.fingerprint, a.options) == (b.fingerprint, b.options)
    assert list(a.columns) == list(b.columns) == ["image", "caption", "box"]
    assert list(c.columns) == ["image"]
    assert len({data.fingerprint for data in (a, c, load("sprites", size=16), load("sprites", size=16, input="edges"))}) == 4
    assert list(load("sprites", **c.options).columns) == ["image"]


@pytest.mark.parametrize("name", [name for name in INPUTS if name != "unpaired"])
@pytest.mark.usefixtures("few")
def test_an_input_belongs_to_each_image(name: str) -> None:
    data = load("sprites", size=16, input=name, fields="label")
    assert list(data.columns)[:3] == ["image", "input", "label"]
    assert not data.spec.unpaired
    sample = sprites.scenes(20, 20_141_107)
    image, expected = (sprites.emit(sample, 16, field)[field] for field in ("image", name))
    if name == "hole":
        assert np.array_equal(data.columns["hole"][:20], expected)
        assert np.array_equal(data.columns["input"][:20], np.where(expected == 1, 128, image))
    else:
        assert np.array_equal(data.columns["input"][:20], expected)
        assert data.spec.fields["input"] == FIELDS[name].kind(16)
    again = load("sprites", **data.options)
    assert (again.fingerprint, content(again)) == (data.fingerprint, content(data))
    data.spec.need("a_recipe", image=Image, input=Segmentation if name == "segmentation" else Image)


@pytest.mark.usefixtures("few")
def test_both_unpaired_domains_have_segmentations() -> None:
    data = load("sprites", size=16, input="unpaired", fields="segmentation")
    assert data.spec.unpaired == ("input", "input_segmentation")
    assert data.spec.fields["input_segmentation"] == data.spec.fields["segmentation"]
    batch = data.batch(0, 0, 200)
    for name, maps in (("image", batch.segmentation), ("input", batch.input_segmentation)):
        drawn = (batch[name] != batch[name][:, :1, :1]).any(3)
        assert (drawn & (maps > 0)).any(2).any(1).all()
        assert not (maps[:, 0, 0] > 0).any(), f"the corner of each {name} is background"


@pytest.mark.usefixtures("few")
def test_unpaired_inputs_are_outlines_of_other_scenes() -> None:
    data = load("sprites", size=16, input="unpaired", fields="caption")
    assert (data.spec.unpaired, len(data), list(data.spec.fields)) == (
        ("input",),
        400,
        ["image", "caption", "input"],
    )
    with pytest.raises(LeafwingError, match="unpaired"):
        data.spec.need("a_recipe", image=Image, input=Image)
    data.spec.need("a_recipe", image=Image, input=Image, unpaired=("input",))
    batch = data.batch(0, 0, 200)
    assert batch.input.shape == batch.image.shape == (200, 16, 16, 3)
    white = (batch.input == 245).all(3).float().mean((1, 2))
    assert white.min() > 0.5, "outlines on white"
    assert not (batch.image == 245).all(3).any(), "no white in the other domain"
    kind = data.spec.fields["caption"]
    assert isinstance(kind, Caption)
    assert sprites.agreement(sprites.read(batch.image), kind.to_plain(batch.caption.numpy()))["caption"] == 1
    again = load("sprites", **data.options)
    assert again.fingerprint == data.fingerprint != load("sprites", size=16, fields="caption").fingerprint
    assert all(torch.equal(value, batch[name]) for name, value in again.batch(0, 0, 200).items())


@pytest.mark.usefixtures("few")
def test_mirrored_fields_agree_with_the_mirrored_image() -> None:
    data = load("sprites", size=32, mirror=True, fields="attributes,caption,box,keypoints,segmentation,hole")
    plain = load("sprites", size=32, fields="caption")
    assert "left and right are omitted" in data.notes[0]
    assert {"left", "right"}.isdisjoint(data.spec.attributes)
    batch = data.batch(0, 0, 200)
    flipped = (batch.image != plain.batch(0, 0, 200).image).flatten(1).any(1)
    assert 50 < flipped.sum() < 150
    reading = sprites.read(batch.image)
    kind = data.spec.fields["caption"]
    texts = kind.to_plain(batch.caption.numpy())
    assert sprites.agreement(reading, texts)["caption"] == 1
    differs = (batch.image != batch.image[:, :1, :1]).any(3).numpy()
    for shape, (left, top, width, height), points, hole in zip(
        differs, batch.box.tolist(), batch.keypoints, batch.hole, strict=True
    ):
        rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
        box = np.array([left, top, left + width, top + height]) * 32
        # The soft edge may change one more pixel, and a tiny part of a sprite in a pixel may not change it.
        outside = np.concatenate([np.floor(box[:2]), np.ceil(box[2:])])
        assert np.abs(outside - [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).max() <= 1
        x, y = points[:, 0] * 32, points[:, 1] * 32
        assert box[0] - 1e-3 <= x.min() <= x[4] < x[0] < x[2] <= box[2] + 1e-3, "left is left"
        assert box[1] - 1e-3 <= y.min() <= y.max() <= box[3] + 1e-3
        assert hole[..., 0].numpy()[shape].all()
    assert ((batch.segmentation > 0).flatten(1).sum(1) > 0).all()
    assert not (batch.segmentation.numpy()[~differs] > 0).any()
    assert not load("sprites", size=16, mirror=True, fields="caption").notes, "nothing is omitted"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("sprites", {"fields": "caption,boxx"}, "fields='?boxx.*did you mean box.*caption"),
        ("sprites", {"fields": ""}, "fields='?.*available: image, label"),
        ("sprites", {"input": "edge"}, "input='?edge.*did you mean edges.*unpaired"),
        ("sprites", {"input": "low", "size": 18}, "multiple of 4"),
        ("sprites", {"fields": "box", "size": 8}, "16 to 128"),
        ("digits", {"fields": "caption"}, "fields='?caption'?: only the built-in sprites.*digits"),
        ("ring", {"fields": "caption"}, "fields='?caption"),
        ("stacked", {"fields": "caption"}, "fields='?caption"),
        ("ring", {"input": "edges"}, "input='?edges"),
    ],
)
@pytest.mark.usefixtures("few")
def test_fields_and_inputs_that_do_not_exist_are_refused(source: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        load(source, **options)  # type: ignore[arg-type]


def test_fields_of_a_folder_cannot_be_chosen(tmp_path: Path) -> None:
    for examine in (load, doctor):
        with pytest.raises(LeafwingError, match=r"fields='?box'?: only the built-in sprites"):
            examine(tmp_path, fields="box")


@pytest.mark.usefixtures("few")
def test_the_doctor_takes_the_same_options() -> None:
    report = doctor("sprites", size=16, fields="caption,box", input="edges")
    assert (report.classes, report.attributes) == ({}, {})
    assert report.options == load("sprites", size=16, fields="caption,box", input="edges").options


def test_the_description_mentions_the_options() -> None:
    assert "--fields" in BUILT_IN["sprites"]


# --- the cache ----------------------------------------------------------------------------------------------------------------


def test_computed_arrays_are_mapped_from_the_cache(tmp_path: Path) -> None:
    store, parts = Store(tmp_path), [np.arange(6, dtype=np.uint8).reshape(2, 3), np.full((1, 3), 9, np.uint8)]
    array = store.array("key", (3, 3), parts)
    assert array.tolist() == [[0, 1, 2], [3, 4, 5], [9, 9, 9]]
    assert not array.flags.writeable
    assert store.array("key", (3, 3), iter(())).tolist() == array.tolist(), "not computed again"
    file = tmp_path / "arrays" / "key.npy"
    assert list(file.parent.iterdir()) == [file]
    truncated = file.read_bytes()[:-4]
    file.unlink()
    file.write_bytes(truncated)
    assert store.array("key", (3, 3), parts).tolist() == array.tolist(), "damaged: computed again"


def test_an_interrupted_computation_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> object:
        yield np.zeros((1, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).array("key", (2, 3), interrupted())  # type: ignore[arg-type]
    assert list((tmp_path / "arrays").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "arrays").write_text("not a folder")
    with pytest.raises(StorageError, match="LEAFWING_CACHE"):
        Store(tmp_path).array("key", (1, 3), [np.zeros((1, 3), np.uint8)])


@pytest.mark.usefixtures("few")
def test_fields_are_computed_once() -> None:
    reports: list[tuple[int, int]] = []
    first = load("sprites", size=16, fields="segmentation", progress=lambda done, total: reports.append((done, total)))
    assert reports[-1] == (1_400, 1_400)
    reports.clear()
    second = load("sprites", size=16, fields="segmentation", progress=lambda done, total: reports.append((done, total)))
    assert not reports
    assert np.array_equal(first.columns["segmentation"], second.columns["segmentation"])
