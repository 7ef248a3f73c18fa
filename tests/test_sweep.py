"""Sweeps of a named part of latents: which parts can be swept, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from leafwing import cli
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.latents import numbered_latents, sweep
from leafwing.parts.priors import Categorical, Normal, Product
from saved_run import save

PRIOR = Product({"noise": Normal(4), "category": Categorical(3), "code0": Normal(1), "single": Categorical(1)})


def test_only_one_part_changes() -> None:
    latents = numbered_latents(PRIOR, 2, 0)
    for code, values, start, expected in (
        ("category", None, 4, torch.eye(3)),
        ("code0", [-1.0, 1.0], 7, torch.tensor([[-1.0], [1.0]])),
        ("single", None, 8, torch.ones(1, 1)),
    ):
        swept = sweep(latents, PRIOR, code, values)
        columns = slice(start, start + expected.shape[1])
        assert torch.equal(swept[:, columns], expected.repeat(2, 1))
        swept[:, columns] = latents[:, columns].repeat_interleave(len(expected), 0)
        assert torch.equal(swept, latents.repeat_interleave(len(expected), 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise", "--sweep noise: a code of 4 numbers cannot be swept; available: category, code0, single"),
        ("noise=-1:1", "--sweep noise: a code of 4 numbers cannot be swept; available: category, code0, single"),
        ("code9", "no code 'code9'; did you mean code0? Available: category, code0, single"),
        ("category=0:1", "code category takes no values: it is one of 3 classes"),
        ("single=0:1", "code single takes no values: it is one of 1 classes"),
        ("code0", "code code0 needs values, as in --sweep code0=-1:1"),
        ("code0=nan:2", "--sweep code0=nan:2: write NAME=FROM:TO in finite numbers"),
        ("code0=0:inf", "--sweep code0=0:inf: write NAME=FROM:TO in finite numbers"),
        ("code0=0:1:2", "--sweep code0=0:1:2: write NAME=FROM:TO in finite numbers"),
    ],
)
def test_what_cannot_be_swept_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = 'Product({"noise": Normal(4), "category": Categorical(3), "code0": Normal(1), "single": Categorical(1)})'
    output = f'Output("image", lambda nets, inputs, clock: squares(inputs.latent), prior={prior})'
    run = save(tmp_path / "run", DataSpec.images(16, 16), output)
    assert cli.run(["sample", str(run), "-n", "2", "--sweep", text, "--trust"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (run / "outputs").exists()


def test_a_run_whose_only_part_is_noise_has_nothing_to_sweep() -> None:
    prior = Product({"noise": Normal(2)})
    with pytest.raises(LeafwingError, match=r"a code of 2 numbers cannot be swept$"):
        sweep(numbered_latents(prior, 1, 0), prior, "noise")
