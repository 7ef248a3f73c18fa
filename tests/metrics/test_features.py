"""Feature networks: what each is shown, what decides it, and that the one trained on the data is useful and always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from leafwing.data import Dataset, load
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import DataSpec
from leafwing.metrics import own
from leafwing.metrics.features import Features, load_features, pixels
from leafwing.metrics.fid import frechet_distance
from leafwing.metrics.inception import Inception
from leafwing.metrics.samples import to_floats

pytestmark = pytest.mark.machine


def floats(data: Dataset) -> Tensor:
    return to_floats(data.pictures(np.arange(len(data))))


def noise(n: int = 24, height: int = 16, width: int = 16, channels: int = 3, seed: int = 0) -> Dataset:
    array = np.random.default_rng(seed).integers(0, 256, (n, height, width, channels), dtype=np.uint8)
    return Dataset(DataSpec(height, width, channels), array, None, f"{seed:064x}", "noise", {})


# --- pixels and what is common -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "numbers"), [((3, 64, 64), 768), ((1, 32, 32), 256), ((3, 8, 8), 192), ((3, 32, 64), 384), ((3, 60, 45), 576)]
)
def test_pixels_are_averaged_to_at_most_16_a_side(shape: tuple[int, int, int], numbers: int) -> None:
    features, logits = pixels(torch.rand(2, *shape))
    assert features.shape == (2, numbers)
    assert logits is None


def test_pixels_are_means_of_what_they_cover() -> None:
    picture = torch.rand(1, 1, 64, 64)
    features, _ = pixels(picture)
    assert torch.allclose(features[0], picture.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)).flatten(), atol=1e-6)


def test_transparency_is_laid_on_white() -> None:
    shown: list[Tensor] = []

    def net(x: Tensor) -> tuple[Tensor, None]:
        shown.append(x)
        return x.flatten(1), None

    network = Features("pixels", "", net)
    colours = torch.tensor([-1.0, 0.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    for alpha, expected in ((1.0, [-1.0, 0.0, 0.5]), (-1.0, [1.0, 1.0, 1.0]), (0.0, [0.0, 0.5, 0.75])):
        network(torch.cat([colours, torch.full((1, 1, 2, 2), alpha)], 1))
        assert shown[-1][0, :, 0, 0].tolist() == expected
    network(torch.full((1, 2, 2, 2), 0.0))
    assert shown[-1].shape == (1, 1, 2, 2)
    assert shown[-1].unique().tolist() == [0.5]
    network(colours)
    assert torch.equal(shown[-1], colours)


def test_a_network_sees_so_many_at_a_time_and_tells_probabilities() -> None:
    sizes = []

    def net(x: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(x))
        assert not torch.is_grad_enabled()
        return x.flatten(1), torch.tensor([0.0, 3.0]).log().expand(len(x), 2)

    features, sure = Features("own", "", net, batch=4, classifies=True)(torch.rand(10, 1, 2, 2))
    assert sizes == [4, 4, 2]
    assert (features.shape, features.dtype) == ((10, 4), np.float32)
    assert sure is not None
    assert sure.dtype == np.float64
    assert np.allclose(sure, [[0.0, 1.0]])


def test_networks_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise()
    found = load_features("pixels", data)
    assert (found.name, found.classifies, len(found.digest)) == ("pixels", False, 64)
    with pytest.raises(LeafwingError, match="no feature network 'resnet'; there are: pixels, own, inception"):
        load_features("resnet", data)
    with pytest.raises(LeafwingError, match="--features inception, not pixels"):
        load_features("pixels", data, weights="x.pth")
    torch.save(
        {name: torch.zeros(()).expand(value.shape) for name, value in Inception().state_dict().items()}, tmp_path / "x.pth"
    )
    standard = load_features("inception", data, weights=tmp_path / "x.pth")
    assert (standard.name, standard.classifies) == ("inception", True)
    features, sure = standard(torch.rand(1, 4, 16, 16))
    assert features.shape == (1, 2048)
    assert sure is not None
    assert sure.shape == (1, 1008)


# --- own -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that takes no time, and teaches nothing."""
    for name, value in (("STEPS", 3), ("PICTURES", 8), ("WIDTHS", (4, 4, 8, 8))):
        monkeypatch.setattr(own, name, value)


def test_the_same_data_give_the_same_weights_whatever_else_is_set(short: None, tmp_path: Path) -> None:
    data, found = noise(), []
    for i, threads in enumerate((1, 2, 1)):
        torch.manual_seed(i)
        torch.set_num_threads(threads)
        before = torch.get_rng_state()
        _, digest = own.own(data, cache=tmp_path / str(i))
        found.append(digest)
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), before)
    torch.set_num_threads(1)
    assert found[0] == found[1] == found[2]


def test_a_network_is_trained_once(short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, counted = noise(), []
    net, digest = own.own(data, cache=tmp_path, report_progress=lambda what, done, total: counted.append((done, total)))
    assert counted == [(1, 3), (2, 3), (3, 3)]
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())
    (path,) = (tmp_path / "networks").glob("*.safetensors")
    assert load_file(path).keys() == net.state_dict().keys()
    monkeypatch.setattr(own, "train", lambda *_: pytest.fail("it was trained again"))
    again, same = own.own(data, cache=tmp_path)
    assert same == digest
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in net.state_dict().items())


def test_a_damaged_file_is_made_anew(short: None, tmp_path: Path) -> None:
    data = noise()
    _, digest = own.own(data, cache=tmp_path)
    (path,) = (tmp_path / "networks").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-8])
    assert own.own(data, cache=tmp_path)[1] == digest


def test_other_pictures_another_part_or_another_recipe_have_a_network_of_their_own(
    short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise()
    mirrored = Dataset(data.spec, data.array, None, data.fingerprint, "noise", {"mirror": True})
    names = [own.name(one) for one in (data, noise(seed=1), *data.split(8), mirrored)]
    monkeypatch.setattr(own, "STEPS", 4)
    names.append(own.name(data))
    assert len(set(names)) == len(names) == 6


@pytest.mark.parametrize(
    ("n", "height", "width", "channels"), [(1, 16, 16, 3), (9, 28, 28, 1), (9, 8, 40, 2), (9, 5, 5, 4), (9, 96, 128, 3)]
)
def test_any_pictures_will_do(n: int, height: int, width: int, channels: int, short: None, tmp_path: Path) -> None:
    data = noise(n, height, width, channels)
    found = load_features("own", data, cache=tmp_path)
    features, sure = found(floats(data))
    assert features.shape == (n, 8)
    assert np.isfinite(features).all()
    assert sure is None


def test_a_cache_that_cannot_be_written_is_named(short: None, tmp_path: Path) -> None:
    (tmp_path / "networks").write_text("in the way")
    with pytest.raises(StorageError, match="networks"):
        own.own(noise(), cache=tmp_path)


def test_turns_are_right_angles() -> None:
    pictures = torch.rand(4, 2, 3, 3)
    found = own.turned(pictures, torch.tensor([0, 1, 2, 3]))
    assert torch.equal(found[0], pictures[0])
    assert torch.equal(found[1], pictures[1].flip(2).transpose(1, 2)), "the right column comes up"
    assert torch.equal(found[2], pictures[2].flip(1).flip(2))
    assert torch.equal(found[3].rot90(1, (1, 2)), pictures[3])


def test_views_are_parts_in_other_light(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = floats(noise(50))
    first, second = own.views(pictures), own.views(pictures)
    assert first.shape == pictures.shape
    assert first.abs().max() <= 1
    assert not torch.equal(first, second)
    for name, value in (("CROP", 1.0), ("JITTER", 0.0), ("GREY", 0.0)):
        monkeypatch.setattr(own, name, value)
    whole = own.views(torch.linspace(-1, 1, 16).expand(200, 3, 16, 16))
    slopes = (whole[:, 0, 8, 12] - whole[:, 0, 8, 3]) / (9 * 2 / 15)
    assert slopes.min() > 0.6, "parts are not narrower than their shape allows, and none is mirrored"
    assert slopes.max() <= 1.001, "parts are not wider than the picture"


def test_agreement_is_that_of_the_paper() -> None:
    """-log of exp(own pair / temperature) over the sum of all others, by hand for two pictures."""
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 1.0]])
    cosines = {(0, 1): 0.0, (0, 2): 0.5**0.5, (0, 3): 0.0, (1, 2): 0.5**0.5, (1, 3): 1.0, (2, 3): 0.5**0.5}

    def cost(i: int, partner: int) -> float:
        e = {j: np.exp(cosines[min(i, j), max(i, j)] / own.TEMPERATURE) for j in range(4) if j != i}
        return float(-np.log(e[partner] / sum(e.values())))

    expected = np.mean([cost(i, partner) for i, partner in ((0, 2), (1, 3), (2, 0), (3, 1))])
    assert own.agreement(z).item() == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Features, Tensor, np.ndarray]:
    """A narrow network, taught for a few seconds on digits of 16 px; 500 digits that it has not seen, and their labels."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("STEPS", 100), ("PICTURES", 64), ("WIDTHS", (16, 32, 48, 64))):
            patch.setattr(own, name, value)
        train, held = load("digits", size=16).split(500)
        network = load_features("own", train, cache=tmp_path_factory.mktemp("taught"))
    assert held.labels is not None
    return network, floats(held), held.labels[held.to_rows(np.arange(500))]


Taught = tuple[Features, Tensor, np.ndarray]


def test_it_tells_classes_apart_that_it_was_taught(taught: Taught) -> None:
    """Of 10 classes; with three choices of what is held out it was right of 87 to 89 %."""
    network, pictures, labels = taught
    _, sure = network(pictures)
    assert sure is not None
    assert (sure.argmax(1) == labels).mean() > 0.75


def test_its_distance_grows_with_everything_that_may_be_wrong(taught: Taught) -> None:
    """FID to the other half, over that of two halves: with three choices of what is held out 3.0 to 4.6 with noise, 5.0 to 6.3
    blurred, 10 to 12 with halves swapped, 4.5 to 5.5 mirrored, and 4.6 to 6.9 where the same 20 come again and again.
    """
    network, pictures, _ = taught
    a, b = pictures.split(250)
    noisy = b + 0.3 * torch.randn(b.shape, generator=torch.Generator().manual_seed(0))
    wrong = {
        "noise": noisy.clamp(-1, 1),
        "blur": F.avg_pool2d(b, 3, 1, 1),
        "halves swapped": b.roll(8, 2),
        "mirrored": b.flip(3),
        "few": b[:20].repeat(13, 1, 1, 1)[:250],
    }
    alike = frechet_distance(network(a)[0], network(b)[0])
    for name, seen in wrong.items():
        assert frechet_distance(network(a)[0], network(seen)[0]) > 2 * alike, name
