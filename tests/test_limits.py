"""What is refused before it is begun: numbers, files that are none, games and samples that do not fit into memory."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import leafwing
from leafwing import cli, fields, files, recipes, weights_file
from leafwing.augment_option import parse as parse_augment
from leafwing.calls import checked
from leafwing.commands import capacity
from leafwing.commands.comparison.compare import last_log_line
from leafwing.commands.prepare import _places
from leafwing.commands.sample import check_memory as check_samples
from leafwing.commands.sample import check_scale
from leafwing.commands.seeds import parse_seeds, refuse_other_samples
from leafwing.data.arrays import load_arrays
from leafwing.data.options import check as check_reading
from leafwing.errors import InvalidOption, LeafwingError, visible
from leafwing.game import Batch, DataSpec
from leafwing.laboratory.latents import parse_numbers
from leafwing.laboratory.options import read_picture
from leafwing.laboratory.truncate import parse_psi
from leafwing.quantities import check_tile, duration, real, whole
from tiny import PICTURES, start


@pytest.mark.parametrize(
    "text",
    ["nan", "inf", "-inf", "1e400", "9" * 5000, "1e-400", "-0", "-0.0", "-00", "６４", "٣", "²", "0x10", "1_0", "", "1e"],
    ids=lambda text: text[:8],
)
def test_what_is_no_number_here_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        real(text)
    with pytest.raises(InvalidOption, match="n="):
        whole(text, "n", 0, 5)
    with pytest.raises(InvalidOption, match="time="):
        duration(text)


def number_in_python(text: str) -> object:
    """A number as an argument of a call from Python."""

    def call(seconds: float | None = None) -> float | None:
        return seconds

    return checked(call)(text)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (parse_seeds, "٣-٥"), (parse_seeds, "３"), (parse_psi, "0.5,nan"), (parse_psi, "٣"), (parse_psi, "1_0"),
        (partial(parse_numbers, "samples"), "٣"), (parse_augment, "p=٠"), (parse_augment, "p=nan"), (parse_augment, "p=-0"),
        (check_tile, "٦٤"), (check_tile, "６４"), (check_tile, "7"), (check_tile, ""), (number_in_python, "６４"),
        (number_in_python, "nan"), (number_in_python, "inf"), (number_in_python, "1e400"), (number_in_python, "-0"),
        (_places, "0.1,0.1,0.9,-0"), (_places, "0.1,0.1,0.9,٠"), (lambda text: check_reading(text, None, "crop", "white"), "６４"),
    ],
)  # fmt: skip
def test_lists_of_numbers_have_the_same_digits(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(InvalidOption):
        read(text)


def test_numbers_have_their_usual_spellings() -> None:
    assert [number_in_python(text) for text in ("3", "1_000", "0.5", " 1e3 ")] == [3, 1000, 0.5, 1000]
    assert [check_tile(tile) for tile in ("64", 64, "auto", "whole")] == [64, 64, "auto", "whole"]
    assert [real(text) for text in ("0", "+.5", "1e-4", "2E3", " 7. ", 3, 0.25)] == [0, 0.5, 1e-4, 2000, 7, 3, 0.25]
    assert [whole(text, "n", -5) for text in ("-3", "1_000", 7, np.int64(9))] == [-3, 1000, 7, 9]
    with pytest.raises(InvalidOption, match="at least 1 and at most 4,096"):
        whole(2**32, "threads", 1, 4096)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "x", "--seed", "nan"], "--seed nan: must be a finite number"),
        (["reel", "x", "--seconds", "1e999"], "--seconds 1e999: must be a number between"),
        (["walk", "x", "--fps", "-0"], "--fps -0: must be written 0"),
        (["sample", "x", "--seed", "٣"], "--seed ٣: must be a number"),
        (["train", "x", "--devices", "4294967296"], "--devices 4294967296: must be at most 1,024"),
        (["train", "digits", "--recipe", "gan", "--lr-g", "9" * 5000], "[4,940 more characters]: must be a number between"),
        (["train", "digits", "--recipe", "wgan", "--n-critic", "1e9"], "--n-critic 1e9: must be at most 10,000"),
        (["train", "digits", "--threads", "4294967296"], "at most 4,096"),
        (["train", "digits", "--recipe", "gan", "--out", "a" * 300], "longer than the names of files may be"),
    ],
)  # fmt: skip
def test_options_out_of_range(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert cli.run(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error) < 1_000


def test_control_characters_are_shown_escaped() -> None:
    text = "\x1b[31mred\x07 \u202egnp \x9b a\nb\tc é 日本 😀\xa0x"
    assert visible(text) == "\\u001b[31mred\\u0007 \\u202egnp \\u009b a\nb\tc é 日本 😀\xa0x"
    assert visible("\ud800") == "\\ud800"
    assert str(LeafwingError("no \x1b[2Jclass")) == "no \\u001b[2Jclass"
    assert json.loads(visible(json.dumps({"name": "\u202e\x7f"}, ensure_ascii=False))) == {"name": "\u202e\x7f"}


def test_standard_output_is_escaped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def show(words: list[str]) -> int:
        print("class \x1b[31m")
        return 0

    monkeypatch.setattr(cli, "run", show)
    monkeypatch.setattr(cli, "stop_like_ctrl_c", lambda: None)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    with pytest.raises(SystemExit):
        cli.main(["doctor"])
    assert capsys.readouterr().out == "class \\u001b[31m\n"


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    readers = (files.read_json, files.json_lines, files.digest, files.checksums, weights_file.read, load_arrays)
    for read in (*readers, lambda path: read_picture("mask", path, 8, 8, "L")):
        with pytest.raises(LeafwingError, match="not a file"):
            read(path)  # type: ignore[operator]


def test_a_pipe_instead_of_a_file_of_a_run_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    os.mkfifo(run / "run.json")
    with pytest.raises(LeafwingError, match=r"has no run\.json"):
        leafwing.Run(run)


def test_pipes_among_the_files_of_a_run_and_of_its_samples_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = leafwing.train(
        "ring", recipe="gan", width=8, width_d=8, batch=8, images=16, out=folder, threads=1, device="cpu", progress=False
    )
    (tmp_path / "seeds").mkdir()
    os.mkfifo(tmp_path / "seeds" / "seeds.json")
    with pytest.raises(LeafwingError, match="is not a folder of `leafwing sample --seeds`"):
        refuse_other_samples(tmp_path / "seeds", {})
    for path in (run.require_weights(), folder / "recipe.py", folder / "resume.pt"):
        content = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(LeafwingError, match=r"is a pipe or a device, not a file|has no recipe\.py"):
            leafwing.resume(folder, images=32, progress=False)
        path.unlink()
        path.write_bytes(content)
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")
    with pytest.raises(LeafwingError, match=r"defines no function recipe"):
        recipes.describe(str(folder / "recipe.py"))


def test_nested_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(LeafwingError, match=r"a\.json: not valid JSON \(nested too deeply\)"):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "a.json").rename(tmp_path / "run.json")
    (tmp_path / "recipe.py").write_bytes(recipes.locate("gan").read_bytes())
    with pytest.raises(LeafwingError, match=r"defines no function recipe"):
        recipes.describe(str(tmp_path / "recipe.py"))


@pytest.mark.parametrize(
    "line", ["5", "[" * 5_000, '{"images": "8"}', '{"images": 8, "images_per_second": [1]}', "[[1, 2]]", '{"images": NaN}']
)
def test_progress_of_a_comparison_does_not_depend_on_a_valid_log(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f'{{"images": 4}}\n{line}\n')
    assert last_log_line(tmp_path / "log.jsonl") == {}


def test_a_value_of_another_type_names_file_and_key(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"x\.json: runs\.a\[0\]: expected `int`, got `str`; restore it"):
        files.convert(Path("x.json"), ["one"], list[int], "runs.a", "restore it")


def test_checked_documents_notice_every_changed_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_checked(path, {"a": [1, 2]})
    content = path.read_bytes()
    assert files.read_checked(path, dict[str, list[int]]) == {"a": [1, 2]}
    assert files.read_checked(path, dict[str, str]) is None
    for place in range(len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert files.read_checked(path, dict[str, list[int]]) is None


def test_a_postscript_file_under_another_name_is_not_opened(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(InvalidOption, match="cannot read the image"):
        read_picture("mask", tmp_path / "a.png", 8, 8, "L")


def test_arrays_are_measured_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 8, 8), np.uint8))
    monkeypatch.setattr("leafwing.data.arrays.available_memory", lambda: 300)
    with pytest.raises(LeafwingError, match=r"its arrays need .* of memory"):
        load_arrays(tmp_path / "a.npz")
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1))
    with (tmp_path / "b.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (10**12,)})
    with pytest.raises(LeafwingError, match="not a readable NumPy file"):
        load_arrays(tmp_path / "b.npy")


def test_networks_that_do_not_fit_are_refused_before_they_take_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "available_memory", lambda: 4 << 20)
    values = recipes.describe("dcgan").resolve({"width": 512})
    with pytest.raises(LeafwingError, match=r"take more than .* MiB.*try --width 256"):
        recipes.build("dcgan", recipes.find("dcgan"), DataSpec.images(64, 64), values)


def test_a_training_that_does_not_fit_names_the_batch_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    training = start("cgan", PICTURES, 100)
    weights = {name: value.clone() for name, value in training.game.players["G"].net.state_dict().items()}
    monkeypatch.setattr(capacity, "free_memory", lambda device: 64 << 20)
    options = {"width": 64}
    training.batch = 200_000
    said: list[str] = []
    with pytest.raises(
        LeafwingError, match=r"needs about .* and .* MiB are free; try --batch \d+, or --micro-batch"
    ) as caught:
        capacity.check_memory(training, options, said.append)
    training.batch = int(str(caught.value).split("--batch ")[1].split(",")[0])
    capacity.check_memory(training, options, said.append)
    assert said == []
    training.batch += training.batch // 6
    capacity.check_memory(training, options, said.append)
    assert "it may run out of memory" in said[0]
    monkeypatch.setattr(capacity, "free_memory", lambda device: 1 << 10)
    with pytest.raises(LeafwingError, match=r"for the weights.*try --width 32"):
        capacity.check_memory(training, options, said.append)
    with pytest.raises(LeafwingError, match=r"for the weights.*because the networks of a run cannot change"):
        capacity.check_memory(training, options, said.append, resumed=True)
    assert all(weights[name].equal(value) for name, value in training.game.players["G"].net.state_dict().items())


def test_a_larger_batch_that_does_not_fit_is_refused_when_a_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = leafwing.train(
        "ring",
        recipe="gan",
        width=8,
        width_d=8,
        batch=8,
        images=32,
        out=tmp_path / "run",
        threads=1,
        device="cpu",
        progress=False,
    )
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(capacity, "free_memory", lambda device: 4 << 20)
    with pytest.raises(LeafwingError, match=r"needs about .* with batches of 100,000.*try --batch \d+, or --micro-batch"):
        leafwing.resume(run, images="200k", batch=100_000, progress=False)
    assert {path: path.read_bytes() for path in before} == before
    assert leafwing.resume(run, images="+16", progress=False).stop_reason == "images"


def test_an_error_of_a_full_device_says_what_to_try() -> None:
    training = start("cgan", PICTURES, 100)
    with (
        pytest.raises(
            LeafwingError, match=r"out of memory on cpu with batches of 6 .*--micro-batch 3, or --batch 3, or --width 32"
        ),
        capacity.out_of_memory(training, {"width": 64}),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="another"), capacity.out_of_memory(training, {}):
        raise RuntimeError("another")


def test_samples_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["leafwing.commands.sample"], "available_memory", lambda: 1 << 20)
    one: Any = (torch.zeros(1, 64), Batch({}), None)
    check_samples(500, one, 0)
    with pytest.raises(InvalidOption, match="at most 1,024 at a time"):
        check_samples(2_000, one, 0)
    with pytest.raises(InvalidOption, match="at most"):
        check_samples(500, one, 3 * 64 * 64)


def test_a_scale_with_which_a_single_sample_could_not_be_opened_is_refused() -> None:
    """Also in folders, which take the same memory for any number of samples."""
    for field, most in ((fields.Image(64, 64, 3), 191), (fields.Clip(4, 64, 64), 191), (fields.Image(20_000, 20_000, 3), 1)):
        check_scale(most, field)
        with pytest.raises(InvalidOption, match=f"a single sample could not be opened: choose at most {most}$"):
            check_scale(most + 1, field)
    assert len(parse_seeds("0-999999")) == 1_000_000
    with pytest.raises(InvalidOption, match="at most a million"):
        parse_seeds("0-999999,2000000-2000001")


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("another")])
def test_a_command_that_runs_out_of_memory_says_what_to_try(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(cli, "commands_for", fail)
    if str(error) == "another":
        with pytest.raises(RuntimeError, match="another"):
            cli.run(["sample", "last"])
        return
    assert cli.run(["sample", "last"]) == 2
    assert capsys.readouterr().err.startswith("leafwing: out of memory: ask for less at a time")
