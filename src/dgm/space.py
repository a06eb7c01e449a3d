"""What x is: its shape, the values it takes and the measure that a density of it is taken against."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from dgm.errors import BadInput, UnknownName
from dgm.inputs import brief, number, of_type, tensor, whole

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

KindOfSpace = Literal["binary", "levels", "tokens", "categories", "continuous"]


@dataclass(frozen=True, kw_only=True)
class Space:
    """The set that examples, or their conditions, come from. Build one by `binary`, `levels`, `tokens`, `categories` or
    `continuous`.

    Discrete spaces are measured by counting, so log p(x) is the log of a probability. A continuous space is
    measured by Lebesgue measure in the data's own units: a model that rescales x owes the log-determinant.

    Attributes:
        shape: Shape of one example, without the batch: (C, H, W), (D,), (L,), or () for a single number.
        kind: ``binary`` and ``levels`` are ordered integers 0 … values - 1; ``tokens`` (the symbols of a sequence) and
            ``categories`` (labels, each with a meaning of its own) are unordered ones.
        values: How many values a dimension takes; None when continuous.
        low, high: Bounds of a continuous space, the same in every dimension; None when unbounded.
        loc, scale: A continuous space's typical location and scale, one number a dimension (flattened), so that
            models can standardise; empty for 0 and 1.

    Example:
        >>> Space.levels((1, 8, 8), 17).dim
        64
    """

    shape: tuple[int, ...]
    kind: KindOfSpace
    values: int | None = None
    low: float | None = None
    high: float | None = None
    loc: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        keep = partial(object.__setattr__, self)
        if self.kind not in get_args(KindOfSpace):
            raise UnknownName.of("kind of space", str(self.kind), get_args(KindOfSpace))
        keep("shape", tuple(whole("a size", size) for size in listed("a shape", self.shape)))
        if any(size < 1 for size in self.shape):
            wrong = f"a space needs a shape of positive sizes, got {self.shape}"
            raise BadInput(wrong, "give one example's shape, such as (1, 28, 28), or () for a single number")
        fewest = 1 if self.kind == "categories" else 2  # a data set may have one label
        if self.discrete and (self.values is None or whole("the number of values", self.values) < fewest):
            wrong = f"a {self.kind} space needs at least {fewest} values, got {self.values}"
            raise BadInput(wrong, "say how many values a dimension takes")
        keep("values", None if self.values is None else whole("the number of values", self.values))
        for end in ("low", "high"):
            keep(end, None if getattr(self, end) is None else number(f"the bound {end}", getattr(self, end)))
        if (self.low is None) != (self.high is None) or (self.bounds and self.bounds[0] >= self.bounds[1]):
            wrong = f"bounds must be low < high, got {self.low} and {self.high}"
            raise BadInput(wrong, "give both bounds in order, or neither")
        for name in ("loc", "scale"):
            keep(name, tuple(number(f"a number of {name}", one) for one in listed(name, getattr(self, name))))
        if (
            any(len(numbers) not in (0, self.dim) for numbers in (self.loc, self.scale))
            or min(self.scale, default=1) <= 0
        ):
            wrong = f"loc and scale need one number for each of {self.dim} dimensions, the scales positive"
            raise BadInput(wrong, "give them flattened")

    @classmethod
    def binary(cls, shape: tuple[int, ...]) -> Space:
        """Zeros and ones, kept as uint8."""
        return cls(shape=shape, kind="binary", values=2)

    @classmethod
    def levels(cls, shape: tuple[int, ...], values: int) -> Space:
        """Ordered integers 0 … values - 1, such as the 256 grey levels, kept as uint8 where they fit."""
        return cls(shape=shape, kind="levels", values=values)

    @classmethod
    def tokens(cls, shape: int | tuple[int, ...], vocabulary: int) -> Space:
        """Unordered symbols 0 … vocabulary - 1, kept as int64: sequences of a length, or of any shape."""
        return cls(shape=(shape,) if isinstance(shape, int) else shape, kind="tokens", values=vocabulary)

    @classmethod
    def categories(cls, values: int, shape: tuple[int, ...] = ()) -> Space:
        """Unordered labels 0 … values - 1, kept as int64: one an example, or of any shape."""
        return cls(shape=shape, kind="categories", values=values)

    @classmethod
    def continuous(
        cls,
        shape: tuple[int, ...],
        *,
        low: float | None = None,
        high: float | None = None,
        loc: tuple[float, ...] = (),
        scale: tuple[float, ...] = (),
    ) -> Space:
        """Real numbers, kept as float32."""
        return cls(shape=shape, kind="continuous", low=low, high=high, loc=loc, scale=scale)

    @property
    def discrete(self) -> bool:
        return self.kind != "continuous"

    @property
    def bounds(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def dim(self) -> int:
        """D, the number of dimensions of one example."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """How a tensor of examples is kept."""
        import torch

        if not self.discrete:
            return torch.float32
        return torch.uint8 if self.kind in ("binary", "levels") and (self.values or 0) <= 256 else torch.int64

    def check(self, x: torch.Tensor | ArrayLike) -> torch.Tensor:
        """``x`` itself, once its shape, type and range are known to be those of a batch of this space.

        An array or a nested list becomes a tensor.

        Raises:
            BadInput: With what was expected and what came.
        """
        x = tensor("the batch", x)
        if x.ndim == 0 or tuple(x.shape[1:]) != self.shape:
            wrong = f"expected examples of shape {self.shape}, got {tuple(x.shape[1:])}"
            raise BadInput(wrong, "give a batch (B, *shape) of this space")
        if x.is_complex() or self.discrete == x.is_floating_point():
            wrong = f"expected {'integers' if self.discrete else 'floats'} for a {self.kind} space, got {x.dtype}"
            raise BadInput(wrong, "convert the batch")
        if len(x) == 0:
            return x
        least, most = x.min().item(), x.max().item()
        if not (math.isfinite(least) and math.isfinite(most)):
            raise BadInput("the batch holds NaN or infinity", "drop or fill those examples")
        low, high = (0, self.values - 1) if self.values is not None else self.bounds or (-math.inf, math.inf)
        if not (low <= least and most <= high):
            wrong = f"expected values from {low} to {high}, got {least} to {most}"
            raise BadInput(wrong, "rescale the batch or change the space")
        return x

    def to_json(self) -> dict[str, Any]:
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if key == "shape" or value not in (None, ())
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Space:
        of_type("a space", document, dict, "give what Space.to_json gave")
        names = {field.name for field in fields(cls)}
        for key in document:
            if key not in names:
                raise UnknownName.of("field of a space", key, names)
        if not {"shape", "kind"} <= document.keys():
            raise BadInput("a space needs a shape and a kind", "give what Space.to_json gave")
        return cls(**document)

    def __str__(self) -> str:
        size = " " + "×".join(map(str, self.shape)) if self.shape else ""
        held = f", {self.values} values" if self.kind in ("levels", "tokens", "categories") else ""
        return f"{self.kind}{size}{held}" + (f" in [{self.low:g}, {self.high:g}]" if self.bounds else "")


def listed(what: str, value: Any) -> list[Any]:
    """The items of a list, a tuple, or an array of one dimension."""
    if isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) != 1:
        raise BadInput(
            f"{what} must be a list of numbers, got {brief(value)}", "give it as a tuple, such as (1, 28, 28)"
        )
    return value.tolist() if hasattr(value, "tolist") else list(value)
