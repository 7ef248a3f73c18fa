"""Feature networks: their inputs, their digests, and that the one trained on the data is useful and reproducible."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from leafwing.commands.real_data import DIMENSIONS
from leafwing.data import Dataset, load
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import DataSpec
from leafwing.metrics import FEATURES, inception, own, photographs
from leafwing.metrics.features import Features, load_features, pixels
from leafwing.metrics.fid import frechet_distance
from leafwing.metrics.inception import Inception
from leafwing.networks import lite0
from leafwing.pixels import images_to_tensor

pytestmark = pytest.mark.machine


def floats(data: Dataset) -> Tensor:
    return images_to_tensor(data.pictures(np.arange(len(data))))


def noise(n: int = 24, height: int = 16, width: int = 16, channels: int = 3, seed: int = 0) -> Dataset:
    array = np.random.default_rng(seed).integers(0, 256, (n, height, width, channels), dtype=np.uint8)
    return Dataset(DataSpec.images(height, width, channels), {"image": array}, f"{seed:064x}", "noise", {})


def test_the_memory_of_features_is_estimated_from_their_number() -> None:
    nets = {
        "pixels": lambda images: pixels(images)[0],
        "own": lambda images: own.Network(DataSpec.images(64, 64), 0).eval()(images)[0],
        "lite0": lambda images: photographs.Network(lite0.untrained()).eval()(images)[0],
        "inception": lambda images: torch.empty(1, inception.FEATURES),
    }
    with torch.no_grad():
        assert {name: net(torch.zeros(1, 3, 64, 64)).shape[1] for name, net in nets.items()} == DIMENSIONS
    assert DIMENSIONS.keys() == FEATURES.keys()


# --- pixels, and what all networks share -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "numbers"), [((3, 64, 64), 768), ((1, 32, 32), 256), ((3, 8, 8), 192), ((3, 32, 64), 384), ((3, 60, 45), 576)]
)
def test_pixels_are_averaged_to_at_most_16_per_side(shape: tuple[int, int, int], numbers: int) -> None:
    features, logits = pixels(torch.rand(2, *shape))
    assert features.shape == (2, numbers)
    assert logits is None


def test_pixels_are_means_of_blocks() -> None:
    image = torch.rand(1, 1, 64, 64)
    features, _ = pixels(image)
    assert torch.allclose(features[0], image.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)).flatten(), atol=1e-6)


def test_transparent_images_are_composited_onto_white() -> None:
    inputs: list[Tensor] = []

    def net(x: Tensor) -> tuple[Tensor, None]:
        inputs.append(x)
        return x.flatten(1), None

    network = Features("pixels", "", net)
    colours = torch.tensor([-1.0, 0.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    for alpha, expected in ((1.0, [-1.0, 0.0, 0.5]), (-1.0, [1.0, 1.0, 1.0]), (0.0, [0.0, 0.5, 0.75])):
        network(torch.cat([colours, torch.full((1, 1, 2, 2), alpha)], 1))
        assert inputs[-1][0, :, 0, 0].tolist() == expected
    network(torch.full((1, 2, 2, 2), 0.0))
    assert inputs[-1].shape == (1, 1, 2, 2)
    assert inputs[-1].unique().tolist() == [0.5]
    network(colours)
    assert torch.equal(inputs[-1], colours)


def test_features_are_computed_in_batches_and_probabilities_sum_to_1() -> None:
    sizes = []

    def net(x: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(x))
        assert not torch.is_grad_enabled()
        return x.flatten(1), torch.tensor([0.0, 3.0]).log().expand(len(x), 2)

    features, probabilities = Features("own", "", net, batch=4, classifies=True)(torch.rand(10, 1, 2, 2))
    assert sizes == [4, 4, 2]
    assert (features.shape, features.dtype) == ((10, 4), np.float32)
    assert probabilities is not None
    assert probabilities.dtype == np.float64
    assert np.allclose(probabilities, [[0.0, 1.0]])


def test_networks_are_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise()
    network = load_features("pixels", data)
    assert (network.name, network.classifies, len(network.digest)) == ("pixels", False, 64)
    with pytest.raises(LeafwingError, match="no feature network 'resnet'; there are: pixels, own, lite0, inception"):
        load_features("resnet", data)
    with pytest.raises(LeafwingError, match="--features lite0 or inception, not pixels"):
        load_features("pixels", data, weights="x.pth")
    torch.save(
        {name: torch.zeros(()).expand(value.shape) for name, value in Inception().state_dict().items()}, tmp_path / "x.pth"
    )
    inception = load_features("inception", data, weights=tmp_path / "x.pth")
    assert (inception.name, inception.classifies) == ("inception", True)
    features, probabilities = inception(torch.rand(1, 4, 16, 16))
    assert features.shape == (1, 2048)
    assert probabilities is not None
    assert probabilities.shape == (1, 1008)


# --- own -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A very short training, which learns nothing."""
    for name, value in (("STEPS", 3), ("TRAINING_BATCH", 8), ("WIDTHS", (4, 4, 8, 8))):
        monkeypatch.setattr(own, name, value)


def test_weights_depend_on_the_data_alone(short: None, tmp_path: Path) -> None:
    data, digests = noise(), []
    for i, threads in enumerate((1, 2, 1)):
        torch.manual_seed(i)
        torch.set_num_threads(threads)
        before = torch.get_rng_state()
        _, digest = own.feature_network(data, cache=tmp_path / str(i))
        digests.append(digest)
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), before)
    torch.set_num_threads(1)
    assert digests[0] == digests[1] == digests[2]


def test_a_network_is_trained_once(short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, progress = noise(), []
    net, digest = own.feature_network(
        data, cache=tmp_path, report_progress=lambda what, done, total: progress.append((done, total))
    )
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())
    (path,) = (tmp_path / "networks").glob("*.safetensors")
    assert load_file(path).keys() == net.state_dict().keys()
    monkeypatch.setattr(own, "train", lambda *_: pytest.fail("it was trained again"))
    again, same = own.feature_network(data, cache=tmp_path)
    assert same == digest
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("damage", ["cut", "a flipped bit", "no checksum"])
def test_a_damaged_file_is_replaced(short: None, tmp_path: Path, damage: str) -> None:
    data = noise()
    _, digest = own.feature_network(data, cache=tmp_path)
    (path,) = (tmp_path / "networks").glob("*.safetensors")
    content = path.read_bytes()
    if damage == "no checksum":
        save_file(load_file(path), path)
    else:
        path.write_bytes(content[:-8] if damage == "cut" else content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
    assert path.read_bytes() != content
    assert own.feature_network(data, cache=tmp_path)[1] == digest


def test_the_cache_key_depends_on_data_and_training(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise()
    mirrored = Dataset(data.spec, data.columns, data.fingerprint, "noise", {"mirror": True})
    names = [own.cache_key(one) for one in (data, noise(seed=1), *data.split(8), mirrored)]
    monkeypatch.setattr(own, "STEPS", 4)
    names.append(own.cache_key(data))
    assert len(set(names)) == len(names) == 6


@pytest.mark.parametrize(
    ("n", "height", "width", "channels"), [(1, 16, 16, 3), (9, 28, 28, 1), (9, 8, 40, 2), (9, 5, 5, 4), (9, 96, 128, 3)]
)
def test_any_image_size_is_accepted(n: int, height: int, width: int, channels: int, short: None, tmp_path: Path) -> None:
    data = noise(n, height, width, channels)
    network = load_features("own", data, cache=tmp_path)
    features, probabilities = network(floats(data))
    assert features.shape == (n, 8)
    assert np.isfinite(features).all()
    assert probabilities is None


def test_the_error_names_an_unwritable_cache(short: None, tmp_path: Path) -> None:
    (tmp_path / "networks").write_text("not a folder")
    with pytest.raises(StorageError, match="networks"):
        own.feature_network(noise(), cache=tmp_path)


def test_rotations_are_multiples_of_90_degrees() -> None:
    images = torch.rand(4, 2, 3, 3)
    result = own.rotate(images, torch.tensor([0, 1, 2, 3]))
    assert torch.equal(result[0], images[0])
    assert torch.equal(result[1], images[1].flip(2).transpose(1, 2)), "the right column becomes the top row"
    assert torch.equal(result[2], images[2].flip(1).flip(2))
    assert torch.equal(result[3].rot90(1, (1, 2)), images[3])


def test_views_are_crops_with_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    images = floats(noise(50))
    first, second = own.views(images), own.views(images)
    assert first.shape == images.shape
    assert first.abs().max() <= 1
    assert not torch.equal(first, second)
    for name, value in (("CROP", 1.0), ("JITTER", 0.0), ("GREY", 0.0)):
        monkeypatch.setattr(own, name, value)
    uncropped = own.views(torch.linspace(-1, 1, 16).expand(200, 3, 16, 16))
    slopes = (uncropped[:, 0, 8, 12] - uncropped[:, 0, 8, 3]) / (9 * 2 / 15)
    assert slopes.min() > 0.6, "crops are no narrower than their shape allows, and none is mirrored"
    assert slopes.max() <= 1.001, "crops are no wider than the image"


def test_the_contrastive_loss_follows_the_paper() -> None:
    """-log of exp(positive pair / temperature) over the sum of all others, by hand for two images."""
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 1.0]])
    cosines = {(0, 1): 0.0, (0, 2): 0.5**0.5, (0, 3): 0.0, (1, 2): 0.5**0.5, (1, 3): 1.0, (2, 3): 0.5**0.5}

    def cost(i: int, partner: int) -> float:
        e = {j: np.exp(cosines[min(i, j), max(i, j)] / own.TEMPERATURE) for j in range(4) if j != i}
        return float(-np.log(e[partner] / sum(e.values())))

    expected = np.mean([cost(i, partner) for i, partner in ((0, 2), (1, 3), (2, 0), (3, 1))])
    assert own.contrastive_loss(z).item() == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Features, Tensor, np.ndarray]:
    """A narrow network, trained for a few seconds on digits of 16 px; 500 held-out digits, and their labels."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("STEPS", 100), ("TRAINING_BATCH", 64), ("WIDTHS", (16, 32, 48, 64))):
            patch.setattr(own, name, value)
        train, test = load("digits", size=16).split(500)
        network = load_features("own", train, cache=tmp_path_factory.mktemp("trained"))
    assert test.labels is not None
    return network, floats(test), test.labels[test.to_rows(np.arange(500))]


Trained = tuple[Features, Tensor, np.ndarray]


def test_it_classifies_the_classes_it_was_trained_on(trained: Trained) -> None:
    """With three splits its accuracy on 10 classes was 87 to 89%."""
    network, images, labels = trained
    _, probabilities = network(images)
    assert probabilities is not None
    assert (probabilities.argmax(1) == labels).mean() > 0.75


def test_its_fid_detects_every_kind_of_defect(trained: Trained) -> None:
    """FID between two halves, one of them defective, relative to that without defects. With three splits: noise 3.0 to 4.6, blur 5.0
    to 6.3, halves swapped 10 to 12, mirrored 4.5 to 5.5, the same 20 images repeated 4.6 to 6.9.
    """
    network, images, _ = trained
    a, b = images.split(250)
    noisy = b + 0.3 * torch.randn(b.shape, generator=torch.Generator().manual_seed(0))
    defects = {
        "noise": noisy.clamp(-1, 1),
        "blur": F.avg_pool2d(b, 3, 1, 1),
        "halves swapped": b.roll(8, 2),
        "mirrored": b.flip(3),
        "few": b[:20].repeat(13, 1, 1, 1)[:250],
    }
    baseline = frechet_distance(network(a)[0], network(b)[0])
    for name, defective in defects.items():
        assert frechet_distance(network(a)[0], network(defective)[0]) > 2 * baseline, name


def test_a_file_of_the_cache_is_made_once_by_several_processes(tmp_path: Path) -> None:
    """Here threads: the second one waits, and reads what the first one made."""
    path, made = tmp_path / "networks" / "one.txt", []

    def load() -> str | None:
        return path.read_text() if path.exists() else None

    def make() -> str:
        time.sleep(0.2)
        made.append(1)
        path.write_text("network")
        return "network"

    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(lambda _: own.load_or_make(path, load, make), range(3))] == ["network"] * 3
    assert len(made) == 1
