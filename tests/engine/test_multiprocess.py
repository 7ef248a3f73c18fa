"""Training runs in two processes, as a user starts them: equal to one process, killed in the middle, resumed with one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import leafwing
from leafwing.runs import Run

LEAFWING = [sys.executable, "-m", "leafwing"]
TINY = ["--width", "8", "--max-width", "16", "--batch", "16", "--precision", "fp32", "--threads", "1", "--ema", "64"]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **variables}


def run_leafwing(words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LEAFWING, *words], env=environment(**variables), capture_output=True, text=True, timeout=120)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(list(Run(folder).weights().values())[-1])


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    whole = {k: torch.cat([t[k].double().flatten() for t in (a, b)]) for k in a}
    return max((x[: len(x) // 2] - x[len(x) // 2 :]).norm().item() / (x.norm().item() + 1e-9) for x in whole.values())


def losses(folder: Path) -> list[dict[str, float]]:
    return [record["losses"] for record in Run(folder).records()]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Half of the batch each, without batch statistics: the weights of one process with the whole batch, up to rounding."""
    words = ["digits", "--recipe", "wgan_gp", "--images", "160", "--log-every", "16", *TINY]
    one = run_leafwing(["train", *words, "--out", str(tmp_path / "one")])
    two = run_leafwing(["train", *words, "--devices", "2", "--out", str(tmp_path / "two"), "--json"])
    assert one.returncode == two.returncode == 0, two.stderr
    result = json.loads(two.stdout)  # one document: the second process prints nothing
    assert result["images"] == 160
    assert distance(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-4
    for a, b in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-5)

    # A run of two processes is resumed by one, and sampled by two.
    run = leafwing.resume(tmp_path / "two", images="+32")
    assert run.stop_reason == "images"
    alone = run_leafwing(["sample", str(run.folder), "-n", "130", "--npz", "--out", str(tmp_path / "alone.npz")])
    shared = run_leafwing(
        ["sample", str(run.folder), "-n", "130", "--npz", "--devices", "2", "--out", str(tmp_path / "shared.npz")]
    )
    assert alone.returncode == shared.returncode == 0, shared.stderr
    left, right = np.load(tmp_path / "alone.npz")["samples"], np.load(tmp_path / "shared.npz")["samples"]
    assert left.shape == (130, 32, 32, 1)
    assert np.array_equal(left, right)


@pytest.mark.slow  # starts several processes
def test_early_stopping_is_the_same_in_two_processes(tmp_path: Path) -> None:
    words = ["ring", "--recipe", "lsgan", "--images", "960", "--log-every", "32", "--save-every", "64", "--batch", "16"]
    words += ["--threads", "1", "--lr-g", "1e-30", "--stop-on", "modes.kl", "--patience", "2", "--json"]
    one = run_leafwing(["train", *words, "--out", str(tmp_path / "one")])
    two = run_leafwing(["train", *words, "--devices", "2", "--out", str(tmp_path / "two")])
    assert one.returncode == two.returncode == 0, two.stderr
    results = [json.loads(process.stdout) for process in (one, two)]
    assert [(result["stop_reason"], result["images"]) for result in results] == 2 * [("no_improvement", 192)], (
        "G does not move"
    )
    best = [Run(tmp_path / name).history.best for name in ("one", "two")]
    assert best[0] == best[1]
    assert best[0] is not None
    assert best[0].images == 64


@pytest.mark.slow  # starts several processes
def test_batch_statistics_are_shared(tmp_path: Path) -> None:
    """With batch normalisation over both processes the losses agree to 1 in 1,000 over ten rounds."""
    words = ["digits", "--recipe", "cgan", "--images", "160", "--log-every", "16", *TINY]
    one = run_leafwing(["train", *words, "--out", str(tmp_path / "one")])
    two = run_leafwing(["train", *words, "--devices", "2", "--out", str(tmp_path / "two")])
    assert one.returncode == two.returncode == 0, two.stderr
    for a, b in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert b == pytest.approx(a, rel=1e-3, abs=1e-3)


@pytest.mark.slow  # starts several processes
def test_when_one_process_is_killed_the_other_stops_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [
        "train",
        "digits",
        "--images",
        "1M",
        "--save-every",
        "64",
        "--log-every",
        "64",
        *TINY,
        "--out",
        str(tmp_path / "run"),
    ]
    log = tmp_path / "log"
    processes = []
    for rank in ("0", "1"):
        variables = environment(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        with log.open("w") if rank == "0" else open(os.devnull, "w") as output:
            processes.append(subprocess.Popen([*LEAFWING, *words], env=variables, stdout=output, stderr=output))
    try:
        limit = time.monotonic() + 60
        while len(list((tmp_path / "run").glob("weights-*.safetensors"))) < 2:  # so the first checkpoint is complete
            assert time.monotonic() < limit, log.read_text()
            assert [process.poll() for process in processes] == [None, None], log.read_text()
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGKILL)
        assert processes[0].wait(timeout=30) == 5, log.read_text()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert "process 1 of 2 (or its machine) is gone; this training stops here" in log.read_text()
    assert "leafwing resume" in log.read_text()
    assert "Traceback" not in log.read_text()
    state = Run(tmp_path / "run").resume_state()
    assert state is not None
    resumed = leafwing.resume(tmp_path / "run", images=state["images"] + 32)
    assert resumed.stop_reason == "images"


@pytest.mark.slow  # starts several processes
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "digits", "--devices", "2", "--batch", "7"], "a batch of 7 cannot be shared by 2 processes"),
        (["train", "nosuchfolder", "--devices", "2"], "nosuchfolder"),
        (["train", "digits", "--devices", "0"], "--devices 0: must be at least 1"),
        (["train", "digits", "--devices=-2"], "--devices -2: must be at least 1"),
    ],
)
def test_errors_are_printed_once(words: list[str], message: str, tmp_path: Path) -> None:
    process = run_leafwing([*words, "--out", str(tmp_path / "run")])
    assert process.returncode == 2, process.stderr
    assert process.stderr.count(message) == 1
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "run").exists()


POOLED = '''"""A game whose discriminator sees earlier fakes, of which each process has its own."""

import torch
from torch import nn

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player, Round
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating


class Pool(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.register_buffer("samples", torch.zeros(8, *shape))

    def forward(self, x):
        earlier = self.samples[: len(x)].clone()
        self.samples.copy_(torch.cat([self.samples[len(x) :], x.detach()]))
        return earlier


def pooled(data: DataSpec, *, batch: int = 8) -> Game:
    """A pool of fakes.

    Args:
        batch: batch size.
    """
    z = priors.Normal(4)

    def play(nets, batch, clock):
        fake = nets.G(z(batch.n))
        return Round(nets, batch.image, fake, nets.D, judge_fake=lambda x: nets.D(x + nets.P(x)), clock=clock)

    players = {
        "G": Player(networks.generator(data, 4, 4, norm="none", max_width=8), Adam(1e-3)),
        "D": Player(networks.critic(data, 4, norm="none", max_width=8), Adam(1e-3)),
        "P": Player(Pool(data.shape)),
    }
    return Game(players, duel(play, non_saturating), generating(z), batch)
'''


@pytest.mark.slow  # starts several processes
def test_buffers_that_differ_between_processes_are_restored(tmp_path: Path) -> None:
    """Each process has its own history of samples, and only the first one writes the weights."""
    (tmp_path / "pooled.py").write_text(POOLED, encoding="utf-8")
    words = [
        "train",
        "digits",
        "--recipe",
        str(tmp_path / "pooled.py"),
        "--size",
        "16",
        "--log-every",
        "16",
        "--save-every",
        "32",
    ]
    words += ["--devices", "2", "--threads", "1", "--precision", "fp32"]
    whole = run_leafwing([*words, "--images", "64", "--out", str(tmp_path / "whole")])
    part = run_leafwing([*words, "--images", "32", "--out", str(tmp_path / "part")])
    assert whole.returncode == part.returncode == 0, part.stderr
    state = Run(tmp_path / "part").resume_state()
    assert state is not None
    assert state["local"].keys() == {"P:samples"}
    first, second = state["local"]["P:samples"]
    assert not torch.equal(first, second)
    resume = ["resume", str(tmp_path / "part"), "--images", "64", "--devices", "2", "--trust"]
    resumed = run_leafwing(resume)
    assert resumed.returncode == 0, resumed.stderr
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "part")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert losses(tmp_path / "whole") == losses(tmp_path / "part")
    alone = leafwing.resume(tmp_path / "part", images="+16", trust=True)
    assert alone.stop_reason == "images", "another number of processes continues with the history of the first"
