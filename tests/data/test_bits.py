"""Greyscale images with 16 bits: which fields keep them, and what networks, sheets and files get."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import encoded, picture
from PIL import Image as PillowImage

from leafwing import field_sheet, pictures
from leafwing.data import Dataset, device, load, load_pack
from leafwing.data.doctor import doctor
from leafwing.errors import LeafwingError
from leafwing.fields import Image, from_dict
from leafwing.pixels import eight_bits, images_to_tensor


def deep(seed: int, low: int = 0, high: int = 65536, size: tuple[int, int] = (40, 40)) -> bytes:
    """A PNG file, greyscale with 16 bits."""
    values = np.random.default_rng(seed).integers(low, high, size).astype(np.uint16)
    return encoded(PillowImage.fromarray(values))


def put(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def pairs(path: Path, image: list[bytes], inputs: list[bytes]) -> Path:
    files = {f"B/{i}.png": content for i, content in enumerate(image)}
    return put(path, files | {f"A/{i}.png": content for i, content in enumerate(inputs)})


def test_a_field_whose_files_all_have_16_bits_keeps_them(tmp_path: Path) -> None:
    colours = [encoded(picture(i, 40, 40)) for i in range(3)]
    path = pairs(tmp_path / "set", [deep(i, 1000, 1200) for i in range(3)], colours)
    data = load(path, size=40, input="A")
    assert data.spec.fields == {"image": Image(40, 40, 1, bits=16), "input": Image(40, 40, 3)}
    with PillowImage.open(path / "B/0.png") as file:
        assert np.array_equal(data.array[0, :, :, 0], np.asarray(file))
    for again in (load(path, **data.options), load_pack(data.fingerprint)):
        assert again is not None
        assert again.fingerprint == data.fingerprint
        assert np.array_equal(again.array, data.array)
    other = load(path, size=40, input="B")
    assert other.spec.fields == {"image": Image(40, 40, 3), "input": Image(40, 40, 1, bits=16)}
    assert load(path, **other.options).fingerprint == other.fingerprint
    assert load(path, size=40, input="A", bits=8).spec.fields["image"] == Image(40, 40, 1)
    mixed = pairs(tmp_path / "mixed", [deep(0), encoded(PillowImage.fromarray(picture(1, 40, 40)[..., 0]))], colours[:2])
    assert load(mixed, size=40, input="A").spec.fields["image"] == Image(40, 40, 1)
    with pytest.raises(LeafwingError, match=r"--bits 16: every image .* B/1\.png is PNG, L"):
        load(mixed, size=40, input="A", bits=16)


def test_without_inputs_they_must_be_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path / "set", {f"{i}.png": deep(i) for i in range(3)})
    plain = load(path)
    assert plain.array.dtype == np.uint8
    assert any("white in all of them (--levels changes that, --bits 16 keeps" in note for note in plain.notes)
    for bits in ("16", "auto", 16):
        assert load(path, bits=bits).array.dtype == np.uint16
    assert load(path, input="edges").spec.fields["image"] == plain.spec.fields["image"]
    for options, message in (
        ({"input": "edges"}, "derived from the images have 8 bits"),
        ({"channels": 3}, "not those of --channels 3"),
    ):
        with pytest.raises(LeafwingError, match=message):
            load(path, bits=16, **options)  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match="bits=12: choose from auto, 8, 16"):
        load(path, bits=12)
    joined = load(path, input=str(put(tmp_path / "other", {f"{i}.png": deep(i + 9) for i in range(3)})))
    assert {field.bits for field in joined.spec.fields.values()} == {16}  # type: ignore[attr-defined]
    assert doctor(path, bits=16).accepted == 3


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch", "tiles"])
def test_fitting_uses_one_mapping_for_the_whole_set(tmp_path: Path, fit: str) -> None:
    values = [np.full((48, 64), level, np.uint16) for level in (100, 40_000)]
    path = put(tmp_path / "set", {f"{i}.png": encoded(PillowImage.fromarray(value)) for i, value in enumerate(values)})
    data = load(path, size=32, fit=fit, bits=16)
    per_picture = len(data) // 2
    assert [{*data.array[i * per_picture].ravel().tolist()} - {65535} for i in range(2)] == [{100}, {40_000}]


def test_networks_see_the_same_range_and_give_back_every_value() -> None:
    kind = Image(16, 16, 1, bits=16)
    stored = torch.from_numpy(np.arange(65536, dtype=np.uint16)[::256].reshape(1, 16, 16, 1).copy())
    seen = kind.to_network(stored)
    assert seen.dtype == torch.float32
    assert kind.to_network(torch.tensor([0, 65535], dtype=torch.uint16).reshape(1, 2, 1, 1)).tolist() == [[[[-1.0], [1.0]]]]
    assert torch.equal(kind.to_stored(seen), stored)
    everything = torch.arange(65536, dtype=torch.int32).to(torch.uint16).reshape(1, 256, 256, 1)
    assert torch.equal(kind.to_stored(kind.to_network(everything)), everything)
    assert torch.equal(kind.mirror(kind.mirror(stored)), stored)
    assert torch.equal(kind.to_network(torch.full((1, 2, 2, 1), 255, dtype=torch.uint8)), torch.ones(1, 1, 2, 2))
    assert from_dict(kind.as_dict()) == kind
    assert "bits" not in Image(4, 4).as_dict()
    with pytest.raises(ValueError, match="8 or 16 bits"):
        from_dict({**kind.as_dict(), "bits": 12})


@pytest.mark.parametrize("mirror", [False, True])
def test_batches_of_16_bits_on_every_path(mirror: bool) -> None:
    from leafwing.game import DataSpec

    array = np.random.default_rng(0).integers(0, 65536, (9, 8, 8, 1)).astype(np.uint16)
    data = Dataset(DataSpec({"image": Image(8, 8, 1, bits=16)}), {"image": array}, "x", "x", {"mirror": mirror})
    for part in (data, data.with_windows(6, 5)):
        whole = part.batch(1, 3, 12)
        resident = device.ResidentBatches(part, 1, torch.device("cpu"))(3, 12)
        assert whole.image.dtype == resident.image.dtype == torch.uint16
        assert torch.equal(whole.image, resident.image)
    assert ({*data.batch(0, 0, 9).image.flatten().tolist()}) == {*array.ravel().tolist()}


def test_they_are_drawn_with_8_bits_and_written_with_16() -> None:
    kind = Image(8, 8, 1, bits=16)
    stored = np.linspace(0, 65535, 64).astype(np.uint16).reshape(1, 8, 8, 1)
    assert eight_bits(stored).max() == 255
    assert np.asarray(pictures.tile(stored)).max() == 255
    assert pictures.draw(kind, stored).dtype == np.uint8
    assert field_sheet.sheet({"image": kind}, {"image": stored}).mode == "RGB"
    with PillowImage.open(io.BytesIO(pictures.png(pictures.to_image(pictures.visible(kind, stored)[0])))) as file:
        assert file.mode.startswith("I;16")
        assert np.array_equal(np.asarray(file), stored[0, :, :, 0])
    assert torch.allclose(images_to_tensor(stored), kind.to_network(torch.from_numpy(stored)))
