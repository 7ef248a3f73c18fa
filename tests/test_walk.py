"""Films of walks through latent space: what they show, their sizes, rates and loops, and what cannot be filmed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from leafwing import cli, commands, fields
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.layout import GAP, LINE
from leafwing.model import Model
from saved_run import IMAGES, save

PLAIN = 'Output("image", lambda nets, inputs, clock: squares(inputs.latent), prior=Normal(2))'
CLASSES = (
    'Output("image", lambda nets, inputs, clock: squares(inputs.latent) * 0.5 + inputs.label[:, None, None, None] / 4, '
    '("label",), Normal(2))'
)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return save(tmp_path / "run", DataSpec.images(16, 16), PLAIN)


def shown(path: Path) -> list[np.ndarray]:
    """The images of a film, int (height, width, 3)."""
    with Image.open(path) as film:
        return [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(film)]


def test_a_walk_goes_through_the_samples_of_its_seeds_and_back(plain: Path) -> None:
    path = commands.walk(plain, "3,5", seconds=1, fps=8, trust=True)
    assert path == plain / "outputs" / f"{IMAGES:09d}-walk-3_5.webp"
    assert commands.walk(plain, [3, 5], seconds=1, fps=8, trust=True).name == f"{IMAGES:09d}-walk-3_5-2.webp"
    levels = [frame.mean() for frame in shown(path)]
    assert len(levels) == 8
    model = Model.load(plain, trust=True)
    ends = [float((model.sample(1, seed) + 1).mean() * 127.5) for seed in (3, 5)]
    assert [levels[0], levels[4]] == pytest.approx(ends, abs=3)
    assert levels[5] == pytest.approx(levels[3], abs=3), "the way back is not that of the way there"
    steps = np.abs(np.diff([*levels, levels[0]]))
    assert steps.max() < 0.6 * abs(ends[0] - ends[1]), "there is a jump"


def test_a_walk_that_is_no_loop_ends_at_the_last_seed_and_is_shown_once(plain: Path, tmp_path: Path) -> None:
    model = Model.load(plain, trust=True)
    last = float((model.sample(1, 5) + 1).mean() * 127.5)
    for kind in ("webp", "gif"):
        path = commands.walk(plain, [3, 5], seconds=0.5, fps=8, loop=False, out=tmp_path / f"a.{kind}", trust=True)
        assert shown(path)[-1].mean() == pytest.approx(last, abs=3)
        with Image.open(path) as film:
            assert film.info.get("loop", 1) == 1
    looped = commands.walk(plain, [3, 5], seconds=0.5, fps=8, out=tmp_path / "b.gif", trust=True)
    with Image.open(looped) as film:
        assert film.info["loop"] == 0


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_a_walk_of_transparent_samples_is_transparent(tmp_path: Path, ending: str) -> None:
    clear = "torch.cat([squares(inputs.latent), squares(inputs.latent, 1) * 0 - 1], 1)"
    output = f'Output("image", lambda nets, inputs, clock: {clear}, prior=Normal(2))'
    run = save(tmp_path / "run", DataSpec.images(16, 16, 4), output)
    with Image.open(commands.walk(run, "1,2", seconds=0.5, fps=4, out=tmp_path / f"a.{ending}", trust=True)) as film:
        alphas = [np.asarray(frame.convert("RGBA"))[..., 3] for frame in ImageSequence.Iterator(film)]
    assert all((alpha == 0).all() for alpha in alphas)


@pytest.mark.parametrize(("size", "expected"), [(None, (512, 512)), (100, (100, 100)), (64, (64, 64))])
def test_a_film_has_no_frame_and_the_chosen_size(plain: Path, size: int | None, expected: tuple[int, int]) -> None:
    frames = shown(commands.walk(plain, "1,2", seconds=0.5, fps=4, size=size, trust=True))
    assert {frame.shape[1::-1] for frame in frames} == {expected}
    assert all(np.ptp(frame) <= 4 for frame in frames), "something else than the image is on it"


def test_all_classes_are_shown_with_their_names_or_one(tmp_path: Path) -> None:
    run = save(tmp_path / "run", DataSpec.images(16, 16, labels=("ant", "bee", "cow", "dog")), CLASSES)
    frame = shown(commands.walk(run, "1,2", seconds=0.5, fps=4, trust=True))[0]
    step = 128 + GAP
    assert frame.shape == (2 * (step + LINE) + GAP, 2 * step + GAP, 3)
    levels = [frame[y, x, 0] for y in (60, 60 + step + LINE) for x in (60, 60 + step)]
    assert np.diff(levels) == pytest.approx([127.5 / 4] * 3, abs=4)
    alone = shown(commands.walk(run, "1,2", seconds=0.5, fps=4, label="cow", trust=True))[0]
    assert alone.shape == (512, 512, 3)
    assert alone.mean() == pytest.approx(levels[2], abs=4)
    exact = shown(commands.walk(run, "1,2", seconds=0.5, fps=4, size=400, trust=True))[0]
    assert max(exact.shape) == 400
    every = shown(commands.walk(run, "1,2", seconds=0.5, fps=4, label="all", trust=True))[0]
    assert np.array_equal(every, frame)


def test_wrong_classes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save(tmp_path / "run", DataSpec.images(16, 16, labels=("ant", "bee")), CLASSES)
    words = ["walk", str(run), "--seeds", "1,2", "--trust", "--label"]
    for wrong, message in ((["fox"], "'fox'"), (["all", "--set", "label=bee"], "label is given twice, as bee and as all")):
        assert cli.run([*words, *wrong]) == 2
        assert message in capsys.readouterr().err
    assert not (run / "outputs").exists()


def test_a_class_may_be_named_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--seeds", "1,2", "--seconds", "0.1", "--fps", "20", "--trust", "--set", "label=all"]
    films = []
    for names in (("ant", "all"), ("ant", "bee")):
        run = save(tmp_path / names[1], DataSpec.images(16, 16, labels=names), CLASSES)
        films.append(cli.run(["walk", str(run), *words]))
    assert films == [0, 2]
    assert "no class 'all'" in capsys.readouterr().err
    film = shown(next((tmp_path / "all" / "outputs").iterdir()))[0]
    alone = commands.walk(tmp_path / "all", "1,2", seconds=0.1, fps=20, label="#1", out=tmp_path / "alone.webp", trust=True)
    assert (film == shown(alone)[0]).all(), "one image, of the class with this name"


def test_noise_inside_networks_does_not_flicker(tmp_path: Path) -> None:
    noisy = (
        'Output("image", lambda nets, inputs, clock: squares(inputs.latent) / 2 + torch.randn(inputs.n, 3, *size), '
        "prior=Normal(2))"
    )
    run = save(tmp_path / "run", DataSpec.images(16, 16), noisy)
    frames = shown(commands.walk(run, "3,5", seconds=1, fps=4, trust=True))
    spread = [(frame - frames[0])[16::32, 16::32].std() for frame in frames[1:]]
    assert len(spread) == 3
    assert max(spread) < 20, "the images differ by more than their brightness"
    sample = Model.load(run, trust=True).sample(1, 3)[0].clamp(-1, 1)
    assert np.corrcoef(frames[0][16::32, 16::32, 0].ravel(), sample[0].numpy().ravel())[0, 1] > 0.9


def test_an_mp4_film_has_the_exact_rate(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    av = pytest.importorskip("av")
    words = ["walk", str(plain), "--seeds", "1,2", "--seconds", "1", "--fps", "30", "--size", "64", "--trust"]
    assert cli.run([*words, "--out", str(tmp_path / "new" / "a.mp4"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == str(tmp_path / "new" / "a.mp4")
    with av.open(str(tmp_path / "new" / "a.mp4")) as film:
        assert film.streams.video[0].average_rate == 30
        assert len([*film.decode(video=0)]) == 30


def test_durations_of_gif_files_add_up(plain: Path, tmp_path: Path) -> None:
    path = commands.walk(plain, "1,2", seconds=1, fps=30, size=16, out=tmp_path / "a.gif", trust=True)
    with Image.open(path) as film:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
    assert sum(durations) == 1_000
    assert len({*durations}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "3"], "at least two different seeds"),
        (["--seeds", "3-"], "write 1-50, or 3,5,8"),
        (["--seconds", "0"], "more than 0"),
        (["--seconds", "0.01"], "at least two images takes longer"),
        (["--fps", "0"], "from 1 to 60"),
        (["--fps", "60", "--out", "a.gif"], "from 1 to 50"),
        (["--size", "5"], "from 16 to 4096 pixels"),
        (["--label", "3"], "this run was trained without labels"),
        (["--label", "all"], "this run was trained without labels"),
        (["--out", "a.avi"], "unsupported file type"),
        (["--seconds", "3000", "--size", "4096"], "choose an .mp4 file"),
    ],
)
def test_invalid_options_write_nothing(
    plain: Path,
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert cli.run(["walk", str(plain), "--trust", *options]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_image_from_latents_cannot_be_filmed(tmp_path: Path) -> None:
    clip = 'Output("clip", lambda nets, inputs, clock: squares(inputs.latent)[:, :, None].expand(-1, -1, 2, -1, -1), prior=Normal(2))'
    clips = save(tmp_path / "clips", DataSpec.images(16, 16, clip=fields.Clip(2, 16, 16)), clip)
    with pytest.raises(LeafwingError, match="a sample of this run is a clip"):
        commands.walk(clips, trust=True)
    copy = 'Output("image", lambda nets, inputs, clock: inputs.input, ("input",))'
    translator = save(tmp_path / "translator", DataSpec.images(16, 16, input=fields.Image(16, 16)), copy)
    with pytest.raises(LeafwingError, match="leafwing translate"):
        commands.walk(translator, trust=True)


def test_many_classes_are_limited_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save(tmp_path / "run", DataSpec.images(4, 4, labels=tuple(f"c{i}" for i in range(30))), CLASSES)
    assert cli.run(["walk", str(run), "--seeds", "1,2", "--seconds", "0.1", "--fps", "20", "--trust"]) == 0
    assert "the first 20 of 30 classes are shown" in capsys.readouterr().err


def test_film_is_no_command_but_two_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["film", "last"]) == 2
    message = capsys.readouterr().err
    assert "leafwing walk" in message
    assert "leafwing reel" in message
