"""Other machines: output in other encodings, Python files in the current folder, users without a home, other versions of Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leafwing import machine, recipes
from leafwing.cli.shared import as_json, is_main_process, program
from leafwing.commands.comparison.workers import CHILD
from leafwing.commands.launching import LAUNCHER, LEAFWING, environment
from leafwing.data.pack import cache_folder
from leafwing.errors import StorageError


@pytest.mark.parametrize("command", [LEAFWING, CHILD], ids=["devices", "compare"])
def test_child_processes_do_not_take_files_of_the_current_folder_for_modules(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "statistics.py").write_text("open('executed', 'w')")
    (tmp_path / "json.py").write_text("open('executed', 'w')")
    done = subprocess.run([*command, "--help"], input="{}", cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert not (tmp_path / "executed").exists(), done.stderr


def test_a_result_that_the_encoding_of_the_output_lacks_is_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "猫"
    for options, expected in (([], b"no runs in"), (["--json"], b"[]")):
        done = subprocess.run(
            [sys.executable, "-m", "leafwing", "runs", "--root", folder, *options],
            env={**os.environ, "PYTHONIOENCODING": "cp1252"},
            capture_output=True,
            timeout=120,
        )
        assert expected in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(("encoding", "text"), [("utf-8", '"猫"'), ("cp1252", r'"\u732b"')])
def test_json_has_the_characters_that_the_output_can_write(
    encoding: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "out").open("w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert as_json("猫") == text
    assert json.loads(text) == "猫"


def test_a_recipe_has_the_same_hash_in_every_version_of_python(tmp_path: Path) -> None:
    """Written by 3.11; the trees of later versions have further, empty fields."""
    file = tmp_path / "one.py"
    file.write_text(
        '"""Text."""\ndef one(a, *, b: float = 1.5):  # comment\n    """Text."""\n    return [f"{a!r} {b:.2f}", {}, not a, ()]\n'
    )
    assert recipes.digest(file).startswith("20b7df60ed2d1ad4")


def test_a_user_without_a_home_chooses_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEAFWING_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: f"~/.cache/{name}")
    with pytest.raises(StorageError, match="LEAFWING_CACHE"):
        cache_folder(None)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: os.path.abspath(name))
    assert cache_folder(None) == Path("leafwing").absolute()


def test_half_of_all_memory_is_taken_for_free_where_the_system_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, **options: (_ for _ in ()).throw(FileNotFoundError(path)))
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1_000, "SC_PAGE_SIZE": 4_096}.__getitem__, raising=False)
    assert machine.available_memory(tmp_path, tmp_path / "none") == 2_048_000
    monkeypatch.delattr(os, "sysconf")
    assert machine.available_memory(tmp_path, tmp_path / "none") is None


def test_free_memory_is_what_the_system_calls_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.read_text

    def read(path: Path, **options: str) -> str:
        return "MemTotal: 9 kB\nMemAvailable:       5 kB\n" if path.name == "meminfo" else original(path, **options)

    monkeypatch.setattr(Path, "read_text", read)
    assert machine.available_memory(tmp_path, tmp_path / "none") == 5 << 10


@pytest.mark.parametrize(
    ("world", "rank", "prints"), [("1", "1", True), ("", "", True), ("2", "0", True), ("2", "1", False)]
)
def test_the_first_of_several_processes_prints(world: str, rank: str, prints: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setenv("RANK", rank)
    assert is_main_process() is prints


def test_a_parent_process_is_watched_where_it_is_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment(2)[LAUNCHER] == str(os.getpid())
    monkeypatch.setattr("leafwing.commands.launching.os.name", "nt")
    assert LAUNCHER not in environment(2)


def test_a_path_with_spaces_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["/my drive/bin/leafwing"])
    assert program() == "'/my drive/bin/leafwing'"
    monkeypatch.setattr(sys, "argv", ["/x/__main__.py"])
    monkeypatch.setattr(sys, "executable", "/my drive/python")
    assert program() == "'/my drive/python' -m leafwing"


def test_the_commit_of_a_checkout_and_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "src" / "leafwing" / "machine.py"
    module.parent.mkdir(parents=True)
    module.write_text("one\n")
    monkeypatch.setattr(machine, "__file__", str(module))
    commit = machine.commit.__wrapped__
    assert commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit() == head
    module.write_text("two\n")
    assert commit() == f"{head}+"
