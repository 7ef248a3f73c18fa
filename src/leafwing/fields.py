"""The kinds of fields that a batch may have: images, labels, captions, boxes and so on.

A field knows two formats of its samples: as data sets store them (compact, such as bytes) and as networks see them. It converts
from one to the other, mirrors and crops stored samples, and parses what users write. torch is imported only where it is needed.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.pixels import Window, crop_pixels, crop_points, flip, to_bytes, to_floats, to_words
from leafwing.quantities import LARGEST, real, whole

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

BOOLEANS = {"0": 0, "no": 0, "false": 0, "1": 1, "yes": 1, "true": 1}


class Field(ABC):
    """One kind of field. Subclasses are frozen dataclasses: their attributes are stored in `run.json`.

    `kind` is the name of the kind, there and in messages. `has_pixels` says whether samples are image-like: too large to be
    stored in `run.json`, and only available as files or tensors.
    """

    kind: ClassVar[str]
    has_pixels: ClassVar[bool] = False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample as networks see it."""

    def to_network(self, stored: Tensor) -> Tensor:
        """Stored samples (n, ...) as networks see them: (n, *shape)."""
        return stored

    def to_stored(self, samples: Tensor) -> Tensor:
        """Samples as networks generate them, (n, *shape), in the format of data sets, on the CPU: the nearest that can be stored."""
        return samples.detach().cpu()

    def mirror(self, stored: Tensor) -> Tensor:
        """Stored samples (n, ...) of images that are flipped left to right."""
        return stored

    def crop(self, stored: Tensor, window: Window) -> Tensor:
        """Stored samples (n, ...) of images of which only this part is left. Smaller fields are cropped in proportion, so the window
        must begin and end at whole pixels of theirs."""
        return stored

    def choose(self, stored: Tensor, random: Tensor) -> Tensor:
        """One of several alternatives of each stored sample, by a random number int64 (n,); the default has no alternatives."""
        return stored

    def clamp(self, samples: Tensor) -> Tensor:
        """Generated samples (n, *shape), limited to the range of this field."""
        return samples

    def parse(self, value: Any) -> Tensor:
        """One sample, as networks see it, from a value that a user writes.

        Raises:
            LeafwingError: not a value of this field; the message says what is expected.
        """
        raise LeafwingError(f"{value!r}: {describe_kind(self)} cannot be written as a value")

    def to_plain(self, stored: np.ndarray) -> list[Any]:
        """Stored samples as plain JSON, one value each."""
        return stored.tolist()

    def from_plain(self, values: Sequence[Any]) -> np.ndarray:
        """The inverse of `to_plain`."""
        import numpy as np

        return np.asarray(values)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON, with the kind."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]

    def __str__(self) -> str:
        return describe_kind(self)


class _Pixels(Field):
    """Pixels in rows and columns. The height and width are attributes; `_rows` is the dimension of the rows in stored samples."""

    has_pixels: ClassVar[bool] = True
    _rows: ClassVar[int] = 1

    def mirror(self, stored: Tensor) -> Tensor:
        return flip(stored, self._rows + 1)

    def crop(self, stored: Tensor, window: Window) -> Tensor:
        return crop_pixels(stored, window, self._rows)

    def clamp(self, samples: Tensor) -> Tensor:
        return samples.clamp(0, 1)


class _Colours(_Pixels):
    """Images or clips: stored with the channels last; networks see them first, in [-1, 1]."""

    bits = 8

    def to_network(self, stored: Tensor) -> Tensor:
        import torch

        return to_floats(stored.movedim(-1, 1), torch.get_default_dtype())

    def to_stored(self, samples: Tensor) -> Tensor:
        return (to_bytes if self.bits == 8 else to_words)(samples).movedim(1, -1).cpu()

    def clamp(self, samples: Tensor) -> Tensor:
        return samples.clamp(-1, 1)


@dataclass(frozen=True)
class Image(_Colours):
    """An image. Stored as uint8 (n, height, width, channels); networks see float (n, channels, height, width) in [-1, 1].

    Args:
        height: rows, in pixels.
        width: columns, in pixels.
        channels: 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA.
        bits: 8, or 16: stored as uint16. Networks see the same range, so 8-bit images can be used where 16 bits are expected.
    """

    kind: ClassVar[str] = "image"

    height: int
    width: int
    channels: int = 3
    bits: int = 8

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise ValueError(f"an image has 8 or 16 bits, not {self.bits}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def as_dict(self) -> dict[str, Any]:
        plain = super().as_dict()
        if self.bits == 8:  # as earlier versions wrote it
            del plain["bits"]
        return plain

    def __str__(self) -> str:
        return f"image {self.height}x{self.width}x{self.channels}{', 16 bits' * (self.bits == 16)}"


@dataclass(frozen=True)
class Clip(_Colours):
    """A short video. Stored as uint8 (n, frames, height, width, channels); networks see float (n, channels, frames, height, width).

    Args:
        frames: number of frames.
        height: rows, in pixels.
        width: columns, in pixels.
        channels: as for images.
    """

    kind: ClassVar[str] = "clip"
    _rows: ClassVar[int] = 2

    frames: int
    height: int
    width: int
    channels: int = 3

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.frames, self.height, self.width)

    def __str__(self) -> str:
        return f"clip of {self.frames} frames {self.height}x{self.width}x{self.channels}"


@dataclass(frozen=True)
class Mask(_Pixels):
    """A binary mask. Stored as uint8 (n, height, width, 1), 0 and 1; networks see float (n, 1, height, width), 0 and 1."""

    kind: ClassVar[str] = "mask"

    height: int
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.height, self.width)

    def to_network(self, stored: Tensor) -> Tensor:
        import torch

        return stored.permute(0, 3, 1, 2).to(torch.get_default_dtype())

    def to_stored(self, samples: Tensor) -> Tensor:
        return (samples.detach() > 0.5).byte().permute(0, 2, 3, 1).cpu()

    def __str__(self) -> str:
        return f"mask {self.height}x{self.width}"


@dataclass(frozen=True)
class Segmentation(_Pixels):
    """A class for each pixel. Stored as uint8 (n, height, width); networks see one-hot maps, float (n, classes, height, width).

    Args:
        height: rows, in pixels.
        width: columns, in pixels.
        names: class names in index order.
    """

    kind: ClassVar[str] = "segmentation"

    height: int
    width: int
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names), self.height, self.width)

    def to_network(self, stored: Tensor) -> Tensor:
        import torch

        classes = torch.arange(len(self.names), device=stored.device)
        return (stored[:, None] == classes[:, None, None]).to(torch.get_default_dtype())

    def to_stored(self, samples: Tensor) -> Tensor:
        return samples.detach().argmax(1).byte().cpu()

    def __str__(self) -> str:
        return f"segmentation {self.height}x{self.width} ({len(self.names)} classes)"


@dataclass(frozen=True)
class Vector(Field):
    """A vector, such as a point in the plane: float32 (n, size), in the data's own units."""

    kind: ClassVar[str] = "vector"

    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    def parse(self, value: Any) -> Tensor:
        return _numbers(value, self.size, f"{self.size} numbers")

    def from_plain(self, values: Sequence[Any]) -> np.ndarray:
        return super().from_plain(values).astype("float32").reshape(-1, self.size)

    def __str__(self) -> str:
        return f"vector of {self.size} numbers"


@dataclass(frozen=True)
class Label(Field):
    """A class index, int64 (n,).

    Args:
        names: class names in index order.
    """

    kind: ClassVar[str] = "label"

    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def index(self, value: Any) -> int:
        """The index of a class given by name, by `#` and its index, or by its index; as text only if no name is a number.

        Raises:
            LeafwingError: no such class.
        """
        if (text := value if isinstance(value, str) else "") in self.names:
            return self.names.index(text)
        try:
            index = whole(text.removeprefix("#"), "label", -LARGEST) if text else value.__index__()
        except (AttributeError, TypeError, InvalidOption):
            raise LeafwingError(f"no class {value!r}{did_you_mean(str(value), self.names)}") from None
        if not 0 <= index < len(self.names):
            raise LeafwingError(f"no class {index}: there are {len(self.names)} classes, 0 to {len(self.names) - 1}")
        if text.isdecimal() and any(name.isdecimal() for name in self.names):
            raise LeafwingError(f"no class is named {text}; '#{text}' is class {self.names[index]}")
        return index

    def parse(self, value: Any) -> Tensor:
        import torch

        return torch.tensor(self.index(value))

    def __str__(self) -> str:
        return f"label ({len(self.names)} classes)"


@dataclass(frozen=True)
class Attributes(Field):
    """Binary attributes. Stored as uint8 (n, attributes); networks see float32 of the same shape.

    Categories are one-hot: one attribute `category=value` per value, exactly one of which is 1.

    Args:
        names: names of the attributes, in order.
    """

    kind: ClassVar[str] = "attributes"

    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names),)

    def to_network(self, stored: Tensor) -> Tensor:
        return stored.float()

    def to_stored(self, samples: Tensor) -> Tensor:
        return (samples.detach() > 0.5).byte().cpu()

    def columns(self, settings: Mapping[str, Any]) -> dict[int, int]:
        """Index and value of the attributes that these settings determine; a category determines all of its one-hot attributes.

        Args:
            settings: values by name: `{"smiling": 1, "colour": "red"}`.

        Raises:
            LeafwingError: unknown attribute or value.
        """
        result: dict[int, int] = {}
        for name, value in settings.items():
            text = str(value)
            one_hot = {item.partition("=")[2]: i for i, item in enumerate(self.names) if item.startswith(f"{name}=")}
            if one_hot:
                if text not in one_hot:
                    raise LeafwingError(f"{name}={value}: {name} has no value {text!r}{did_you_mean(text, one_hot)}")
                result |= {i: int(item == text) for item, i in one_hot.items()}
            elif name not in self.names:
                raise LeafwingError(f"no attribute {name!r}{did_you_mean(name, self.settable)}")
            elif text.lower() not in BOOLEANS:
                raise LeafwingError(f"{name}={value}: {name} must be 0 or 1 (no or yes)")
            else:
                result[self.names.index(name)] = BOOLEANS[text.lower()]
        return result

    @property
    def settable(self) -> list[str]:
        """The names that can be set: those of binary attributes and of categories."""
        return list(dict.fromkeys(name.partition("=")[0] for name in self.names))

    def to_plain(self, stored: np.ndarray) -> list[Any]:
        return ["".join(map(str, row)) for row in stored.tolist()]

    def from_plain(self, values: Sequence[Any]) -> np.ndarray:
        import numpy as np

        return np.array([[int(bit) for bit in row] for row in values], np.uint8).reshape(len(values), len(self.names))

    def __str__(self) -> str:
        return f"attributes ({', '.join(self.settable[:6])}{' ...' * (len(self.settable) > 6)})"


@dataclass(frozen=True)
class Caption(Field):
    """A sentence as word numbers: int64 (n, length); 0 follows the last word. Stored with alternatives: (n, captions, length).

    Words are numbered from 1 in the order of `words`; unknown words are left out.

    Args:
        words: the vocabulary, in lower case.
        length: maximum number of words.
    """

    kind: ClassVar[str] = "caption"

    words: tuple[str, ...]
    length: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def choose(self, stored: Tensor, random: Tensor) -> Tensor:
        """One caption of each sample; samples with fewer captions than others are padded with empty ones."""
        import torch

        if stored.dim() == 2:
            return stored
        alternatives = (stored[:, :, 0] > 0).sum(1).clamp_min(1)
        return stored[torch.arange(len(stored), device=stored.device), random % alternatives]

    def to_network(self, stored: Tensor) -> Tensor:
        return (stored if stored.dim() == 2 else stored[:, 0]).long()

    def mirror(self, stored: Tensor) -> Tensor:
        """In a mirrored image left is right: the two words are exchanged, if the vocabulary has both."""
        import torch

        if not {"left", "right"} <= {*self.words}:
            return stored
        left, right = (self.words.index(word) + 1 for word in ("left", "right"))
        return torch.where(stored == left, right, torch.where(stored == right, left, stored)).to(stored.dtype)

    def encode(self, text: str) -> list[int]:
        """The numbers of the known words of a text, at most `length`, without padding."""
        numbers = {word: number for number, word in enumerate(self.words, 1)}
        return [numbers[word] for word in split_words(text) if word in numbers][: self.length]

    def ignored(self, text: str) -> list[str]:
        """The words of a text that `encode` leaves out: unknown ones, and those beyond `length`."""
        known = {*self.words}
        split = split_words(text)
        return [word for word in split if word not in known] + [word for word in split if word in known][self.length :]

    def decode(self, numbers: Sequence[int]) -> str:
        """The words with these numbers."""
        return " ".join(self.words[number - 1] for number in numbers if number > 0)

    def parse(self, value: Any) -> Tensor:
        import torch

        numbers = self.encode(str(value))
        if not numbers:
            raise LeafwingError(
                f"caption {str(value)!r}: this run knows none of its words, but {len(self.words)} others: "
                f"{', '.join(self.words[:20])}{' ...' * (len(self.words) > 20)}"
            )
        return torch.tensor(numbers + [0] * (self.length - len(numbers)))

    def to_plain(self, stored: np.ndarray) -> list[Any]:
        rows = stored if stored.ndim == 2 else stored[:, 0]
        return [self.decode(row) for row in rows.tolist()]

    def from_plain(self, values: Sequence[Any]) -> np.ndarray:
        import numpy as np

        rows = [self.encode(text) for text in values]
        return np.array([row + [0] * (self.length - len(row)) for row in rows], np.int64).reshape(-1, self.length)

    def __str__(self) -> str:
        return f"caption ({len(self.words)} words, at most {self.length} each)"


@dataclass(frozen=True)
class Box(Field):
    """A bounding box: float32 (n, 4), left, top, width and height as fractions of the image, which resizing does not change."""

    kind: ClassVar[str] = "box"

    @property
    def shape(self) -> tuple[int, ...]:
        return (4,)

    def mirror(self, stored: Tensor) -> Tensor:
        import torch

        left, top, width, height = stored.unbind(1)
        return torch.stack([1 - left - width, top, width, height], 1)

    def crop(self, stored: Tensor, window: Window) -> Tensor:
        """What is left of each box; at the edge, without an area, if nothing is."""
        import torch

        corners = torch.stack([stored[:, :2], stored[:, :2] + stored[:, 2:]], 1)
        first, last = crop_points(corners, window).clamp(0, 1).unbind(1)
        return torch.cat([first, last - first], 1)

    def parse(self, value: Any) -> Tensor:
        expected = "left, top, width and height as fractions of the image, as in .2,.2,.5,.5"
        box = _numbers(value, 4, expected)
        left, top, width, height = box.tolist()
        if min(left, top) < 0 or min(width, height) <= 0 or max(left + width, top + height) > 1 + 1e-6:
            raise LeafwingError(f"box {value}: must lie inside the image: {expected}")
        return box

    def from_plain(self, values: Sequence[Any]) -> np.ndarray:
        return super().from_plain(values).astype("float32").reshape(-1, 4)

    def __str__(self) -> str:
        return "box"


@dataclass(frozen=True)
class Keypoints(Field):
    """Named points: float32 (n, points, 3), x and y as fractions of the image, and 1 if visible, else 0.

    Args:
        names: names of the points, in order. Mirroring exchanges `left_eye` and `right_eye`, `LeftEye` and `RightEye`, and so on.
    """

    kind: ClassVar[str] = "keypoints"

    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names), 3)

    def mirror(self, stored: Tensor) -> Tensor:
        names = [name.lower() for name in self.names]
        names = names if len({*names}) == len(names) else [*self.names]
        mirrored = [re.sub("left|right", lambda side: "right" if side[0] == "left" else "left", name) for name in names]
        order = [names.index(other) if other in names else i for i, other in enumerate(mirrored)]
        points = stored[:, order].clone()
        points[..., 0] = 1 - points[..., 0]
        return points

    def crop(self, stored: Tensor, window: Window) -> Tensor:
        """Points outside of the window are moved to its edge and become invisible."""
        import torch

        places = crop_points(stored[..., :2], window)
        inside = places.clamp(0, 1)
        visible = stored[..., 2:] * (inside == places).all(-1, keepdim=True)
        return torch.cat([inside, visible], -1)

    def parse(self, value: Any) -> Tensor:
        import torch

        expected = f"x and y of {', '.join(self.names)} as fractions of the image, 2 numbers each"
        points = _numbers(value, 2 * len(self.names), expected).reshape(-1, 2)
        return torch.cat([points, torch.ones(len(points), 1)], 1)

    def from_plain(self, values: Sequence[Any]) -> np.ndarray:
        return super().from_plain(values).astype("float32").reshape(-1, len(self.names), 3)

    def __str__(self) -> str:
        return f"keypoints ({', '.join(self.names)})"


KINDS: dict[str, type[Field]] = {
    kind.kind: kind for kind in (Image, Clip, Mask, Segmentation, Vector, Label, Attributes, Caption, Box, Keypoints)
}
"""All kinds of fields by name."""

MAX_SIDE = 65_536
"""The largest number of rows, columns, channels, frames, components or words in the description of a field."""


def from_dict(plain: Mapping[str, Any]) -> Field:
    """The inverse of `Field.as_dict`.

    Raises:
        ValueError: not a field.
    """
    import msgspec

    if not isinstance(plain, Mapping) or plain.get("kind") not in KINDS:
        raise ValueError(f"not a field: {plain}")
    field = msgspec.convert({key: value for key, value in plain.items() if key != "kind"}, KINDS[plain["kind"]])
    for name, value in vars(field).items():
        if isinstance(value, int) and not 1 <= value <= MAX_SIDE:
            raise ValueError(f"{name} of {describe_kind(field)} is {value}, not from 1 to {MAX_SIDE}")
    return field


def describe_kind(kind: Field | type[Field]) -> str:
    """A kind of field in words, with its article: "an image", "attributes"."""
    name = kind.kind
    return name if name.endswith("s") else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def plural(kind: type[Field]) -> str:
    """The name of a kind in the plural: "images", "boxes", "attributes"."""
    name = kind.kind
    return name if name.endswith("s") else f"{name}{'es' if name.endswith('x') else 's'}"


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"\w+", text.lower())


def _numbers(value: Any, count: int, expected: str) -> Tensor:
    """Numbers from text separated by commas, or from a sequence: float32 (count,)."""
    import torch

    parts = value.split(",") if isinstance(value, str) else value
    try:
        numbers = torch.tensor([real(part) if isinstance(part, str) else float(part) for part in parts])
    except (TypeError, ValueError):
        raise LeafwingError(f"{value!r}: give {expected}") from None
    if len(numbers) != count or not numbers.isfinite().all():
        raise LeafwingError(f"{value!r}: give {expected}")
    return numbers
