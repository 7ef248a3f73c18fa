"""Run folders of earlier versions still load, sample and continue: one from before settings had sections, one with options that have
other names now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import leafwing
from leafwing import recipes
from leafwing.runs import Run, UntrustedRecipe

OLD = Path(__file__).parent / "old_run"


def test_an_old_run_loads_samples_and_continues(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "run")
    (tmp_path / "run" / "samples").mkdir()
    run = Run(tmp_path / "run")
    assert run.recipe_is_installed(), "comments and docstrings of a recipe are not its code"
    assert (run.settings.schedule.images, run.settings.schedule.seed) == (64, 3)
    assert (run.settings.folder.save_every, run.settings.folder.grid_every, run.settings.folder.log_every) == (32, 64, 16)
    assert (run.settings.machine.device, run.settings.machine.threads) == ("cpu", 1)
    before = leafwing.Model.load(run).sample(4, seed=1)
    assert before.shape == (4, 2)
    resumed = leafwing.resume(run.folder, images="+32")
    assert list(resumed.weights()) == [64, 96]
    assert not torch.equal(leafwing.Model.load(resumed).sample(4, seed=1), before)
    assert "training" not in Run(run.folder).config, "it is written in sections now"


def test_an_old_log_is_read_by_its_present_names(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert [record["losses"].keys() for record in run.records()] == [{"D/adversarial", "G/adversarial"}] * 4
    still = {"kind": "still", "about": "the weights of G have stopped changing", "since": 48}
    signals = {"echo": 0.5, "held": 0.6, "variety": 0.9}
    with (run.folder / "log.jsonl").open("a") as log:
        log.write(json.dumps({"images": 80, "costs": {}, "round": 10, "health": signals, "alarms": [still]}) + "\n")
    run.log({"images": 96, "losses": {"D/adversarial": 1.0}})
    *_, old, new = run.records()
    assert old["health"] == {"conditional_variety": 0.5, "held_out_separation": 0.6, "variety": 0.9}
    assert old["alarms"] == [{"kind": "stagnation", "symptom": still["about"], "since": 48}]
    assert new == {"images": 96, "losses": {"D/adversarial": 1.0}}
    run.truncate_log(80)
    assert "costs" not in (run.folder / "log.jsonl").read_text()
    assert len(run.records()) == 5


def test_the_former_names_of_the_rollback_settings_are_read(tmp_path: Path) -> None:
    config = json.loads((OLD.with_name("old_run_renamed") / "run.json").read_text(encoding="utf-8"))
    config["watching"] = {"health": "roll_back", "roll_backs": 2}
    (tmp_path / "run.json").write_text(json.dumps(config), encoding="utf-8")
    shutil.copy(OLD.with_name("old_run_renamed") / "recipe.py", tmp_path)
    watching = Run(tmp_path).settings.watching
    assert (watching.health, watching.max_rollbacks) == ("rollback", 2)


def test_options_of_an_earlier_recipe_are_read_by_their_present_names(tmp_path: Path) -> None:
    shutil.copytree(OLD.with_name("old_run_renamed"), tmp_path / "run")
    (tmp_path / "run" / "samples").mkdir()
    run = Run(tmp_path / "run")
    assert run.recipe_is_installed()
    assert (run.config["options"]["packing"], run.config["options"]["max_width"]) == (3, 512)
    assert leafwing.Model.load(run).sample(4, seed=1).shape == (4, 2)
    assert list(leafwing.resume(run.folder, images="+64").weights()) == [128, 192]
    assert "together" not in json.loads((run.folder / "run.json").read_text())["options"]
    assert Run(run.folder).config["options"]["packing"] == 3
    again = leafwing.train(replay=run.folder / "run.json", images=64, out=tmp_path / "again")
    assert again.config["options"]["packing"] == 3


def test_a_changed_recipe_is_still_refused(tmp_path: Path) -> None:
    shutil.copytree(OLD.with_name("old_run_renamed"), tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.py"
    recipe.write_text(recipe.read_text().replace("together * data.channels", "together * data.channels + 0"))
    run = Run(tmp_path / "run")
    assert run.config["options"]["together"] == 3
    with pytest.raises(UntrustedRecipe):
        run.build_game()


def test_earlier_versions_name_options_that_exist() -> None:
    earlier = json.loads(recipes.EARLIER.read_text())
    assert set(earlier) <= set(recipes.names())
    for name, about in earlier.items():
        options = {option.name for option in recipes.describe(name).options}
        assert all(len(digest) == 64 for digest in about["sha256"])
        renamed = about.get("renamed", {})
        assert not options & set(renamed)
        assert set(renamed.values()) <= options


def test_an_earlier_version_without_other_names_keeps_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_is_earlier", lambda recipe, path: True)
    assert recipes.current_options("projected", Path("recipe.py"), {"width": 8}) == {"width": 8}
