"""Recipes are described from their source text, without running it and without torch; invalid ones are refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from leafwing import recipes
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.parts import priors
from leafwing.recipes import Card, Option

NAMES = recipes.names()

GOOD = '''"""Mine. Ant & Bee 2031, A Title: with a colon, arXiv:3101.00001

What it is,
in one line.

More that nobody needs at once.
"""

from typing import Literal


def mine(
    data,
    *,
    lr_g: float = 1e-3,
    tilt: int = -3,
    loud: bool = False,
    prior: str = "normal",
    mode: Literal["up", "down"] = "up",
    half: float = 1,
):
    """Does it.

    Args:
        lr_g: a rate
            over two lines.
        tilt: a tilt: with a colon.
        loud: or not.
        prior: text.
        mode: which way.
        half: of it.

    Returns:
        tilt: no option.
    """
    return data, lr_g, tilt, loud, prior, mode, half
'''


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_all_recipes_are_found_and_helpers_are_not() -> None:
    assert recipes.DEFAULT in NAMES
    assert not any(name.startswith("_") for name in NAMES)
    assert sorted(NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_names_title_authors_year_and_paper(name: str) -> None:
    card = recipes.describe(name)
    assert re.fullmatch(r"[\w-]+", card.title)
    assert re.search(r"[A-Z]\w+", card.authors)
    assert 2014 <= card.year <= 2100
    assert re.fullmatch(r".{10,}, arXiv:\d{4}\.\d{4,5}", card.paper)
    assert card.line.endswith(".")
    assert 30 < len(card.line) < 200
    assert card.title.lower().replace("-", "_").replace("_", "") in {
        name.replace("_", ""), name.split("_")[0], "".join(reversed(name.split("_"))),
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_help_text_and_a_valid_default(name: str) -> None:
    card = recipes.describe(name)
    assert card.options
    for option in card.options:
        assert option.help.endswith("."), option.name
        assert option.check(name, option.default) == option.default
        assert type(option.default) is option.type
    assert list(card.resolve({})) == [option.name for option in card.options]


@pytest.mark.parametrize("name", NAMES)
def test_the_card_equals_the_signature(name: str) -> None:
    import inspect

    signature = inspect.signature(recipes.find(name))
    parameters = list(signature.parameters.values())
    assert parameters[0].name == "data"
    assert {p.name: p.default for p in parameters[1:]} == {o.name: o.default for o in recipes.describe(name).options}
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[1:])


def test_the_fields_that_a_recipe_asks_for_are_read_from_its_text(tmp_path: Path) -> None:
    assert recipes.describe("pix2pix").needs == ("image", "input")
    assert recipes.describe("gan").needs == ()
    path = tmp_path / "mine.py"
    path.write_text('def mine(data, *, a: int = 1):\n    data.need("mine", unpaired=["input"], input=None, box=None)\n')
    assert recipes.describe(str(path)).needs == ("input", "box")


def test_points_have_other_defaults(tmp_path: Path) -> None:
    card = recipes.describe(
        write(tmp_path, GOOD.replace("\n\ndef mine", '\n\nPOINTS = {"lr_g": 1, "tilt": 4}\n\n\ndef mine'))
    )
    assert card.points == {"lr_g": 1.0, "tilt": 4}
    assert {option.name: option.help for option in card.options}["tilt"] == "a tilt: with a colon. For points: 4."
    assert card.resolve({})["lr_g"] == 1e-3
    assert card.resolve({}, points=True) == {**card.resolve({}), "lr_g": 1.0, "tilt": 4}
    assert card.resolve({"tilt": 5}, points=True)["tilt"] == 5
    annotated = GOOD.replace("\n\ndef mine", '\n\nPOINTS: dict[str, int] = {"tilt": 4}\n\n\ndef mine')
    assert recipes.describe(write(tmp_path, annotated)).points == {"tilt": 4}
    assert recipes.describe(write(tmp_path, GOOD)).points == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"lr": 1}', "has no option 'lr'; did you mean lr_g"),
        ('{"lr_g": "fast"}', "lr_g='fast': must be a number"),
        ('{"tilt": len("x")}', "POINTS must be"),
        ("7", "POINTS must be"),
    ],
)
def test_bad_defaults_for_points_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        recipes.describe(write(tmp_path, GOOD.replace("\n\ndef mine", f"\n\nPOINTS = {text}\n\n\ndef mine")))


def test_one_name_means_one_type_everywhere() -> None:
    kinds: dict[str, set[type]] = {}
    for card in recipes.catalogue():
        for option in card.options:
            kinds.setdefault(option.name, set()).add(option.type)
    assert {name: types for name, types in kinds.items() if len(types) > 1} == {}


def test_the_catalogue_is_in_order_of_years() -> None:
    years = [card.year for card in recipes.catalogue()]
    assert years == sorted(years)
    assert len(years) == len(NAMES)


def test_describing_all_recipes_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import json, sys; from leafwing import recipes; cards = recipes.catalogue();"
        "heavy = [name for name in ('torch', 'numpy', 'PIL', 'sklearn') if name in sys.modules];"
        "ran = [name for name in sys.modules if name.startswith('leafwing.recipes.')];"
        "print(json.dumps([len(cards), heavy, ran]))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(process.stdout) == [len(NAMES), [], []]


# --- one option ------------------------------------------------------------------------------------------------------------

INT = Option("some", int, 3, "")
FLOAT = Option("other", float, 0.5, "")
BOOL = Option("yes", bool, False, "")
TEXT = Option("text", str, "a", "")
CHOICE = Option("way", str, "up", "", ("up", "down"))


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        (INT, "7", 7),
        (INT, 7, 7),
        (INT, 7.0, 7),
        (INT, "-2", -2),
        (INT, "1e3", 1000),
        (FLOAT, "0.25", 0.25),
        (FLOAT, "1e-4", 1e-4),
        (FLOAT, 2, 2.0),
        (FLOAT, "-1", -1.0),
        (BOOL, "true", True),
        (BOOL, "False", False),
        (BOOL, True, True),
        (BOOL, False, False),
        (TEXT, "anything", "anything"),
        (CHOICE, "down", "down"),
    ],
)
def test_values_are_read_by_type_also_from_text(option: Option, text: object, value: object) -> None:
    result = option.check("mine", text)
    assert result == value
    assert type(result) is option.type


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        (INT, "3.5", "integer"),
        (INT, 3.5, "integer"),
        (INT, "three", "a number"),
        (INT, "", "a number"),
        (INT, True, "a number"),
        (INT, None, "a number"),
        (FLOAT, "nan", "a finite number"),
        (FLOAT, "inf", "a finite number"),
        (FLOAT, float("-inf"), "a finite number"),
        (INT, "inf", "a finite number"),
        (FLOAT, "0,5", "a number"),
        (FLOAT, False, "a number"),
        (BOOL, "0.5", "true or false"),
        (BOOL, 1, "true or false"),
        (BOOL, "yes", "true or false"),
        (CHOICE, "left", "choose from up, down"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(option: Option, text: object, message: str) -> None:
    with pytest.raises(LeafwingError, match=message) as caught:
        option.check("mine", text)
    assert f"recipe mine: {option.name}={text!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "refused", "allowed"),
    [
        ("latent", 0, 1),
        ("width", -1, 1),
        ("batch", 0, 1),
        ("n_critic", 0, 1),
        ("burst_first", -1, 0),
        ("ema", -1, 0),
        ("lr_g", 0, 1e-12),
        ("lr_d", -1e-4, 1e-4),
        ("clip", 0, 1e-3),
        ("penalty", -0.1, 0),
        ("gamma", -1, 0),
        ("beta1", 1, 0.999),
        ("beta2", 1.5, 0),
        ("dropout", 1, 0),
        ("momentum", -0.1, 0.99),
        ("smooth", 1.2, 1),
        ("soft", 2, 1),
        ("content", -1, 0),
        ("rebuild", -0.5, 0),
        ("mixed", 0, 1),
    ],
)
def test_an_option_has_the_same_bounds_in_every_recipe(name: str, refused: float, allowed: float) -> None:
    for card in recipes.catalogue():
        for option in card.options:
            if option.name == name:
                assert option.check(card.name, allowed) == allowed
                with pytest.raises(LeafwingError, match=f"{name}=.*must be"):
                    option.check(card.name, refused)


GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "recipes.md"
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in GUIDE.read_text(encoding="utf-8")
    .partition("\n## Networks, optimisers, sources\n")[2]
    .partition("\n## ")[0]
    .splitlines()
    if line.startswith("| `")
]


def test_the_table_of_networks_has_every_recipe() -> None:
    assert sorted(row[0].strip("`") for row in ROWS) == recipes.names()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_the_guide_has_the_defaults_of_a_recipe(row: list[str]) -> None:
    name, _, optimiser, updates, batch, latent, *_ = row
    defaults = {option.name: option.default for option in recipes.describe(name.strip("`")).options}
    assert int(batch.split()[0]) == defaults["batch"]
    if "latent" in defaults:
        assert int(latent.split(",")[0]) == defaults["latent"]
    else:
        assert latent.startswith("none")
    if "per" not in updates:
        assert int(updates.split(",")[0]) == defaults.get("n_critic", 1)
    found = re.findall(r"(?:(\b[GD]) )?(\d(?:\.\d+)?e-\d|0\.\d+)", optimiser.split("β")[0])
    rates = {part: float(rate) for part, rate in reversed(found)}  # the first of each
    assert rates.pop("G", rates.get("")) == defaults["lr_g"], rates
    assert rates.get("D", rates.get("", defaults["lr_d"])) == defaults["lr_d"], rates
    if beta := re.search(r"β₁? (0(?:\.\d+)?)", optimiser):
        assert float(beta[1]) == defaults.get("beta1", float(beta[1]))


@pytest.mark.parametrize(("name", "most"), [("width", 65_536), ("n_critic", 10_000), ("packing", 1_000), ("batch", 2**30)])
def test_whole_numbers_have_a_largest_value(name: str, most: int) -> None:
    option = next(option for card in recipes.catalogue() for option in card.options if option.name == name)
    assert option.check("mine", most) == most
    with pytest.raises(LeafwingError, match=f"at most {most:,}"):
        option.check("mine", most + 1)


def test_the_largest_widths_are_powers_of_two_by_default() -> None:
    """Layers double their widths up to it."""
    options = [(card.name, option) for card in recipes.catalogue() for option in card.options]
    widths = [(name, option.name, int(option.default)) for name, option in options if option.name == "max_width"]
    assert widths
    assert not [entry for entry in widths if entry[2] & (entry[2] - 1)]


def test_every_name_with_bounds_is_an_option_and_others_have_none() -> None:
    names = {option.name for card in recipes.catalogue() for option in card.options}
    assert names >= recipes.BOUNDS.keys() | recipes.BELOW_ONE | recipes.SHARES
    assert Option("anything_else", float, 0.0, "").check("mine", -7) == -7


def test_only_installed_recipes_and_copies_of_them_have_these_bounds(tmp_path: Path) -> None:
    text = "def mine(data, *, feature_matching: float = 10.0, margin: float = 0.0, width: int = 100_000): ..."
    assert recipes.describe(write(tmp_path, text)).resolve({"margin": -1})["margin"] == -1
    (tmp_path / "recipe.py").write_bytes(recipes.locate("gan").read_bytes())
    with pytest.raises(LeafwingError, match="lr_g=0: must be greater than 0"):
        recipes.describe(str(tmp_path / "recipe.py"), "gan").resolve({"lr_g": 0})


def test_the_targets_of_least_squares_are_numbers_not_booleans() -> None:
    """A well-known implementation declared them as booleans: its --c 0.5 was True."""
    resolved = recipes.describe("lsgan").resolve({"a": "-1", "c": "0.5"})
    assert (resolved["a"], resolved["b"], resolved["c"]) == (-1.0, 1.0, 0.5)


def test_an_unknown_option_is_reported_with_the_nearest_and_all() -> None:
    with pytest.raises(
        LeafwingError, match=r"recipe wgan_gp has no option 'n_critics'; did you mean n_critic\? [Aa]vailable: .*penalty"
    ):
        recipes.describe("wgan_gp").resolve({"n_critics": 3})


def test_given_values_join_the_defaults() -> None:
    resolved = recipes.describe("wgan_gp").resolve({"penalty": "0.1"})
    assert resolved["penalty"] == 0.1
    assert resolved["n_critic"] == 5


# --- finding ----------------------------------------------------------------------------------------------------------------


def test_an_unknown_recipe_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(
        LeafwingError, match=r"no recipe 'wgangp'; did you mean wgan_gp\? [Aa]vailable: .*dcgan.*path of a \.py file"
    ):
        recipes.locate("wgangp")


def test_nothing_near_is_answered_with_all() -> None:
    with pytest.raises(LeafwingError, match="no recipe 'zzzz'; available: "):
        recipes.locate("zzzz")


def test_a_recipe_by_path_is_described_by_its_text(tmp_path: Path) -> None:
    card = recipes.describe(write(tmp_path, GOOD))
    assert (card.name, card.title, card.authors, card.year) == ("mine", "Mine", "Ant & Bee", 2031)
    assert card.paper == "A Title: with a colon, arXiv:3101.00001"
    assert card.line == "What it is, in one line."
    assert card.options == (
        Option("lr_g", float, 1e-3, "a rate over two lines.", bounded=False),
        Option("tilt", int, -3, "a tilt: with a colon.", bounded=False),
        Option("loud", bool, False, "or not.", bounded=False),
        Option("prior", str, "normal", "text.", bounded=False),
        Option("mode", str, "up", "which way.", ("up", "down"), bounded=False),
        Option("half", float, 1.0, "of it.", bounded=False),
    )


def test_a_recipe_by_path_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD)
    assert recipes.find(path)("data", lr_g=0.5)[:2] == ("data", 0.5)
    monkeypatch.chdir(tmp_path)
    assert recipes.find("mine.py")("data")[0] == "data"
    assert recipes.find("./mine.py")("data")[0] == "data"


def test_a_recipe_by_path_with_dataclasses_and_postponed_annotations_runs(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Box:\n    size: int = 3\n"
    )
    assert recipes.find(write(tmp_path, text + "def mine(data):\n    return Box().size\n"))("data") == 3


def test_a_changed_recipe_file_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path, "def mine(data):\n    return 1\n")
    assert recipes.find(path)(None) == 1
    write(tmp_path, "def mine(data):\n    return 2\n")
    assert recipes.find(path)(None) == 2


def test_describing_never_runs_the_file(tmp_path: Path) -> None:
    effect = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    path = write(tmp_path, GOOD + "\n" + effect)
    recipes.describe(path).resolve({"lr_g": "1"})
    recipes.digest(Path(path))
    assert not (tmp_path / "ran").exists()
    recipes.find(path)
    assert (tmp_path / "ran").exists()


def test_a_malformed_recipe_is_not_even_run_when_it_is_asked_for(tmp_path: Path) -> None:
    effect = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    with pytest.raises(LeafwingError):
        recipes.find(write(tmp_path, effect + "def mine(data, *, lr_g=1.0): ...\n"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def mine(data:", "not valid Python"),
        ("x = '\0'", "not valid Python"),
        ("", r"defines no function mine\(data"),
        ("def other(data): ...", "defines no function mine"),
        ("mine = lambda data: None", "defines no function mine"),
        ("def mine(data, *, lr_g=1.0): ...", "option 'lr_g' needs a type and a default"),
        ("def mine(data, *, lr_g: float): ...", "option 'lr_g' needs a type and a default"),
        ("def mine(data, *, lr_g: float = 2 * RATE): ...", "option 'lr_g': its default must be"),
        ("def mine(data, *, lr_g: float = f()): ...", "option 'lr_g': its default must be"),
        (
            "def mine(data, *, sizes: list[int] = 3): ...",
            "option 'sizes': its type must be bool, int, float, str or a Literal",
        ),
        ("def mine(data, *, lr_g: float | None = 1.0): ...", "option 'lr_g': its type must be"),
        ("def mine(data, *, mode: Literal[MODES] = 'a'): ...", "option 'mode': its type must be"),
        ("def mine(data, *, lr_g: float = {[]: 1}): ...", "option 'lr_g': its default must be"),
        ("def mine(data, *, k: str = None): ...", "option 'k': its default must be of its type, str: None is"),
        ("def mine(data, *, k: int = True): ...", "option 'k': its default must be of its type, int: True is"),
        ("def mine(data, *, k: Literal[1, 2] = 1): ...", "option 'k': its type must be"),
        ("def mine(data, *, sources: int = 1): ...", "option 'sources': this name is reserved"),
        ("def mine(data, lr_g: float = 1.0): ...", "lr_g"),
    ],
)
def test_a_malformed_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LeafwingError, match=message) as caught:
        recipes.describe(write(tmp_path, text))
    assert "mine.py" in str(caught.value)


@pytest.mark.parametrize(
    "option",
    ["lr_g: float = None", "lr_g: float = 'fast'", "n: int = 2.5", "mode: Literal['a', 'b'] = 'c'", "loud: bool = 3"],
)
def test_a_default_that_does_not_fit_its_type_is_refused_before_anything_runs(tmp_path: Path, option: str) -> None:
    with pytest.raises(LeafwingError, match=f"mine.*{option.partition(':')[0]}"):
        recipes.describe(write(tmp_path, f"def mine(data, *, {option}): ...")).resolve({})


def test_choices_may_be_imported_in_either_way(tmp_path: Path) -> None:
    (option,) = recipes.describe(write(tmp_path, "def mine(data, *, mode: typing.Literal['a', 'b'] = 'a'): ...")).options
    assert (option.type, option.choices) == (str, ("a", "b"))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"\xff\xfe\x00def")
    with pytest.raises(LeafwingError, match=r"mine\.py is not valid Python"):
        recipes.describe(str(tmp_path / "mine.py"))


def test_a_missing_file_and_an_invalid_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"no recipe file .*gone\.py"):
        recipes.locate(str(tmp_path / "gone.py"))
    with pytest.raises(LeafwingError, match=r"my-gan\.py: the name must be a Python identifier"):
        recipes.locate(write(tmp_path, "", "my-gan.py"))


def test_a_recipe_without_a_citation_is_still_described(tmp_path: Path) -> None:
    card = recipes.describe(write(tmp_path, '"""My own.\n\nA try."""\ndef mine(data): ...\n'))
    assert (card.title, card.year, card.line, card.options) == ("mine", 0, "A try.", ())
    assert isinstance(card, Card)


def test_a_recipe_that_fails_on_import_says_so_and_leaves_no_module_behind(tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(LeafwingError, match=r"mine\.py cannot be imported: ZeroDivisionError: division by zero"):
        recipes.find(write(tmp_path, "1 / 0\ndef mine(data): ...\n"))
    assert not {name for name in set(sys.modules) - before if "mine" in name}


def test_a_recipe_that_returns_no_game_is_named() -> None:
    with pytest.raises(LeafwingError, match="recipe mine returns NoneType, not a Game"):
        recipes.build("mine", lambda data: None, DataSpec.vectors(2), {})  # type: ignore[arg-type, return-value]


def test_a_recipe_that_refuses_its_options_is_named() -> None:
    def mine(data: object) -> None:
        raise ValueError("latents are odd")

    with pytest.raises(LeafwingError, match="recipe mine cannot be built with these options: latents are odd"):
        recipes.build("mine", mine, None, {})  # type: ignore[arg-type]


def test_an_error_of_a_recipe_file_is_shown_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "import torch\n\ndef mine(data):\n    return torch.nn.Linear('8', 3)\n")
    with pytest.raises(LeafwingError, match=r"recipe mine cannot be built .* \(mine\.py, line 4\)$"):
        recipes.build("mine", recipes.find(path), DataSpec.vectors(2), {})
    with pytest.raises(LeafwingError, match=r"ZeroDivisionError: .* \(mine\.py, line 2\)$"):
        recipes.find(write(tmp_path, "x = 0\n1 / x\ndef mine(data): ...\n"))


@pytest.mark.parametrize("name", [name for name in NAMES if any(o.name == "prior" for o in recipes.describe(name).options)])
def test_the_choices_of_a_prior_are_those_that_exist(name: str) -> None:
    (prior,) = (option for option in recipes.describe(name).options if option.name == "prior")
    assert set(prior.choices) == set(priors.PRIORS)
    with pytest.raises(LeafwingError, match=rf"recipe {name}: prior='cauchy'"):
        recipes.describe(name).resolve({"prior": "cauchy"})


def test_a_size_that_the_networks_cannot_have_names_the_recipe_and_the_option() -> None:
    with pytest.raises(LeafwingError, match=r"^recipe wgan_gp: --size 17x17: .*Nearest: --size 16x16$"):
        recipes.build("wgan_gp", recipes.find("wgan_gp"), DataSpec.images(17, 17), {})


def test_the_digest_ignores_only_line_ends(tmp_path: Path) -> None:
    one, other, changed = tmp_path / "1.py", tmp_path / "2.py", tmp_path / "3.py"
    one.write_bytes(b"a = 1\nb = 2\n")
    other.write_bytes(b"a = 1\r\nb = 2\r\n")
    changed.write_bytes(b"a = 1\nb = 3\n")
    assert recipes.digest(one) == recipes.digest(other) != recipes.digest(changed)


def test_the_digest_has_every_statement_but_docstrings(tmp_path: Path) -> None:
    def digest(docstring: str, first: str) -> str:
        path = tmp_path / "one.py"
        path.write_text(f'"""{docstring}"""\n{first}\n\ndef f():\n    """{docstring}"""\n    {first}\n    return b\n')
        return recipes.digest(path)

    assert digest("a", "b = 2") == digest("other", "b = 2") != digest("a", "b = 3")
