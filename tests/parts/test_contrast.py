"""Contrast between patches."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leafwing.networks.heads import Heads
from leafwing.parts.contrast import contrast, patch_contrast, random_positions


def test_the_loss_is_that_of_the_authors() -> None:
    """Their logits: the similarity to the own key first, then those to all keys of the image, the own one replaced by -10."""
    torch.manual_seed(0)
    queries, keys = (nn.functional.normalize(torch.randn(3, 5, 8), dim=2) for _ in range(2))
    expected = []
    for q, k in zip(queries, keys, strict=True):
        own = (q * k).sum(1, keepdim=True)
        others = (q @ k.T).masked_fill(torch.eye(5, dtype=torch.bool), -10)
        expected.append(cross_entropy(torch.cat([own, others], 1) / 0.07, torch.zeros(5, dtype=torch.long)))
    assert torch.allclose(contrast(queries, keys, 0.07), torch.stack(expected).mean())


def test_other_images_are_no_negatives() -> None:
    torch.manual_seed(0)
    queries, keys = (nn.functional.normalize(torch.randn(2, 4, 8), dim=2) for _ in range(2))
    each = [contrast(queries[i : i + 1], keys[i : i + 1], 0.1) for i in range(2)]
    assert torch.allclose(contrast(queries, keys, 0.1), torch.stack(each).mean())


def test_positions_are_distinct_and_each_sample_has_its_own() -> None:
    torch.manual_seed(0)
    positions = random_positions(torch.zeros(4, 1, 5, 6), 12)
    assert positions.shape == (4, 12)
    assert all(len(row.unique()) == 12 for row in positions)
    assert len({tuple(row.tolist()) for row in positions}) == 4
    assert random_positions(torch.zeros(1, 1, 2, 3), 256).sort().values.tolist() == [[0, 1, 2, 3, 4, 5]], "all there are"


def test_heads_give_unit_vectors_of_the_features_at_the_positions() -> None:
    torch.manual_seed(0)
    heads, features = Heads([3, 5], 7), [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)]
    positions = [random_positions(features[0], 6), random_positions(features[1], 3)]
    first, second = heads(features, positions)
    assert first.shape == (2, 6, 7)
    assert second.shape == (2, 3, 7)
    assert torch.allclose(first.norm(dim=2), torch.ones(2, 6))
    row, column = divmod(int(positions[0][1, 4]), 4)
    alone = heads.heads[0](features[0][1, :, row, column])
    assert torch.allclose(first[1, 4], alone / alone.norm(), atol=1e-6)


def test_only_the_patches_of_the_result_have_a_gradient() -> None:
    torch.manual_seed(0)
    encoder, heads = nn.Conv2d(1, 4, 3), Heads([4], 8)
    passes: list[bool] = []

    def features(x: Tensor) -> list[Tensor]:
        maps = [encoder(x)]
        passes.append(maps[0].requires_grad)
        return maps

    source, result = torch.randn(2, 1, 6, 6, requires_grad=True), torch.randn(2, 1, 6, 6, requires_grad=True)
    patch_contrast(features, heads, result, source, patches=5).backward()
    assert passes == [False, True]
    assert source.grad is None
    assert result.grad is not None
    assert all(weight.grad is not None for weight in (*encoder.parameters(), *heads.parameters()))


def test_what_resembles_its_source_in_place_has_a_smaller_loss() -> None:
    torch.manual_seed(0)
    x, heads = torch.randn(2, 8, 4, 4), Heads([8], 16)
    near, far = (
        patch_contrast(lambda y: [y], heads, result, x, temperature=0.07)
        for result in (x + 0.01 * torch.randn_like(x), x.flip(3))
    )
    assert near < far


def test_similarities_are_computed_in_fp32() -> None:
    """In bf16 logits of about 14 would be rounded to multiples of 0.06."""
    torch.manual_seed(0)
    queries, keys = (nn.functional.normalize(torch.randn(2, 64, 16), dim=2) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrast(queries, keys, 0.07)
    assert torch.equal(loss, contrast(queries, keys, 0.07))
