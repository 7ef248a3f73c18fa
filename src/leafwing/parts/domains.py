"""Two domains: images, and inputs that networks translate to and from them."""

from __future__ import annotations

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec


def other_domain(data: DataSpec) -> DataSpec:
    """The data with the field `input` as `image`: for networks that generate or judge inputs.

    Raises:
        LeafwingError: inputs of another kind or size than the images; the number of channels may differ.
    """
    image, input = data.fields["image"], data.fields["input"]
    if type(image) is not type(input) or image.shape[1:] != input.shape[1:]:
        raise LeafwingError(
            f"input and image must have the same size: {input}, {image}. "
            "Choose another --input (blur instead of low4), or write a recipe: docs/guide/your-own-gan.md"
        )
    return DataSpec({"image": input})
