"""The FID Inception network: equal to a plain implementation of the published layers; weights from a file and a local server."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from leafwing.errors import LeafwingError
from leafwing.metrics import inception as module
from leafwing.metrics.inception import FILE, SHA256, Inception, inception

pytestmark = pytest.mark.machine

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def random() -> Inception:
    """Random weights for which no layer outputs only zeros and all statistics matter."""
    torch.manual_seed(0)
    net = Inception()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith(("running_var", "bn.weight")):
                value.uniform_(0.8, 1.2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.1)
            elif name.endswith("conv.weight"):
                value.normal_(0, (2 / value[0].numel()) ** 0.5)
    return net.eval().requires_grad_(False)


def plain(w: Weights, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The published network, layer by layer, with the names of the weight file."""

    def conv(x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0)) -> Tensor:
        x = F.conv2d(x, w[f"{name}.conv.weight"], None, stride, padding)
        statistics = (w[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics, False, 0.0, 0.001).relu()

    def average(x: Tensor) -> Tensor:
        ones = torch.ones_like(x[:1, :1])
        box = torch.ones(1, 1, 3, 3)
        sums = F.conv2d(x.flatten(0, 1)[:, None], box, padding=1).view_as(x)
        return sums / F.conv2d(ones, box, padding=1)

    def a(x: Tensor, m: str) -> Tensor:
        five = conv(conv(x, f"{m}.branch5x5_1"), f"{m}.branch5x5_2", 1, (2, 2))
        three = conv(conv(x, f"{m}.branch3x3dbl_1"), f"{m}.branch3x3dbl_2", 1, (1, 1))
        three = conv(three, f"{m}.branch3x3dbl_3", 1, (1, 1))
        return torch.cat([conv(x, f"{m}.branch1x1"), five, three, conv(average(x), f"{m}.branch_pool")], 1)

    def b(x: Tensor, m: str) -> Tensor:
        three = conv(conv(x, f"{m}.branch3x3dbl_1"), f"{m}.branch3x3dbl_2", 1, (1, 1))
        return torch.cat([conv(x, f"{m}.branch3x3", 2), conv(three, f"{m}.branch3x3dbl_3", 2), F.max_pool2d(x, 3, 2)], 1)

    def c(x: Tensor, m: str) -> Tensor:
        row, column = (0, 3), (3, 0)
        once = conv(conv(conv(x, f"{m}.branch7x7_1"), f"{m}.branch7x7_2", 1, row), f"{m}.branch7x7_3", 1, column)
        twice = conv(x, f"{m}.branch7x7dbl_1")
        for i, padding in ((2, column), (3, row), (4, column), (5, row)):
            twice = conv(twice, f"{m}.branch7x7dbl_{i}", 1, padding)
        return torch.cat([conv(x, f"{m}.branch1x1"), once, twice, conv(average(x), f"{m}.branch_pool")], 1)

    def d(x: Tensor, m: str) -> Tensor:
        three = conv(conv(x, f"{m}.branch3x3_1"), f"{m}.branch3x3_2", 2)
        seven = conv(conv(x, f"{m}.branch7x7x3_1"), f"{m}.branch7x7x3_2", 1, (0, 3))
        seven = conv(conv(seven, f"{m}.branch7x7x3_3", 1, (3, 0)), f"{m}.branch7x7x3_4", 2)
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)

    def e(x: Tensor, m: str, pooled: Tensor) -> Tensor:
        three = conv(x, f"{m}.branch3x3_1")
        twice = conv(conv(x, f"{m}.branch3x3dbl_1"), f"{m}.branch3x3dbl_2", 1, (1, 1))
        forks = [
            conv(y, f"{m}.{name}", 1, padding)
            for y, names in ((three, "branch3x3_2"), (twice, "branch3x3dbl_3"))
            for name, padding in ((f"{names}a", (0, 1)), (f"{names}b", (1, 0)))
        ]
        return torch.cat([conv(x, f"{m}.branch1x1"), *forks, conv(pooled, f"{m}.branch_pool")], 1)

    x = F.interpolate(pictures, (299, 299), mode="bilinear", align_corners=False, antialias=False)
    x = conv(conv(conv(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3"), "Conv2d_2b_3x3", 1, (1, 1))
    x = conv(conv(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
    x = F.max_pool2d(x, 3, 2)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = a(x, name)
    x = b(x, "Mixed_6a")
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = c(x, name)
    x = d(x, "Mixed_7a")
    x = e(x, "Mixed_7b", average(x))
    x = e(x, "Mixed_7c", F.max_pool2d(x, 3, 1, 1))
    assert x.shape[1:] == (2048, 8, 8)
    features = x.mean((2, 3))
    return features, features @ w["fc.weight"].t()


def test_it_is_the_published_network(random: Inception) -> None:
    """This includes average pooling without padding, the last pool, a maximum, and logits without bias."""
    pictures = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        features, logits = random(pictures)
    expected_features, expected_logits = plain(random.state_dict(), pictures)
    assert features.shape == (1, 2048)
    assert logits.shape == (1, 1008)
    assert features.std() > 0.01, "the outputs are too small to compare"
    assert torch.allclose(features, expected_features, rtol=1e-3, atol=1e-4 * float(expected_features.abs().max()))
    assert torch.allclose(logits, expected_logits, rtol=1e-3, atol=1e-4 * float(expected_logits.abs().max()))


def test_its_keys_match_the_public_file(random: Inception) -> None:
    """The file has 566 tensors: six for each of 94 convolutions, and two of the classifier."""
    shapes = {name: tuple(value.shape) for name, value in random.state_dict().items()}
    assert len(shapes) == 566
    assert {name.rpartition(".")[2] for name in shapes} == {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    }  # fmt: skip
    assert shapes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert shapes["Conv2d_4a_3x3.bn.running_var"] == (192,)
    assert shapes["Mixed_5b.branch_pool.conv.weight"] == (32, 192, 1, 1)
    assert shapes["Mixed_5d.branch5x5_2.conv.weight"] == (64, 48, 5, 5)
    assert shapes["Mixed_6a.branch3x3.conv.weight"] == (384, 288, 3, 3)
    assert shapes["Mixed_6b.branch7x7_2.conv.weight"] == (128, 128, 1, 7)
    assert shapes["Mixed_6e.branch7x7dbl_5.conv.weight"] == (192, 192, 1, 7)
    assert shapes["Mixed_7a.branch7x7x3_4.conv.weight"] == (192, 192, 3, 3)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["fc.weight"] == (1008, 2048)


def test_grey_images_equal_grey_rgb_images(random: Inception) -> None:
    grey = torch.rand(1, 1, 20, 20) * 2 - 1
    with torch.no_grad():
        assert torch.equal(random(grey)[0], random(grey.expand(-1, 3, -1, -1))[0])


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(random: Inception, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / FILE
    torch.save(random.state_dict(), path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def served(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of a local server for the weight file; torch.hub's cache is an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(weights.parent)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def cached(tmp_path: Path) -> Path:
    return tmp_path / "torch" / "hub" / "checkpoints" / FILE


def test_the_public_file_is_downloaded_once(served: str, weights: Path, random: Inception, tmp_path: Path) -> None:
    net, sha256 = inception(url=f"{served}/{FILE}", sha256=digest(weights))
    assert sha256 == digest(weights) == digest(cached(tmp_path))
    assert all(torch.equal(value, random.state_dict()[name]) for name, value in net.state_dict().items())
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())
    assert list(cached(tmp_path).parent.iterdir()) == [cached(tmp_path)], "a temporary file was left"
    assert module.public_weights("http://127.0.0.1:9/nobody", digest(weights)) == cached(tmp_path)


def test_a_damaged_cached_file_is_downloaded_again(served: str, weights: Path, tmp_path: Path) -> None:
    cached(tmp_path).parent.mkdir(parents=True)
    cached(tmp_path).write_bytes(b"half of it")
    module.public_weights(f"{served}/{FILE}", digest(weights))
    assert digest(cached(tmp_path)) == digest(weights)


def test_a_file_with_another_hash_is_discarded(served: str, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=f"sha256 {digest(weights)}") as caught:
        inception(url=f"{served}/{FILE}")
    assert SHA256 in str(caught.value)
    assert list(cached(tmp_path).parent.iterdir()) == []


def test_http_errors_are_reported(served: str, tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match="404 File not found"):
        inception(url=f"{served}/nothing.pth")
    assert list(cached(tmp_path).parent.iterdir()) == []


def test_without_a_network_the_error_names_the_file_and_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(LeafwingError) as caught:
        inception(url="http://127.0.0.1:9/nobody")  # the discard port, where nothing listens
    for part in ("cannot be downloaded", "Connection refused", str(cached(tmp_path)), SHA256, "--weights FILE"):
        assert part in str(caught.value)


def test_the_hash_begins_as_in_the_file_name() -> None:
    assert FILE.endswith(f"-{SHA256[:8]}.pth")
    assert module.URL.startswith("https://")
    assert module.URL.endswith(FILE)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_local_file_may_lack_batch_counters(random: Inception, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"mine{ending}"
    tensors = {name: value for name, value in random.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file(tensors, path) if ending == ".safetensors" else torch.save(tensors, path)
    net, sha256 = inception(path)
    assert sha256 == digest(path)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in tensors.items())


class Trap:
    """A pickle that would execute code when loaded."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (Path.write_text, (Path("trapped"), "executed"))


class Unknown:
    """An object that torch loads only if its class is allowed."""


def test_invalid_weight_files_are_rejected(random: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LeafwingError, match=r"weights='?missing\.pth'?: no such file"):
        inception("missing.pth")
    Path("broken.pth").write_bytes(b"no weights")
    torch.save({"fc.weight": Trap()}, "trap.pth")
    torch.save({"fc.weight": Unknown()}, "unknown.pth")
    Path("broken.safetensors").write_bytes(b"no weights")
    for name in ("broken.pth", "trap.pth", "unknown.pth", "broken.safetensors"):
        with pytest.raises(LeafwingError, match=rf"{name}: cannot read .* was not loaded") as caught:
            inception(name)
        assert "weights_only" not in str(caught.value), "torch advises loading without checks"
        assert "options" not in str(caught.value)
    assert not Path("trapped").exists()
    tensors = {name: torch.zeros(()).expand(value.shape) for name, value in random.state_dict().items()}  # small files
    torch.save({name: value for name, value in tensors.items() if name != "fc.bias"}, "less.pth")
    with pytest.raises(LeafwingError, match=r"fc\.bias is missing"):
        inception("less.pth")
    torch.save({**tensors, "fc.bias": torch.zeros(1000)}, "other.pth")
    with pytest.raises(LeafwingError, match=r"fc\.bias .*wrong shape"):
        inception("other.pth")
    torch.save({**tensors, "AuxLogits.fc.bias": torch.zeros(1000)}, "more.pth")
    with pytest.raises(LeafwingError, match=r"AuxLogits\.fc\.bias is unknown"):
        inception("more.pth")
