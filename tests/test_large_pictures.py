"""Pictures of any size: padded, whole or in tiles with the same result, whatever the network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import leafwing
from fake_mps import MPS, FakeMps
from leafwing import cli, fields, machine
from leafwing.engine import sizes, strips
from leafwing.engine.share import NumberedDraws
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import Abilities, DataSpec, Game, Output, Player
from leafwing.model import Model
from leafwing.networks import residual, unet
from saved_run import save

DATA = DataSpec.images(16, 16, 3, input=fields.Image(16, 16, 3))
LEVEL = 1 / 255


def model(net: nn.Module, multiple: int = 4, data: DataSpec = DATA, messages: list[str] | None = None) -> Model:
    """A model of one network, whose normalisation layers have arbitrary statistics."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    output = Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",), multiple=multiple)
    say = (lambda text: None) if messages is None else messages.append
    return Model(Game({"G": Player(net)}, [], Abilities([output]), batch=1), data, notify=say)


def pictures(n: int, height: int, width: int) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Layers(nn.Module):
    """Every other layer that can be computed in strips, and the mean of a whole map; makes pictures 2 times larger."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.prelu = nn.Conv2d(3, 16, 3, 1, 1), nn.PReLU(4)
        self.second = nn.Conv2d(4, 8, 5, padding=2, padding_mode="reflect")
        self.norm, self.last = nn.GroupNorm(2, 8), nn.Conv2d(8, 3, 3, dilation=2, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.second(self.prelu(functional.pixel_shuffle(self.first(x), 2))))
        y = functional.relu_(y)
        pooled = functional.avg_pool2d(functional.max_pool2d(y, 3, 2, 1), 3, 1, 1, count_include_pad=False)
        y = y * torch.sigmoid(y.mean((2, 3), keepdim=True))
        y = y + functional.interpolate(pooled, size=y.shape[2:], mode="bilinear")
        y = y - functional.interpolate(x, scale_factor=2, mode="bicubic").mean(1, keepdim=True)
        y = y + functional.pixel_unshuffle(functional.interpolate(pooled[:, :2], scale_factor=4), 2)
        a, b = y.chunk(2, 1)
        y = torch.cat([functional.pad(a, (1, -1, 2, -2)), b], 1)
        return torch.tanh(self.last(y) + torch.linspace(-1, 1, y.shape[2])[:, None])


def networks() -> dict[str, Callable[[], nn.Module]]:
    return {
        "residual": lambda: residual.Generator(DATA, 3, 4, blocks=2),
        "residual-batch-noise": lambda: residual.Generator(DATA, 3, 4, blocks=2, norm="batch", dropout=0.5),
        "unet-noise": lambda: unet.Generator(DATA, 3, 4, max_width=8),
        "layers": Layers,
    }


def in_strips(net: nn.Module, picture: Tensor, tile: int, draws: int = 5 << 24 | 3) -> Tensor:
    """The result of a network, computed in strips."""
    plan = strips.Strips(lambda inputs: net(inputs["input"]), {"input": tuple(picture.shape)}, torch.device("cpu"))
    sources = {"input": lambda start, stop: picture[:, :, start:stop]}
    return torch.cat([*plan.compute(sources, NumberedDraws(draws, 1), tile=tile)], 2)


def in_one_pass(net: nn.Module, picture: Tensor, draws: int = 5 << 24 | 3) -> Tensor:
    with torch.no_grad(), NumberedDraws(draws, 1):
        return net(picture)


# --- tiles ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [1, 9, 40])
@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("memory", [strips.MAPS_BYTES, 0], ids=["memory", "files"])
def test_tiles_are_the_whole_picture(name: str, tile: int, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(strips, "MAPS_BYTES", memory)
    net = networks()[name]().eval()
    model(net)
    picture = pictures(1, 48, 32)
    whole, tiles = in_one_pass(net, picture), in_strips(net, picture, tile)
    assert whole.shape == tiles.shape
    assert whole.std() > 0.01, "nothing to compare"
    assert (whole - tiles).abs().max() <= LEVEL


def test_tiles_need_no_float64_of_the_device() -> None:
    torch.manual_seed(0)
    conv, norm, picture = nn.Conv2d(3, 4, 3, 1, 1), nn.GroupNorm(2, 4), pictures(1, 12, 8)

    @torch.no_grad()
    def function(inputs: dict[str, Tensor]) -> Tensor:
        y = norm(conv(inputs["input"]))
        y = y * y.mean((2, 3), keepdim=True)
        return functional.instance_norm(y.flatten(2).softmax(2).unflatten(2, y.shape[2:]))

    plan = strips.Strips(function, {"input": tuple(picture.shape)}, torch.device("cpu"))
    plan.device = MPS
    with FakeMps():
        tiles = torch.cat([*plan.compute({"input": lambda a, b: picture[:, :, a:b]}, NumberedDraws(0, 1), tile=9)], 2)
        assert tiles.device == MPS
        assert torch.allclose(tiles.cpu(), function({"input": picture}), atol=1e-4)


def test_noise_of_large_maps_is_drawn_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumberedDraws, "LARGE", 100)
    torch.manual_seed(0)
    net, picture = unet.Generator(DATA, 3, 4, max_width=8).eval(), pictures(1, 48, 32)
    whole = in_one_pass(net, picture)
    assert (whole - in_strips(net, picture, 3)).abs().max() <= LEVEL
    assert (whole - in_one_pass(net, picture, 5 << 24 | 4)).abs().max() > LEVEL, "each picture has noise of its own"
    with NumberedDraws(5 << 24 | 3, 2):
        both = torch.rand(2, 4, 9, 9)
    with NumberedDraws(5 << 24 | 4, 1):
        assert torch.equal(torch.rand(1, 4, 9, 9), both[1:])


class Mixed(nn.Module):
    """A convolution, and a layer whose rows depend on all others."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.body(x) + x.flatten(2).softmax(2).unflatten(2, x.shape[2:]))


class Deciding(nn.Module):
    """Its control flow depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return -x if x.mean() > 5 else x * 0.5


def test_what_cannot_be_cut_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = pictures(1, 24, 24)
    mixed = model(Mixed())
    assert (mixed.translate(picture, tile=8) - mixed.translate(picture, tile="whole")).abs().max() <= LEVEL
    monkeypatch.setattr(strips, "WHOLE_BYTES", 100)
    monkeypatch.setattr(sizes, "WHOLE_LIMIT", 100)
    for net, reason in ((Mixed(), "its layer flatten needs the whole map"), (Deciding(), "it cannot be traced")):
        messages: list[str] = []
        translator = model(net, messages=messages)
        with pytest.raises(LeafwingError, match=f"tile=8: this run translates whole pictures only: {reason}"):
            translator.translate(picture, tile=8)
        assert torch.equal(translator.translate(picture), translator.translate(picture, tile="whole"))
        assert len(messages) == 1
        assert "may be too large for memory, but tiles are not possible" in messages[0]


def test_without_memory_for_the_whole_tiles_are_used_and_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    messages: list[str] = []
    translator = model(residual.Generator(DATA, 3, 4, blocks=1), messages=messages)
    picture, convolve, limit = pictures(3, 40, 24), functional.conv2d, [10**9]
    expected = translator.translate(picture, tile="whole")

    def limited(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if type(x) is Tensor and x.numel() > limit[0]:
            raise MemoryError
        return convolve(x, *arguments, **options)

    assert (translator.translate(picture) - expected).abs().max() <= LEVEL
    monkeypatch.setattr(functional, "conv2d", limited)
    limit[0] = 3000
    assert (translator.translate(picture) - expected).abs().max() <= LEVEL
    assert messages == [
        "not enough memory for whole pictures: the larger ones are computed in tiles",
        "not enough memory for the tiles: they are halved",
    ]
    with pytest.raises(LeafwingError, match="not enough memory for a whole picture of 24x40 pixels: use --tile auto"):
        translator.translate(picture, tile="whole")


def test_a_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, content: object) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            closed.append(True)

    closed: list[bool] = []
    monkeypatch.setattr(strips, "MAPS_BYTES", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: Full())
    with pytest.raises(StorageError, match=r"No space left on device.*TMPDIR"):
        in_strips(residual.Generator(DATA, 3, 4, blocks=1), pictures(1, 16, 16), 8)
    assert closed


def test_the_memory_limit_of_a_control_group_counts(tmp_path: Path) -> None:
    group, process = tmp_path / "job", tmp_path / "process"
    group.mkdir()
    process.write_text("0::/job\n")
    for name, value in {"max": "1000", "current": "700", "stat": "anon 1\ninactive_file 50"}.items():
        (group / f"memory.{name}").write_text(f"{value}\n")
    assert machine.available_memory(tmp_path, process) == 350
    (group / "memory.max").write_text("max\n")
    assert (machine.available_memory(tmp_path, process) or 1000) > 350


# --- sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(5, 3), (1, 1), (17, 16), (16, 16), (70, 9)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_pictures_of_any_size_keep_it(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    translator = model(residual.Generator(DATA, 3, 4, blocks=1, norm="batch"))
    picture = pictures(2, *size)
    whole = translator.translate(picture)
    assert whole.shape == picture.shape
    assert (translator.translate(picture, tile=8) - whole).abs().max() <= LEVEL


def test_padding_is_a_reflection_at_the_end() -> None:
    assert sizes.reflection(3, 9).tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert sizes.reflection(1, 4).tolist() == [0, 0, 0, 0]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.ConvTranspose2d(3, 3, 2, 2), nn.Tanh())
    translator, picture = model(net, 4), pictures(1, 18, 21)
    padded = functional.pad(picture, (0, 3, 0, 2), "reflect")
    assert (translator.translate(picture) - in_one_pass(net, padded)[:, :, :18, :21]).abs().max() <= LEVEL


def test_an_enlarger_makes_larger_pictures() -> None:
    data = DataSpec.images(16, 16, 3, input=fields.Image(8, 8, 3))
    translator = model(Layers(), 2, data)
    picture = pictures(1, 11, 14)
    assert translator.translate(picture).shape == (1, 3, 22, 28)
    with pytest.raises(
        LeafwingError, match=r"input of shape \(1, 1, 11, 14\): those of this run have shape \(n, 3, 11, 14\)"
    ):
        translator.translate(picture[:, :1])
    with pytest.raises(LeafwingError, match="the network makes 12x12 pixels of 12x12, not 24x24"):
        model(nn.Identity(), 2, data).translate(pictures(1, 11, 12))


def test_networks_of_one_size_have_no_tiles() -> None:
    translator = model(nn.Identity(), 0)
    with pytest.raises(LeafwingError, match="tile=8: this run translates pictures of one size"):
        translator.translate(pictures(1, 16, 16), tile=8)
    for tile in ("half", "3", "-1"):
        with pytest.raises(LeafwingError, match=rf"tile='?{tile}'?: write auto, whole, or the side of a tile"):
            model(nn.Identity()).translate(pictures(1, 16, 16), tile=tile)


# --- files ----------------------------------------------------------------------------------------------------------------

NEGATIVE = 'Output("image", lambda nets, inputs, clock: nets.F(inputs.input), ("input",), multiple=4)'
ENLARGER = (
    'Output("image", lambda nets, inputs, clock: torch.nn.functional.interpolate(nets.F(inputs.input), scale_factor=4), ("input",), '
    "multiple=1)"
)
LOW = DataSpec.images(16, 16, 3, input=fields.Image(4, 4, 3))


def stripes(width: int, height: int, mode: str) -> Image.Image:
    """A picture with detail of one pixel."""
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 4), np.uint8)
    return Image.fromarray(pixels[..., :3] if mode == "P" else pixels).convert(mode)


def read(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert(mode)).astype(int)


def test_a_folder_of_forty_pictures(tmp_path: Path) -> None:
    """Sizes, ratios, modes and types are mixed; detail of one pixel remains."""
    run = save(tmp_path / "run", DATA, NEGATIVE)
    modes, shapes = (
        ("RGB", "L", "RGBA", "P", "LA"),
        ((16, 16), (5, 3), (40, 24), (1, 30), (33, 50), (24, 40), (64, 7), (16, 16)),
    )
    kinds = {
        "RGB": (".png", ".webp"),
        "L": (".png", ".bmp"),
        "RGBA": (".png", ".webp"),
        "P": (".png", ".gif"),
        "LA": (".png", ".tiff"),
    }
    names = {}
    for i, size in enumerate(shapes):
        for mode in modes:
            suffix = kinds[mode][i % 2]
            name = f"{('', 'more/', 'more/deep/')[i % 3]}{mode}-{i}{suffix}"
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            stripes(*size, mode).save(path, **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
            names[name] = (size, mode)
    result = leafwing.translate(run, tmp_path / "in", out=tmp_path / "out", tile=8, trust=True)
    assert (result.written, result.rejected) == (40, [])
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == names.keys()
    assert result.notes == ["Converted to colour, which the network takes: 16."]
    for name, (size, mode) in names.items():
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == size
            if not name.endswith(".gif"):
                assert image.mode == ("RGBA" if mode in ("RGBA", "LA") else "RGB")
        if mode in ("RGB", "L") and not name.endswith(".webp"):  # results in WebP are lossy
            assert np.abs(read(tmp_path / "in" / name, "RGB") + read(tmp_path / "out" / name, "RGB") - 255).max() <= 1
        if mode in ("RGBA", "LA"):
            assert (read(tmp_path / "in" / name, "RGBA")[..., 3] == read(tmp_path / "out" / name, "RGBA")[..., 3]).all()
    stretched = leafwing.translate(run, tmp_path / "in", out=tmp_path / "stretched", resolution="training", trust=True)
    assert "Stretched to 16x16 pixels, the size of training, and the results back: 30." in stretched.notes
    with Image.open(stretched.folder / "more" / "deep" / "RGB-2.png") as image:
        assert image.size == (40, 24)


def test_what_is_made_has_the_mode_of_the_target(tmp_path: Path) -> None:
    output = (
        'Output("image", lambda nets, inputs, clock: nets.F(inputs.input.mean(1, keepdim=True)), ("input",), multiple=4)'
    )
    run = save(tmp_path / "run", DataSpec.images(16, 16, 1, input=fields.Image(16, 16, 3)), output)
    stripes(21, 10, "RGB").save(tmp_path / "a.png")
    result = leafwing.translate(run, tmp_path / "a.png", trust=True)
    with Image.open(result.folder / "a.png") as image:
        assert (image.mode, image.size) == ("L", (21, 10))


def test_masks_and_segmentations_have_their_own_size(tmp_path: Path) -> None:
    indices = np.random.default_rng(0).integers(0, 3, (9, 14), np.uint8)
    Image.fromarray(indices).save(tmp_path / "a.png")
    output = 'Output("image", lambda nets, inputs, clock: inputs.input.argmax(1, keepdim=True).float() - 1, ("input",), multiple=4)'
    run = save(tmp_path / "run", DataSpec.images(8, 8, 1, input=fields.Segmentation(8, 8, ("a", "b", "c"))), output)
    result = leafwing.translate(run, tmp_path / "a.png", trust=True)
    assert (read(result.folder / "a.png", "L") == np.array([0, 128, 255])[indices]).all()


@pytest.mark.parametrize("alpha", [False, True])
def test_an_enlarger_takes_the_picture_as_its_input_unless_it_is_reduced_first(tmp_path: Path, alpha: bool) -> None:
    run = save(tmp_path / "run", LOW, ENLARGER, {"input": "low4"}, source="photos")
    stripes(13, 10, "RGBA" if alpha else "RGB").save(tmp_path / "a.png")
    large = leafwing.translate(run, tmp_path / "a.png", out=tmp_path / "large", trust=True)
    assert large.notes == [
        "Each picture was taken as the input itself, because this run undoes low4; --derive applies it to pictures first."
    ]
    with Image.open(large.folder / "a.png") as image:
        assert (image.size, image.mode) == ((52, 40), "RGBA" if alpha else "RGB")
    same = leafwing.translate(run, tmp_path / "a.png", out=tmp_path / "same", derive=True, trust=True)
    with Image.open(same.folder / "a.png") as image:
        assert (image.size, image.mode) == ((13, 10), "RGBA" if alpha else "RGB")
    if not alpha:
        assert np.abs(read(large.folder / "a.png", "RGB")[::4, ::4] + read(tmp_path / "a.png", "RGB") - 255).max() <= 1


def test_grey_is_derived_at_the_size_of_the_picture(tmp_path: Path) -> None:
    from leafwing.data.derive import grey

    output = (
        'Output("image", lambda nets, inputs, clock: nets.F(inputs.input).expand(-1, 3, -1, -1), ("input",), multiple=4)'
    )
    spec = DataSpec.images(16, 16, 3, input=fields.Image(16, 16, 1))
    run = save(tmp_path / "run", spec, output, {"input": "grey"}, source="photos")
    stripes(21, 10, "RGB").save(tmp_path / "a.png")
    result = leafwing.translate(run, tmp_path / "a.png", out=tmp_path / "out", trust=True)
    assert result.notes == ["The input was derived from each picture, as in training: grey."]
    expected = 255 - grey(read(tmp_path / "a.png", "RGB")[None].astype(np.uint8))["input"][0].astype(int)
    assert np.abs(read(result.folder / "a.png", "RGB") - expected).max() <= 1
    plain = leafwing.translate(run, tmp_path / "a.png", derive=False, out=tmp_path / "plain", trust=True)
    assert plain.notes[0] == "Each picture was taken as the input itself; in training it was derived: grey."
    other = save(tmp_path / "other", DATA, NEGATIVE)
    with pytest.raises(LeafwingError, match="--no-derive: the input of this run was not derived"):
        leafwing.translate(other, tmp_path / "a.png", derive=False, trust=True)


NOISY = (
    'Output("image", lambda nets, inputs, clock: nets.G(inputs.input + torch.rand(inputs.input.shape) / 2), ("input",), multiple=4), '
    'Output("input", lambda nets, inputs, clock: nets.F(inputs.image), ("image",), multiple=4)'
)


def test_several_results_and_the_way_back(tmp_path: Path) -> None:
    run = save(tmp_path / "run", DATA, NOISY)
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        stripes(21, 10, "L").save(tmp_path / "in" / name)
    several = leafwing.translate(run, tmp_path / "in", samples=3, trust=True)
    assert sorted(path.name for path in several.folder.iterdir()) == [f"{name}-{i}.png" for name in "ab" for i in (1, 2, 3)]
    assert len({path.read_bytes() for path in several.folder.iterdir()}) == 6
    third = leafwing.translate(run, tmp_path / "in", seed=2, trust=True)
    assert (third.folder / "b.png").read_bytes() == (several.folder / "b-3.png").read_bytes()
    back = leafwing.translate(run, tmp_path / "in", back=True, trust=True)
    forth = leafwing.translate(run, tmp_path / "in", output="input", out=tmp_path / "out", trust=True)
    assert (back.folder / "a.png").read_bytes() == (forth.folder / "a.png").read_bytes()
    assert np.abs(read(back.folder / "a.png", "L") + read(tmp_path / "in" / "a.png", "L") - 255).max() <= 1
    with pytest.raises(
        LeafwingError, match="--samples 2: this run makes one input of each picture: its result is not random"
    ):
        leafwing.translate(run, tmp_path / "in", back=True, samples=2, out=tmp_path / "no", trust=True)
    with pytest.raises(LeafwingError, match="--back and --output input: choose one"):
        leafwing.translate(run, tmp_path / "in", back=True, output="input", trust=True)
    one_way = save(tmp_path / "one", DATA, NEGATIVE)
    with pytest.raises(LeafwingError, match="--back: this run makes image from input, but not the reverse"):
        leafwing.translate(one_way, tmp_path / "in", back=True, trust=True)


def test_the_options_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save(tmp_path / "run", DATA, NEGATIVE)
    stripes(21, 10, "RGB").save(tmp_path / "a.png")
    words = ["translate", str(run), str(tmp_path / "a.png"), "--trust"]
    assert cli.run([*words, "--tile", "8", "--out", str(tmp_path / "tiles")]) == 0
    assert cli.run([*words, "--tile", "whole", "--out", str(tmp_path / "whole")]) == 0
    assert (tmp_path / "tiles" / "a.png").read_bytes() == (tmp_path / "whole" / "a.png").read_bytes()
    assert cli.run([*words, "--resolution", "training", "--tile", "8"]) == 2
    assert cli.run([*words, "--no-derive"]) == 2
    assert cli.run([*words, "--back"]) == 2
    assert cli.run([*words, "--samples", "0"]) == 2
    errors = " ".join(capsys.readouterr().err.split())
    for text in ("so there are no tiles", "--no-derive: the input", "--back: this run", "--samples 0: at least 1"):
        assert text in errors
