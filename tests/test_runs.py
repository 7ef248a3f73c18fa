"""The run folder: it appears complete, is never overwritten, survives a full disk, and executes no untrusted code."""

from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bare_run import OPTIONS, SPEC, config, create
from leafwing import recipes
from leafwing.commands.runs import list_runs
from leafwing.config import BestCheckpoint, DataConfig, convert_json
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import SGD, Abilities, DataSpec, Game, Player, Round, Term, Turn
from leafwing.runs import SAVED, Run, folders, refuse_existing


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create(tmp_path / "run")


class Small(nn.Module):
    """A network with a weight and an integer counter."""

    def __init__(self, value: float, size: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), value))
        self.register_buffer("seen", torch.tensor(int(value)))


def game(value: float = 1.0, size: int = 3) -> Game:
    players = {"G": Player(Small(value, size), SGD(0.1), ema=100), "D": Player(Small(value, size), SGD(0.1))}
    turn = Turn(
        "D", lambda nets, batch, clock: Round(nets, batch.image, batch.image, nets.D), [Term("memory", Small(value))]
    )
    return Game(players, [turn], Abilities())


def save(run: Run, images: int, value: float | None = None, *, last: int = 2, milestone: int = 0, pad: int = 0) -> Path:
    position = dict.fromkeys(("turn", "taken", "first", "began"), 0)
    state = {"images": images, "round": images // 10, **position, "seconds": 1.0, "optimisers": {}, "pad": torch.zeros(pad)}
    return run.save_checkpoint(game(float(images) if value is None else value), state, last=last, milestone=milestone)


# --- creating ---------------------------------------------------------------------------------------------------------------


def test_a_new_run_contains_its_settings_and_its_recipe(run: Run) -> None:
    assert sorted(os.listdir(run.folder)) == ["log.jsonl", "recipe.py", "run.json", "samples"]
    assert json.loads((run.folder / "run.json").read_text(encoding="utf-8")) == json.loads(json.dumps(config()))
    assert (run.folder / "recipe.py").read_bytes() == recipes.locate("dcgan").read_bytes()
    assert (run.name, run.recipe, run.spec) == ("run", "dcgan", SPEC)


def test_runs_are_numbered_and_named_by_recipe_and_data(tmp_path: Path) -> None:
    first = create(root=tmp_path / "runs")
    second = create(root=tmp_path / "runs", source="digits")
    assert (first.name, second.name) == ("0001-dcgan-my_cats_2", "0002-dcgan-digits")


@pytest.mark.parametrize(
    ("source", "slug"), [("/", "data"), ("???", "data"), ("a" * 80, "a" * 24), ("x.tar.gz", "x"), ("Ünï", "n")]
)
def test_every_source_gives_a_valid_folder_name(tmp_path: Path, source: str, slug: str) -> None:
    assert create(root=tmp_path, source=source).name == f"0001-dcgan-{slug}"


def test_numbering_continues_after_the_highest_number(tmp_path: Path) -> None:
    for name in ("0002-a-b", "0041-c-d", "notes", "9999.txt.d"):
        (tmp_path / name).mkdir()
    (tmp_path / "9999.txt.d").rmdir()
    assert create(root=tmp_path).name.startswith("0042-")


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    with pytest.raises(LeafwingError, match=r"mine exists, and run folders are never overwritten"):
        create(tmp_path / "mine")
    assert os.listdir(tmp_path) == ["mine"]
    assert os.listdir(tmp_path / "mine") == ["precious"]
    refuse_existing(None)
    refuse_existing(tmp_path / "free")


def test_parent_folders_are_created(tmp_path: Path) -> None:
    assert create(tmp_path / "a" / "b" / "c").folder.is_dir()


def test_a_run_that_could_not_be_written_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, calls = os.replace, []

    def sometimes(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", sometimes)
    with pytest.raises(StorageError, match="No space left"):
        create(root=tmp_path)
    assert folders(tmp_path) == []
    monkeypatch.undo()
    assert create(root=tmp_path).name.startswith("0001-")


def test_a_run_folder_never_lacks_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a file or folder is renamed, every visible folder under the root contains run.json and recipe.py."""
    seen: list[list[str]] = []

    def watching(real: Any) -> Any:
        def wrapped(*words: Any, **options: Any) -> Any:
            done = real(*words, **options)
            for folder in tmp_path.iterdir():
                if not folder.name.startswith("."):
                    seen.append(os.listdir(folder))
            return done

        return wrapped

    for name in ("replace", "rename", "mkdir"):
        monkeypatch.setattr(os, name, watching(getattr(os, name)))
    create(root=tmp_path)
    assert seen
    assert all({"run.json", "recipe.py", "log.jsonl", "samples"} <= set(files) for files in seen)


def test_folders_without_settings_are_not_runs(tmp_path: Path) -> None:
    run = create(root=tmp_path)
    (tmp_path / ".new-1-2").mkdir()
    (tmp_path / ".new-1-2" / "run.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert folders(tmp_path) == [run.folder]
    assert folders(tmp_path / "missing") == []


def test_an_unwritable_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        create(tmp_path / "file" / "run")


# --- opening ----------------------------------------------------------------------------------------------------------------


def test_a_run_is_opened_by_folder_name_number_or_last(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    first, second = create(root=root), create(root=root, source="digits")
    for path in second.folder.glob("*.json*"):
        os.utime(path, (1, 1))
    for name in (first.folder, str(first.folder), first.name, "1", "0001", "last"):
        assert Run.open(name, root=root).folder == first.folder, name
    assert Run.open("2", root=root).folder == second.folder
    assert Run.open("2", root=root).config == second.config


def test_last_is_the_run_that_was_trained_last_whatever_its_number(tmp_path: Path) -> None:
    first, second = create(root=tmp_path), create(root=tmp_path)
    for run in (first, second):
        for path in run.folder.glob("*.json*"):
            os.utime(path, (1, 1))
    assert Run.open("last", root=tmp_path).folder == second.folder, "of equal times the later number"
    second.add_metrics([{"metric": "fid", "value": 1.0}])
    first.log({"images": 64, "losses": {}})
    assert Run.open("last", root=tmp_path).folder == first.folder, "an evaluation is no training"
    assert [row["is_last"] for row in list_runs(tmp_path)] == [True, False]


@pytest.mark.parametrize("name", ["3", "0001-dcgan", "lost", "0"])
def test_an_unknown_run_is_an_error_that_lists_the_existing_ones(tmp_path: Path, name: str) -> None:
    run = create(root=tmp_path)
    with pytest.raises(LeafwingError, match=f"no run '{name}' in .*; available: {run.name}"):
        Run.open(name, root=tmp_path)


def test_last_without_any_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"no runs in .* yet: train one first"):
        Run.open("last", root=tmp_path)


def test_a_folder_without_run_json_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"is not a run folder, because it has no run\.json"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        '{"data": {}}',
        '{"data": {"spec": {}}}',
        '{"data": {"spec": 3}, "recipe": "x"}',
        "\ufeff{}",
    ],
)
def test_damaged_settings_name_the_file(run: Run, text: str) -> None:
    (run.folder / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(LeafwingError, match=r"run\.json: "):
        Run(run.folder)


def test_settings_that_are_not_text_name_the_file(run: Run) -> None:
    (run.folder / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LeafwingError, match=r"run\.json: not valid JSON"):
        Run(run.folder)


@pytest.mark.parametrize("missing", ["options", "schedule", "machine"])
def test_a_missing_section_is_named(run: Run, missing: str) -> None:
    plain = config()
    del plain[missing]
    (run.folder / "run.json").write_text(json.dumps(plain))

    def use() -> None:
        opened = Run(run.folder)
        opened.build_game()
        opened.update()

    with pytest.raises(LeafwingError, match=rf"run\.json.*{missing}"):
        use()


def test_unknown_options_of_the_recipe_are_an_error(run: Run) -> None:
    (run.folder / "run.json").write_text(json.dumps(config(options={"wings": 2})))
    with pytest.raises(LeafwingError, match=r"recipe dcgan .*wings"):
        Run(run.folder).build_game()


def test_the_data_section_survives_json() -> None:
    for spec in (SPEC, DataSpec.vectors(2)):
        data = DataConfig(source="x", options={}, fingerprint="f", samples=1, rejected=0, labelled=4, spec=spec)
        assert convert_json(Path("run.json"), json.loads(json.dumps(data.as_dict())), DataConfig) == data


def test_changed_settings_are_saved(run: Run) -> None:
    longer = replace(run.settings, schedule=replace(run.settings.schedule, images=5000, time=60.0))
    run.update(longer, best=BestCheckpoint(64, "kid", 0.5))
    again = Run(run.folder)
    assert again.settings == longer
    assert again.history.best == BestCheckpoint(64, "kid", 0.5)
    assert again.config["options"] == OPTIONS


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("schedule", "images", "many", "int"),
        ("schedule", "time", [1], "float"),
        ("machine", "micro_batch", 1.5, "int"),
        ("watching", "health", "pray", "enum"),
        ("folder", "keep_last", None, "int"),
    ],
)
def test_a_damaged_setting_is_named(run: Run, section: str, key: str, value: object, expected: str) -> None:
    plain = config()
    plain[section] = {**plain[section], key: value}
    (run.folder / "run.json").write_text(json.dumps(plain))
    with pytest.raises(LeafwingError, match=rf"run\.json: {section}\.{key}: .*{expected}"):
        Run(run.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": {}}, "there is no field image"),
        ({"unpaired": ["input"]}, "there is no field input"),
        ({"fields": {"image": {"kind": "image", "height": 16, "width": 16, "channels": -1}}}, "channels of an image is -1"),
        ({"fields": {"image": {"kind": "image", "height": 2**40, "width": 16, "channels": 3}}}, "height of an image is"),
        (
            {"fields": {"image": {"kind": "image", "height": 16, "width": 16, "channels": True}}},
            "xpected `int`, got `bool` in `channels`",
        ),
    ],
)
def test_damaged_fields_are_named(run: Run, change: dict[str, object], message: str) -> None:
    plain = config()
    plain["data"]["spec"] = {**plain["data"]["spec"], **change}
    (run.folder / "run.json").write_text(json.dumps(plain))
    with pytest.raises(LeafwingError, match=rf"run\.json: data\.spec.*{message}"):
        Run(run.folder)


def test_damaged_conditions_are_named(run: Run) -> None:
    (run.folder / "run.json").write_text(json.dumps(config(conditions=5)))
    with pytest.raises(LeafwingError, match=r"run\.json: conditions: expected"):
        Run(run.folder)


def test_a_run_from_before_settings_had_sections_loads(run: Run) -> None:
    plain = {key: value for key, value in config().items() if key not in SAVED}
    training = {
        "images": 1000,
        "seed": 3,
        "checkpoint": 50,
        "keep": 2,
        "samples": 60,
        "log": 7,
        "health": "stop",
        "threads": 2,
    }
    best = {"images": 50, "metric": "kid", "value": 0.5}
    (run.folder / "run.json").write_text(json.dumps({**plain, "training": {**training, "time": None, "best": best}}))
    again = Run(run.folder)
    assert (again.settings.schedule.seed, again.settings.watching.health, again.settings.machine.threads) == (3, "stop", 2)
    assert (again.settings.folder.save_every, again.settings.folder.grid_every, again.settings.folder.log_every) == (
        50,
        60,
        7,
    )
    assert again.history.best == BestCheckpoint(50, "kid", 0.5)


def test_names_outside_ascii_stay_readable(tmp_path: Path) -> None:
    run = create(tmp_path / "r", source="/bilder/kätzchen")
    assert "kätzchen" in (run.folder / "run.json").read_text(encoding="utf-8")
    assert Run(run.folder).config["data"]["source"] == "/bilder/kätzchen"


# --- one process at a time --------------------------------------------------------------------------------------------------


def test_a_run_is_locked_by_one_process_at_a_time(run: Run) -> None:
    other = Run(run.folder)
    with run.lock(), pytest.raises(LeafwingError, match="is being trained by another process"), other.lock():
        pytest.fail("two hold the lock")
    with other.lock():
        pass


def test_the_lock_is_released_after_an_error(run: Run) -> None:
    with pytest.raises(RuntimeError, match="mine"), run.lock():
        raise RuntimeError("mine")
    with Run(run.folder).lock():
        pass


# --- the log ----------------------------------------------------------------------------------------------------------------


def test_log_lines_are_read_back_in_order(run: Run) -> None:
    assert run.records() == []
    records = [{"images": i, "losses": {"D/adversarial": i / 3}} for i in (10, 20, 30)]
    for record in records:
        run.log(record)
    assert Run(run.folder).records() == records


def test_a_truncated_last_line_is_skipped(run: Run) -> None:
    run.log({"images": 10})
    run.log({"images": 20})
    text = (run.folder / "log.jsonl").read_text()
    for cut in range(1, len('{"images": 20}\n')):
        (run.folder / "log.jsonl").write_text(text[:-cut])
        records = run.records()
        assert records[0] == {"images": 10}
        assert records[1:] in ([], [{"images": 20}])
        assert cut == 1 or records[1:] == []


def test_a_missing_log_is_empty(run: Run) -> None:
    (run.folder / "log.jsonl").unlink()
    assert run.records() == []


def test_log_lines_after_a_checkpoint_are_removed(run: Run) -> None:
    for images in (10, 20, 30):
        run.log({"images": images})
    with (run.folder / "log.jsonl").open("a") as file:
        file.write('{"images": 4')
    run.truncate_log(20)
    assert [record["images"] for record in run.records()] == [10, 20]
    run.log({"images": 25})
    assert [record["images"] for record in run.records()] == [10, 20, 25]


# --- checkpoints ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_restores_every_tensor(run: Run) -> None:
    path = save(run, 120, 7.0)
    assert path.name == "weights-000000120.safetensors"
    fresh = game(0.0)
    assert run.load_weights(fresh) == 120
    modules = fresh.modules()
    assert sorted(modules) == ["D", "G", "G.average", "term.memory"]
    for module in modules.values():
        assert torch.equal(module.weight, torch.full((3,), 7.0))
        assert module.seen.item() == 7
        assert module.seen.dtype == torch.int64


def test_the_weights_file_is_plain_safetensors_with_named_tensors(run: Run) -> None:
    from safetensors import safe_open

    with safe_open(save(run, 120), "pt") as file:
        assert file.metadata().keys() == {"checkpoint"}
        assert "G.average:weight" in set(file.keys())


def test_networks_in_another_memory_layout_are_saved(run: Run) -> None:
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    run.save_checkpoint(Game({"G": Player(net)}, [], Abilities()), {"images": 1}, last=1, milestone=0)
    fresh = nn.Conv2d(3, 4, 3)
    run.load_weights(Game({"G": Player(fresh)}, [], Abilities()))
    assert torch.equal(fresh.weight, net.weight)


def test_the_state_for_resuming_is_read_back(run: Run) -> None:
    assert run.resume_state() is None
    save(run, 120, pad=2)
    state = run.resume_state()
    assert state is not None
    assert (state["images"], state["round"]) == (120, 12)
    assert torch.equal(state["pad"], torch.zeros(2))


def test_the_most_recent_weights_are_kept(run: Run) -> None:
    for images in (100, 200, 300, 400):
        save(run, images)
    assert list(run.weights()) == [300, 400]
    save(run, 500, last=1)
    assert list(run.weights()) == [500]


def test_milestones_are_kept_permanently(run: Run) -> None:
    for images in range(100, 1300, 100):
        save(run, images, last=2, milestone=500)
    assert list(run.weights()) == [100, 500, 1000, 1100, 1200]


def test_the_state_always_names_weights_that_exist(run: Run) -> None:
    for images in range(100, 800, 100):
        save(run, images, last=1, milestone=300)
        state = run.resume_state()
        assert state is not None
        assert state["images"] == images
        assert state["images"] in run.weights()


def test_other_files_are_not_weights(run: Run) -> None:
    save(run, 100)
    for name in ("weights-best.safetensors", "weights-1.safetensors.bak", ".weights-000000900.safetensors.1.part"):
        (run.folder / name).write_text("x")
    assert list(run.weights()) == [100]


def nth_replace_fails(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    replace, calls = os.replace, []

    def failing(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == n:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)


def check_checkpoint(run: Run, images: int) -> None:
    """Resuming finds this checkpoint complete, and there are no partial files."""
    again = Run(run.folder)
    state = again.resume_state()
    assert state is not None
    assert state["images"] == images
    fresh = game(0.0)
    again.load_weights(fresh, images)
    assert torch.equal(fresh.modules()["G"].weight, torch.full((3,), float(images)))
    assert not [name for name in os.listdir(run.folder) if name.endswith(".part")]


@pytest.mark.parametrize("n", [1, 2])
def test_a_full_disk_keeps_the_previous_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    save(run, 100)
    save(run, 200, last=1)
    nth_replace_fails(monkeypatch, n)
    with pytest.raises(StorageError, match="No space left") as caught:
        save(run, 300, last=1)
    assert caught.value.exit_code == 4
    monkeypatch.undo()
    check_checkpoint(run, 200)
    save(run, 300, last=1)
    check_checkpoint(run, 300)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize("pad", [0, 100_000], ids=["weights", "resume.pt"])
def test_a_real_full_disk_is_a_storage_error(run: Run, pad: int) -> None:
    """Writers of weights and state raise their own error types; a limit on file sizes acts like a full disk."""
    import resource

    save(run, 100)
    limit = 20_000 if pad else 300
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*(weights-|resume)"):
            save(run, 200, pad=pad)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    check_checkpoint(run, 100)


def test_a_run_without_weights_explains_why(run: Run) -> None:
    with pytest.raises(LeafwingError, match="has no weights: its training ended before the first checkpoint"):
        run.load_weights(game())


def test_weights_that_were_not_copied_are_told_from_weights_that_never_were(run: Run) -> None:
    run.mark_started()
    run.log({"images": 30})
    with pytest.raises(
        LeafwingError, match="has no weights: its training ended before the first checkpoint, after 30 images"
    ):
        run.load_weights(game())
    save(run, 100)
    run.log({"images": 100})
    next(iter(run.weights().values())).unlink()
    for name in ("", "resume.pt"):
        (run.folder / name).unlink() if name else None
        with pytest.raises(
            LeafwingError, match=r"has no weights file .* but was trained on 100 images: the folder is incomplete"
        ):
            run.load_weights(game())
    (run.folder / "log.jsonl").unlink()
    with pytest.raises(LeafwingError, match="and no log of its training: the folder is incomplete"):
        run.load_weights(game())


def test_missing_weights_are_an_error_that_lists_the_existing_ones(run: Run) -> None:
    save(run, 100)
    save(run, 200)
    with pytest.raises(LeafwingError, match=r"no checkpoint at 1,500 images; available: 100, 200"):
        run.load_weights(game(), 1500)


def test_an_older_checkpoint_can_be_loaded(run: Run) -> None:
    save(run, 100)
    save(run, 200)
    fresh = game(0.0)
    assert run.load_weights(fresh, 100) == 100
    assert fresh.modules()["D"].seen.item() == 100


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-5], lambda data: data[:20], lambda data: b"x" * len(data)]
)
def test_damaged_weights_name_the_file_and_change_nothing(run: Run, damage: Any) -> None:
    path = save(run, 100)
    path.write_bytes(damage(path.read_bytes()))
    fresh = game(3.0)
    with pytest.raises(LeafwingError, match=r"weights-000000100\.safetensors is damaged"):
        run.load_weights(fresh)
    assert torch.equal(fresh.modules()["G"].weight, torch.full((3,), 3.0))


def test_weights_of_other_networks_are_rejected(run: Run) -> None:
    save(run, 100)
    for other in (game(1.0, size=4), Game({"G": Player(Small(1.0))}, [], Abilities())):
        with pytest.raises(LeafwingError, match="does not fit the networks of recipe dcgan with this run's options"):
            run.load_weights(other)


def test_a_damaged_state_names_the_file(run: Run) -> None:
    save(run, 100)
    (run.folder / "resume.pt").write_bytes(b"PK nothing")
    with pytest.raises(LeafwingError, match=r"resume\.pt cannot be read"):
        run.resume_state()


class Bomb:
    """An object that executes code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_reading_the_state_executes_nothing(run: Run, tmp_path: Path) -> None:
    torch.save({"images": 1, "bomb": Bomb(tmp_path / "ran")}, run.folder / "resume.pt")
    with pytest.raises(LeafwingError, match=r"resume\.pt cannot be read"):
        run.resume_state()
    assert not (tmp_path / "ran").exists()
