"""Rebuilding a run executes its recipe only if it is installed or trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bare_run import SPEC, config, create
from leafwing import recipes
from leafwing.errors import LeafwingError
from leafwing.model import Model
from leafwing.runs import Run, UntrustedRecipe


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create(tmp_path / "run")


def trained(run: Run) -> Run:
    torch.manual_seed(0)
    run.save_checkpoint(run.build_game(), {"images": 50}, last=1, milestone=0)
    return run


def test_an_installed_recipe_needs_no_trust(tmp_path: Path) -> None:
    folder = trained(create(tmp_path / "r")).folder
    opened = Run(folder)
    assert opened.recipe_is_installed()
    assert opened.recipe_function() is recipes.find("dcgan")
    model = Model.load(folder)
    assert model.images == 50
    assert model.sample(2).shape == (2, 3, 16, 16)
    assert not any(weight.requires_grad for weight in model.game.players["G"].net.parameters())


def test_line_endings_do_not_make_a_recipe_untrusted(run: Run) -> None:
    path = run.folder / "recipe.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert Run(run.folder).recipe_is_installed()


def test_a_changed_recipe_is_shown_and_not_executed(tmp_path: Path) -> None:
    run = trained(create(tmp_path / "r"))
    path = run.folder / "recipe.py"
    path.write_text(path.read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'w').close()  # mischief\n")
    for use in (Run(run.folder).recipe_function, Run(run.folder).build_game, lambda: Model.load(run.folder)):
        with pytest.raises(
            UntrustedRecipe, match=r"# mischief\n(.|\n)*recipe\.py \(above\) is not an installed recipe.*--trust"
        ):
            use()
    Run(run.folder).records()
    assert not (tmp_path / "ran").exists()
    assert Model.load(run.folder, trust=True).sample(1).shape == (1, 3, 16, 16)
    assert (tmp_path / "ran").exists()


def test_a_recipe_with_the_name_of_an_installed_one_is_not_trusted(tmp_path: Path) -> None:
    own = tmp_path / "dcgan.py"
    own.write_text("def dcgan(data):\n    return 'mine'\n")
    run = Run.create(config(), own, out=tmp_path / "r")
    assert not run.recipe_is_installed()
    with pytest.raises(UntrustedRecipe):
        Run(run.folder).recipe_function()
    assert Run(run.folder, trust=True).recipe_function()(None) == "mine"  # type: ignore[comparison-overlap]


def test_a_run_of_a_custom_recipe_is_rebuilt_from_its_folder_alone(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from leafwing.game import Abilities, Game\n"
        "def mine(data, *, size: int = 3):\n    return Game({'data': data}, [], Abilities(), batch=size)\n"
    )
    run = Run.create(config("mine", options={"size": 5}), own, out=tmp_path / "r")
    own.unlink()
    game = Run(run.folder, trust=True).build_game()
    assert (game.players["data"], game.batch) == (SPEC, 5)


def test_a_custom_recipe_may_contain_dataclasses_postponed_annotations_and_its_path(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
        "HERE = Path(__file__).parent\n@dataclass\nclass Box:\n    size: int = 3\n"
    )
    own.write_text(text + "def mine(data):\n    return Box().size, HERE\n")
    assert recipes.find(str(own))(SPEC) == (3, tmp_path)  # it trains
    run = Run.create(config("mine", options={}), own, out=tmp_path / "r")
    assert Run(run.folder, trust=True).recipe_function()(SPEC) == (3, run.folder)


def test_a_missing_recipe_is_named(run: Run) -> None:
    (run.folder / "recipe.py").unlink()
    with pytest.raises(LeafwingError, match=r"run has no recipe\.py"):
        Run(run.folder).recipe_function()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0\n", "cannot be imported: ZeroDivisionError"),
        ("def other(): ...\n", "no function dcgan"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_trusted_recipe_that_is_broken_is_named(run: Run, text: str, message: str) -> None:
    (run.folder / "recipe.py").write_text(text)
    with pytest.raises(LeafwingError, match=rf"recipe\.py .*{message}"):
        Run(run.folder, trust=True).recipe_function()


def test_a_recipe_identical_to_the_installed_one_is_not_executed(run: Run) -> None:
    assert Run(run.folder, trust=True).recipe_function() is recipes.find("dcgan")


def test_loading_by_name_and_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = trained(create())
    torch.manual_seed(1)
    run.save_checkpoint(run.build_game(), {"images": 90}, last=2, milestone=0)
    assert Model.load("1").images == Model.load("last").images == Model.load(run.name).images == 90
    assert Model.load(run, checkpoint=50).images == 50
    assert not torch.equal(Model.load("1", checkpoint=50).sample(1), Model.load("1").sample(1))
    with pytest.raises(LeafwingError, match="no checkpoint at 70 images; available: 50, 90"):
        Model.load("1", checkpoint=70)
