"""One of several processes, for test_processes.py: python worker.py CHECK FOLDER, started as by `leafwing --devices`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from leafwing import networks, recipes
from leafwing.augment_option import parse
from leafwing.commands.session import fit_intervals
from leafwing.engine import Engine, choose
from leafwing.engine.augmentation import INTERVAL, Augmentation
from leafwing.engine.batch_norm import SharedBatchNorm, synchronise_batch_norm
from leafwing.engine.capture import CaptureBackend, Rehearsal, Work
from leafwing.engine.processes import BUCKET, Processes
from leafwing.errors import LeafwingError
from leafwing.game import Batch, Clock, DataSpec, Round
from leafwing.loop import Tick, Training
from leafwing.runs import Run

N = 8
STEP = 0.01  # seconds to sleep in each round


def convolutions(*, norm: bool) -> nn.Module:
    """Two convolutions and a linear layer, the same in every process."""
    torch.manual_seed(0)
    between = nn.BatchNorm2d(6) if norm else nn.Identity()
    after = nn.BatchNorm1d(4) if norm else nn.Identity()
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), between, nn.LeakyReLU(0.2),
        nn.Conv2d(6, 2, 3, 2), nn.Flatten(), nn.Linear(18, 4), after, nn.Linear(4, 1),
    )  # fmt: skip
    for module in net:
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    return net.to(memory_format=torch.channels_last).train()


def pictures() -> Tensor:
    """A whole batch, the same in every process; its halves have very different statistics."""
    x = torch.randn(N, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return (x * torch.linspace(0.5, 2, N).view(-1, 1, 1, 1) + torch.linspace(-1, 3, N).view(-1, 1, 1, 1)).contiguous(
        memory_format=torch.channels_last
    )


def rows(processes: Processes) -> slice:
    """The rows of the whole batch that this process computes."""
    size = N // processes.world_size
    return slice(processes.rank * size, (processes.rank + 1) * size)


def gradients(net: nn.Module) -> list[Tensor | None]:
    return [weight.grad for weight in net.parameters()]


def near(a: Tensor, b: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(a.float(), b.float(), rtol=tolerance, atol=tolerance)


# --- checks with two processes --------------------------------------------------------------------------------------------


def average_is_the_mean_of_tensors(p: Processes) -> None:
    shapes = [(3,), (2, 3, 4, 4), (BUCKET + 5,), (1,), (7, 5)]
    by_rank = [
        [torch.randn(shape, generator=torch.Generator().manual_seed(rank)) for shape in shapes]
        for rank in range(p.world_size)
    ]
    tensors: list[Tensor | None] = [tensor.clone() for tensor in by_rank[p.rank]]
    tensors[1] = tensors[1].contiguous(memory_format=torch.channels_last)
    tensors[4] = by_rank[p.rank][4].t().contiguous().t()
    tensors.insert(2, None)
    p.all_reduce_mean(tensors)
    assert tensors.pop(2) is None
    for average, a, b in zip(tensors, *by_rank, strict=True):
        assert torch.equal(average, (a + b) / 2)
    half = torch.full((3,), 1.0 + 2 * p.rank, dtype=torch.bfloat16)
    double = torch.full((3,), 1 / 3 + p.rank, dtype=torch.float64)
    p.all_reduce_mean([half])
    p.all_reduce_mean([double])
    assert half.tolist() == [2.0] * 3
    assert double.tolist() == [(1 / 3 + 4 / 3) / 2] * 3


def halves_of_a_batch_give_the_gradients_of_the_whole(p: Processes) -> None:
    net, whole, x = convolutions(norm=False), convolutions(norm=False), pictures()
    whole(x).square().mean().backward()
    net(x[rows(p)]).square().mean().backward()
    p.all_reduce_mean(gradients(net))
    for mine, theirs in zip(gradients(net), gradients(whole), strict=True):
        near(mine, theirs, 1e-6)


def batch_norm(p: Processes, tolerance: float, bf16: bool = False, frozen: bool = False) -> None:
    net, whole, x = convolutions(norm=True), convolutions(norm=True), pictures()
    names = list(net.state_dict())
    synchronise_batch_norm(net, p)
    assert list(net.state_dict()) == names
    assert sum(isinstance(module, SharedBatchNorm) for module in net) == 2
    for one in (net, whole):
        one.requires_grad_(not frozen)
    for _ in range(2):
        part, batch = x[rows(p)].clone().requires_grad_(), x.clone().requires_grad_()
        outputs = []
        for module, inputs in ((net, part), (whole, batch)):
            module.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                outputs.append(module(inputs))
            outputs[-1].float().square().mean().backward()
        assert outputs[0].dtype == outputs[1].dtype
        near(p.gather(outputs[0].detach()), outputs[1].detach(), tolerance)
        # The gradient of the local loss, a mean over half of the samples, is twice that of the global loss.
        near(p.gather(part.grad) / p.world_size, batch.grad, tolerance)
        p.all_reduce_mean(gradients(net))
        for mine, theirs in zip(gradients(net), gradients(whole), strict=True):
            assert (mine is None) == (theirs is None) == frozen
            if mine is not None:
                near(mine, theirs, tolerance)
        for mine, theirs in zip(net.buffers(), whole.buffers(), strict=True):
            near(mine, theirs, tolerance)
            assert torch.equal(p.gather(mine[None]), torch.stack([mine] * p.world_size)), "the same bits everywhere"


class CapturesNothing(Rehearsal):
    """A backend like that of CUDA, which must not be used."""

    static_outputs = True

    def capture(self, work: Work) -> Work:
        raise AssertionError("several processes communicate, which cannot be captured")


def turns_are_not_captured(p: Processes) -> None:
    """Later rounds repeated the gradients and the latents of the round of capture."""

    def weights(backend: CaptureBackend | None) -> list[Tensor]:
        torch.manual_seed(5)
        options = recipes.describe("dcgan").resolve({"width": 8, "max_width": 16, "latent": 8, "batch": 8})
        game = recipes.build("dcgan", recipes.find("dcgan"), DataSpec.images(16, 16), options)
        engine = Engine(game, choose("cpu", "fp32", 1), processes=p, capture_backend=backend)

        def batches(images: int, n: int) -> Batch:
            whole = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(images)) * 2 - 1
            return Batch(image=whole[rows(p)])

        list(Training(game, batches, engine, images=6 * game.batch, batch=game.batch).ticks(10**9))
        return [weight.detach() for weight in game.players["G"].net.parameters()]

    for mine, theirs in zip(weights(CapturesNothing()), weights(None), strict=True):
        assert torch.equal(mine, theirs)


def one_probability_of_augmentation_for_all(p: Processes) -> None:
    """It falls in both, by all images of the updates: the mean sign, .75, is below the target, although that of process 0 is above."""
    option, planned = parse("ada"), 1_000
    assert option is not None

    class Observed(Augmentation):
        def observe(self, r: Round, weight: float = 1.0) -> None:
            before = self.sign.clone()
            super().observe(r, weight)
            if self.observed:
                self.sign.copy_(before + weight * (1.0 if p.first else 0.5))

    options = recipes.describe("dcgan").resolve({"width": 8, "max_width": 16, "latent": 8, "batch": 8})
    augmentation = Observed(option, {3}, planned)
    augmentation.p.fill_(0.5)
    game = recipes.build("dcgan", recipes.find("dcgan"), DataSpec.images(16, 16), options)
    engine = Engine(game, choose("cpu", "fp32", 1), processes=p, augmentation=augmentation)
    images = pictures().repeat(1, 1, 2, 2)[rows(p)]
    images_shown = INTERVAL * game.batch
    training = Training(game, lambda images_before, n: Batch(image=images), engine, images=images_shown, batch=game.batch)
    list(training.ticks(10**9))
    assert p.gather(augmentation.p[None]).tolist() == pytest.approx([0.5 - images_shown / (planned // 2)] * 2)
    assert p.gather(augmentation.sign[None]).tolist() == [0, 0]


def batch_norm_is_that_of_the_whole_batch(p: Processes) -> None:
    batch_norm(p, 2e-6)


def batch_norm_of_a_frozen_network(p: Processes) -> None:
    batch_norm(p, 2e-6, frozen=True)


def batch_norm_in_bf16(p: Processes) -> None:
    batch_norm(p, 4e-2, bf16=True)


def batch_norm_differentiated_twice(p: Processes) -> None:
    net, whole, x = convolutions(norm=True), convolutions(norm=True), pictures()
    synchronise_batch_norm(net, p)
    for module, inputs in ((net, x[rows(p)].clone()), (whole, x)):
        inputs.requires_grad_()
        (slope,) = torch.autograd.grad(module(inputs).sigmoid().sum(), inputs, create_graph=True)
        slope.flatten(1).square().sum(1).mean().backward()
    p.all_reduce_mean(gradients(net))
    for mine, theirs in zip(gradients(net)[:-1], gradients(whole)[:-1], strict=True):
        near(mine, theirs, 1e-5)


def batch_norm_of_every_kind(p: Processes) -> None:
    torch.manual_seed(2)
    for plain, shape in (
        (nn.BatchNorm1d(5), (N, 5)),
        (nn.BatchNorm1d(5, affine=False), (N, 5, 3)),
        (nn.BatchNorm2d(5, momentum=None), (N, 5, 2, 2)),
        (nn.BatchNorm3d(5, track_running_stats=False), (N, 5, 2, 2, 2)),
    ):
        shared = nn.Sequential(type(plain)(5, plain.eps, plain.momentum, plain.affine, plain.track_running_stats))
        synchronise_batch_norm(shared, p)
        synchronise_batch_norm(shared, p)
        for seed in range(2):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3 + 1
            near(shared(x[rows(p)]), plain(x)[rows(p)], 2e-6)
        for mine, theirs in zip(shared.buffers(), plain.buffers(), strict=True):
            near(mine, theirs, 2e-6)
        if p.first:  # no exchange
            near(shared.eval()(x), plain.eval()(x), 2e-6)


def batch_norm_with_another_forward_is_an_error(p: Processes) -> None:
    class Conditional(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + 1

    with pytest.raises(LeafwingError, match="layer '1' is a Conditional"):
        synchronise_batch_norm(nn.Sequential(nn.Identity(), Conditional(3)), p)


def default_networks(p: Processes) -> None:
    """A generator step on halves of a batch, with a frozen critic, gives the weights of a step on the whole batch."""
    spec, z = DataSpec.images(16, 16, 3), torch.randn(N, 8, generator=torch.Generator().manual_seed(3))
    states = []
    for shared in (True, False):
        torch.manual_seed(4)
        G = networks.generator(spec, 8, 8, max_width=16).train()
        D = networks.critic(spec, 8, norm="batch", max_width=16).train().requires_grad_(False)
        if shared:
            synchronise_batch_norm(G, p)
            synchronise_batch_norm(D, p)
        step = torch.optim.SGD(G.parameters(), 0.1)
        nn.functional.softplus(-D(G(z[rows(p)] if shared else z))).mean().backward()
        if shared:
            p.all_reduce_mean(gradients(G))
        step.step()
        states.append({**G.state_dict(), **{f"D.{name}": value for name, value in D.state_dict().items()}})
    for name in states[1]:
        near(states[0][name], states[1][name], 1e-6)


def agree_returns_the_maximum_of_the_previous_call(p: Processes) -> None:
    numbers = {0: [0, 0, 0, 2, 0], 1: [0, 1, 0, 1, 0]}
    assert [p.agree(number) for number in numbers[p.rank]] == [0, 0, 1, 0, 2]
    assert p.agree(True) == 0
    assert p.agree(False) == 1


def agree_does_not_wait_for_the_other_process(p: Processes, folder: Path) -> None:
    """Process 1 calls `agree` only after the call of process 0 has returned, so that must not wait for process 1."""
    p.agree(0)
    p.barrier()
    returned, limit = folder / "returned", time.monotonic() + 15
    while not p.first and not returned.exists():
        assert time.monotonic() < limit, "process 0 waits for process 1"
        time.sleep(0.01)
    p.agree(1)
    if p.first:
        returned.touch()
    assert p.agree(0) == 1


def gather_keeps_the_order(p: Processes) -> None:
    local = torch.arange(6).view(2, 3) + 10 * p.rank
    assert p.gather(local).tolist() == [[0, 1, 2], [3, 4, 5], [10, 11, 12], [13, 14, 15]]
    pictures_ = pictures()
    for dtype in (torch.uint8, torch.bool, torch.bfloat16, torch.float64):
        assert torch.equal(p.gather(pictures_[rows(p)].to(dtype)), pictures_.to(dtype))


def broadcast_sends_the_value_of_process_0(p: Processes) -> None:
    value = {"folder": "runs/0001-é", "seed": 3, "list": [1.5, None, True]}
    assert p.broadcast(value if p.first else "another value") == value
    assert p.broadcast(None) is None


def the_first_process_of_a_machine_goes_first(p: Processes, folder: Path) -> None:
    with p.first_on_machine():
        if p.local == 0:
            time.sleep(0.3)
            (folder / "cache").touch()
        assert (folder / "cache").exists()


def intervals_are_those_of_the_first_process(p: Processes, folder: Path) -> None:
    """The time of process 1 says that they are still open, and its speed that they would be others."""
    run = Run(folder / "run")  # limited to 100 seconds
    p.barrier()
    fit_intervals(run, Tick(Clock(1_000, 10**6), 10.0 if p.first else 4.0, 100.0, {}, 0), p)
    assert (run.settings.folder.save_every, run.history.open_intervals) == (500, ())
    p.barrier()
    assert Run(folder / "run").settings.folder.save_every == 500


CHECKS: dict[str, Callable[..., None]] = {
    check.__name__: check
    for check in (
        average_is_the_mean_of_tensors,
        halves_of_a_batch_give_the_gradients_of_the_whole,
        batch_norm_is_that_of_the_whole_batch,
        batch_norm_of_a_frozen_network,
        batch_norm_in_bf16,
        batch_norm_differentiated_twice,
        batch_norm_of_every_kind,
        batch_norm_with_another_forward_is_an_error,
        default_networks,
        agree_returns_the_maximum_of_the_previous_call,
        agree_does_not_wait_for_the_other_process,
        gather_keeps_the_order,
        broadcast_sends_the_value_of_process_0,
        intervals_are_those_of_the_first_process,
        the_first_process_of_a_machine_goes_first,
        turns_are_not_captured,
        one_probability_of_augmentation_for_all,
    )
}


def run_checks(folder: Path) -> None:
    """Runs the checks until one fails, and writes their results to a file."""
    results: dict[str, str] = {}
    with Processes.join(20) as p:
        for name, check in CHECKS.items():
            try:
                check(p, folder) if "folder" in signature(check).parameters else check(p)
                results[name] = "passed"
            except Exception:
                results[name] = traceback.format_exc()
                raise
            finally:
                (folder / f"{p.rank}.json").write_text(json.dumps(results), encoding="utf-8")


# --- how processes end ----------------------------------------------------------------------------------------------------


def rounds(p: Processes, folder: Path, until: Callable[[int], bool] = lambda n: False) -> int:
    """Rounds like those of training, until the processes agree to stop; their number."""
    signals = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: signals.append(number))
    net, x = convolutions(norm=True), pictures()
    synchronise_batch_norm(net, p)
    n, done = 0, 0
    with p.detect_lost("Start it again"):
        while not done:
            net.zero_grad()
            net(x[rows(p)]).square().mean().backward()
            p.all_reduce_mean(gradients(net))
            n += 1
            time.sleep(STEP)
            done = p.agree(bool(signals) or until(n))
            if n == 5:
                (folder / f"{p.rank}.pid").write_text(str(os.getpid()), encoding="utf-8")
    return n


def wait_for_signal(folder: Path) -> int:
    """Runs until a signal, and writes the number of rounds to a file."""
    with Processes.join(20) as p:
        (folder / f"{p.rank}.rounds").write_text(str(rounds(p, folder)), encoding="utf-8")
    return 130


def kill(folder: Path) -> int:
    """Process 1 kills itself in a round."""

    def die(n: int) -> bool:
        if n == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    with Processes.join(60) as p:  # longer than the other process may take to notice
        return rounds(p, folder, (lambda n: False) if p.first else die)


def fail(folder: Path) -> int:
    """Process 1 raises an error while process 0 waits for it."""
    with Processes.join(20) as p:
        if not p.first:
            raise LeafwingError("no such folder: cats")
        return rounds(p, folder)


def join_repeatedly(folder: Path) -> int:
    """Three times, because torchrun keeps the addresses of the previous connection."""
    for _ in range(3):
        with Processes.join(20) as p:
            value = torch.tensor([float(p.rank)])
            p.all_reduce_mean([value])
            assert value.item() == 0.5
            p.agree(1)
    (folder / f"{p.rank}.joined").touch()
    return 0


def main() -> int:
    torch.set_num_threads(1)
    checks = {check.__name__: check for check in (run_checks, wait_for_signal, kill, fail, join_repeatedly)}
    try:
        return checks[sys.argv[1]](Path(sys.argv[2])) or 0
    except LeafwingError as error:
        print(f"worker: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
