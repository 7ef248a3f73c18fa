"""Several processes: their results equal those of one, and the end of one never leaves another waiting."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import worker
from torch import nn

from bare_run import create
from ending import ending
from leafwing.commands.launching import environment, launch, without_devices
from leafwing.engine.batch_norm import synchronise_batch_norm
from leafwing.engine.processes import VARIABLES, Processes, ProcessLost
from leafwing.errors import LeafwingError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")

WORKER = (sys.executable, str(Path(worker.__file__)))
LAUNCH = f"import sys; from leafwing.commands.launching import launch; sys.exit(launch(sys.argv[1:], 2, {WORKER!r}))"


@contextmanager
def started(check: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The launcher of two workers, as started by `leafwing --devices 2`; if the block fails, it is killed with its workers."""
    command = [sys.executable, "-c", LAUNCH, check, str(folder)]
    with ending(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as process:
        try:
            yield process
        except BaseException:
            for path in folder.glob("*.pid"):
                with suppress(ProcessLookupError, ValueError):
                    os.kill(int(path.read_text()), signal.SIGKILL)
            raise


def wait_for(path: Path, seconds: float = 60) -> str:
    limit = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < limit, f"no {path.name} after {seconds} seconds"
        time.sleep(0.05)
    return path.read_text()


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# --- two processes --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The results of the checks in each of two processes."""
    folder = tmp_path_factory.mktemp("checks")
    schedule = {"images": 10**6, "seed": 0, "time": 100.0}
    create(folder / "run", schedule=schedule, history={"open_intervals": ["save_every"]})
    launch(["run_checks", str(folder)], 2, WORKER)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", worker.CHECKS)
def test_checks_with_two_processes(name: str, results: list[dict[str, str]]) -> None:
    for result in results:
        assert result.get(name, "not reached") == "passed", result.get(name)


@pytest.mark.slow  # starts several processes
def test_a_killed_process_ends_the_other_within_seconds(tmp_path: Path) -> None:
    with started("kill", tmp_path) as process:
        wait_for(tmp_path / "0.pid")
        start_time = time.monotonic()
        _, errors = process.communicate(timeout=90)
    assert time.monotonic() - start_time < 30, "it waited for the timeout of 60 seconds"
    assert process.returncode == ProcessLost.exit_code == 5
    assert "worker: process 1 of 2 (or its machine) is gone; this training stops here. Start it again" in errors
    assert "SIGKILL" in errors
    assert "Traceback" not in errors


@pytest.mark.slow  # starts several processes
def test_the_first_error_is_shown_and_sets_the_exit_code(tmp_path: Path) -> None:
    with started("fail", tmp_path) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "worker: no such folder: cats\nleafwing: process 1 of 2 " in errors


@pytest.mark.slow  # starts several processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_launcher_forwards_ctrl_c_and_its_end_is_noticed(number: int, tmp_path: Path) -> None:
    with started("wait_for_signal", tmp_path) as process:
        pids = [int(wait_for(tmp_path / f"{rank}.pid")) for rank in range(2)]
        process.send_signal(number)
        rounds = [wait_for(tmp_path / f"{rank}.rounds") for rank in range(2)]
        assert rounds[0] == rounds[1]
        process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else -number)
        limit = time.monotonic() + 20
        while not all(map(has_ended, pids)) and time.monotonic() < limit:
            time.sleep(0.05)
        assert all(map(has_ended, pids))


@pytest.mark.slow  # starts several processes
def test_processes_started_by_torchrun_can_join_repeatedly(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.run([*torchrun, worker.__file__, "join_repeatedly", str(tmp_path)], capture_output=True, timeout=60)
    assert process.returncode == 0, process.stderr.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.joined", "1.joined"]


# --- one process ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_single_process_does_not_communicate(unset: pytest.MonkeyPatch) -> None:
    unset.setenv("MASTER_PORT", "29500")  # does not say how many processes there are
    net = nn.Sequential(nn.BatchNorm1d(2))
    tensor = torch.tensor([1.0, 2.0])
    with Processes.join() as p, p.detect_lost(), p.first_on_machine():
        p.all_reduce_mean([tensor, None])
        p.barrier()
        synchronise_batch_norm(net, p)
        assert not dist.is_initialized()
        assert (p.rank, p.world_size, p.local, p.first) == (0, 1, 0, True)
        p.check_divisible(7)
        assert [p.agree(1), p.agree(0), p.agree(True)] == [1, 0, 1]
        assert p.gather(tensor) is tensor
        assert p.broadcast(("any", "value")) == ("any", "value")
        assert p.device("mps") == "mps"
    assert tensor.tolist() == [1, 2]
    assert type(net[0]) is nn.BatchNorm1d


def test_one_process_started_by_torchrun_does_not_communicate(unset: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("0", "1", "0", "localhost", "29500"), strict=True):
        unset.setenv(name, value)
    with Processes.join() as p:
        assert p.world_size == 1
        assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "0"}, "RANK say.* WORLD_SIZE and LOCAL_RANK and MASTER_ADDR and MASTER_PORT is not set"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a"}, "MASTER_PORT is not set"),
        (dict.fromkeys(VARIABLES, "1") | {"WORLD_SIZE": "two"}, "must be whole numbers: .*'two'"),
        (dict.fromkeys(VARIABLES, "1") | {"RANK": "3", "WORLD_SIZE": "2"}, "RANK=3 WORLD_SIZE=2"),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "70000"},
            "port 70000",
        ),
    ],
)
def test_incomplete_or_invalid_variables(variables: dict[str, str], message: str, unset: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        unset.setenv(name, value)
    with pytest.raises(LeafwingError, match=message):
        Processes.join(2)
    assert not dist.is_initialized()


def test_the_other_processes_do_not_connect(unset: pytest.MonkeyPatch) -> None:
    for name, value in (environment(2) | {"RANK": "0", "LOCAL_RANK": "0"}).items():
        unset.setenv(name, value)
    with pytest.raises(
        LeafwingError, match=r"process 0 of 2 could not connect to the others at 127\.0\.0\.1, port \d+: .*1/2 clients"
    ):
        Processes.join(1)


def test_a_batch_must_be_divisible_by_the_number_of_processes() -> None:
    Processes(0, 4).check_divisible(12)
    with pytest.raises(LeafwingError, match="a batch of 65 cannot be shared by 4 processes: choose --batch 64"):
        Processes(0, 4).check_divisible(65)
    with pytest.raises(LeafwingError, match="a batch of 1 cannot be shared by 4 processes: choose --batch 4"):
        Processes(0, 4).check_divisible(1)


def test_devices() -> None:
    assert Processes(1, 2, 1).device("cpu") == "cpu"
    with pytest.raises(LeafwingError, match="on cpu or cuda, not on mps"):
        Processes(1, 2, 1).device("mps")
    available = torch.cuda.device_count()
    with pytest.raises(LeafwingError, match=f"this machine has {available}"):
        Processes(available, available + 2, available).device("cuda")


def test_local_errors_are_not_mistaken_for_a_lost_process() -> None:
    for text in ("mat1 and mat2 shapes cannot be multiplied", "[enforce fail at /gloo/transport/tcp/pair.cc:456] 4 vs 8"):
        with pytest.raises(RuntimeError, match=r"shapes|enforce"), Processes(0, 2).detect_lost():
            raise RuntimeError(text)
    with (
        pytest.raises(ProcessLost, match=r"one of the 3 other processes \(or its machine\) is gone"),
        Processes(0, 4).detect_lost(),
    ):
        raise RuntimeError("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:7043.")
    with pytest.raises(ProcessLost, match="process 0 of 2 does not answer"), Processes(1, 2).detect_lost():
        raise RuntimeError(
            "[/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 4000ms for recv operation to complete"
        )
    with (
        pytest.raises(ProcessLost, match=r"gone; this training stops here\. Resume"),
        Processes(1, 2).detect_lost("Resume"),
    ):
        raise dist.DistBackendError("NCCL communicator was aborted")


def test_the_command_line_of_each_process() -> None:
    words = ["train", "cats", "--devices", "2", "--seed", "3", "--devices=4", "--out", "x"]
    assert without_devices(words) == ["train", "cats", "--seed", "3", "--out", "x"]
    with pytest.raises(LeafwingError, match=r"devices='?0"):
        launch(words, 0)
