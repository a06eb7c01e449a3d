"""Spaces of examples and conditions: shape, values, and the measure of densities."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, get_args

from dgm.errors import BadInput, UnknownName
from dgm.inputs import brief, number, of_type, tensor, whole

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

KindOfSpace = Literal["binary", "levels", "tokens", "categories", "continuous", "record"]
WHOLE = 2**53  # largest integer up to which float64, the dtype of records, represents all integers
SHOWN = 4  # parts of a record that `str` names


@dataclass(frozen=True, kw_only=True)
class Space:
    """The space of examples or of conditions. Build one by `binary`, `levels`, `tokens`, `categories`,
    `continuous` or `record`.

    Densities on discrete spaces are with respect to counting measure, so log p(x) is the log of a probability. On
    continuous spaces they are with respect to Lebesgue measure in the units of the data: a model that rescales x adds
    the log-determinant. On a record they are with respect to the product measure of its parts. An optional part is the
    disjoint union of the value "missing", with counting measure, and the values of the part: with m the set of missing
    parts, log p(x) is log P(m) + log p(observed values | m), a probability for m and a density for observed values.

    Attributes:
        shape: Shape of one example, without the batch: (C, H, W), (D,), (L,), or () for a single number.
        kind: ``binary`` and ``levels`` are ordered integers 0 … values - 1; ``tokens`` (the symbols of a sequence) and
            ``categories`` (labels) are unordered ones.
        values: Number of values of each dimension; None for continuous spaces.
        low, high: Bounds of a continuous space, equal for all dimensions; None if unbounded.
        loc, scale: Location and scale of real numbers, or of the integers of a record, one number for each dimension
            (flattened), by which models standardise; empty for 0 and 1.
        optional: Whether the values of a part of a record may be missing. Missing values are NaN, all of a part
            together.
        parts: The names and the spaces of a record's parts; empty for anything else.

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
    optional: bool = False
    parts: tuple[tuple[str, Space], ...] = ()

    def __post_init__(self) -> None:
        keep = partial(object.__setattr__, self)
        if self.kind not in get_args(KindOfSpace):
            raise UnknownName.of("kind of space", str(self.kind), get_args(KindOfSpace))
        if self.kind == "record" or self.parts:
            keep("parts", checked_parts(self.kind, self.parts))
            keep("shape", (sum(part.dim for _, part in self.parts),))
        of_type("optional", self.optional, bool, "say True where values may be missing")
        keep("shape", tuple(whole("a size", size) for size in listed("a shape", self.shape)))
        if any(size < 1 for size in self.shape):
            wrong = f"a space needs a shape of positive sizes, got {self.shape}"
            raise BadInput(wrong, "give one example's shape, such as (1, 28, 28), or () for a single number")
        fewest = 1 if self.kind == "categories" else 2  # a data set may have one label
        if self.kind not in ("continuous", "record") and (
            self.values is None or whole("the number of values", self.values) < fewest
        ):
            wrong = f"a {self.kind} space needs at least {fewest} values, got {self.values}"
            raise BadInput(wrong, "give the number of values of each dimension")
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
    def binary(cls, shape: tuple[int, ...], *, optional: bool = False) -> Space:
        """Zeros and ones, stored as uint8."""
        return cls(shape=shape, kind="binary", values=2, optional=optional)

    @classmethod
    def levels(
        cls,
        shape: tuple[int, ...],
        values: int,
        *,
        loc: tuple[float, ...] = (),
        scale: tuple[float, ...] = (),
        optional: bool = False,
    ) -> Space:
        """Ordered integers 0 … values - 1, such as the 256 grey levels, stored as uint8 where they fit."""
        return cls(shape=shape, kind="levels", values=values, loc=loc, scale=scale, optional=optional)

    @classmethod
    def tokens(cls, shape: int | tuple[int, ...], vocabulary: int) -> Space:
        """Unordered symbols 0 … vocabulary - 1, stored as int64: sequences of a given length, or of any shape."""
        return cls(shape=(shape,) if isinstance(shape, int) else shape, kind="tokens", values=vocabulary)

    @classmethod
    def categories(cls, values: int, shape: tuple[int, ...] = (), *, optional: bool = False) -> Space:
        """Unordered labels 0 … values - 1, stored as int64: one for each example, or of any shape."""
        return cls(shape=shape, kind="categories", values=values, optional=optional)

    @classmethod
    def continuous(
        cls,
        shape: tuple[int, ...],
        *,
        low: float | None = None,
        high: float | None = None,
        loc: tuple[float, ...] = (),
        scale: tuple[float, ...] = (),
        optional: bool = False,
    ) -> Space:
        """Real numbers, stored as float32."""
        return cls(shape=shape, kind="continuous", low=low, high=high, loc=loc, scale=scale, optional=optional)

    @classmethod
    def record(cls, /, **parts: Space) -> Space:
        """Named parts, such as the columns of a table: a batch is one float64 tensor (B, D), the concatenation of
        the flattened parts, with NaN for missing values.

        Example:
            >>> row = Space.record(age=Space.levels((), 120), pay=Space.continuous((), optional=True))
            >>> row.split(row.check([[41.0, 1200.5], [17.0, float("nan")]]))["age"]
            tensor([41, 17], dtype=torch.uint8)
        """
        return cls(shape=(), kind="record", parts=tuple(parts.items()))

    @property
    def discrete(self) -> bool:
        """Whether densities are with respect to counting measure."""
        if self.kind == "record":
            return all(part.discrete for _, part in self.parts)
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
        """The dtype of a tensor of examples."""
        import torch

        if self.kind == "record" or self.optional:
            return torch.float64
        if not self.discrete:
            return torch.float32
        return torch.uint8 if self.kind in ("binary", "levels") and (self.values or 0) <= 256 else torch.int64

    def check(self, x: torch.Tensor | ArrayLike) -> torch.Tensor:
        """Checks that the shape, type and range of ``x`` are those of a batch of this space, and returns it.

        An array or a nested list is converted to a tensor.

        Raises:
            BadInput: With the expected and the actual property.
        """
        x = tensor("the batch", x)
        if x.ndim == 0 or tuple(x.shape[1:]) != self.shape:
            wrong = f"expected examples of shape {self.shape}, got {tuple(x.shape[1:])}"
            raise BadInput(wrong, "give a batch (B, *shape) of this space")
        if self.kind == "record":
            return self._checked_by_parts(x)
        if x.is_complex() or self.discrete == x.is_floating_point():
            wrong = f"expected {'integers' if self.discrete else 'floats'} for a {self.kind} space, got {x.dtype}"
            raise BadInput(wrong, "convert the batch")
        if len(x) == 0:
            return x
        least, most = x.min().item(), x.max().item()
        if not (math.isfinite(least) and math.isfinite(most)):
            raise BadInput("the batch contains NaN or infinity", "remove or fill those examples")
        low, high = (0, self.values - 1) if self.values is not None else self.bounds or (-math.inf, math.inf)
        if not (low <= least and most <= high):
            wrong = f"expected values from {low} to {high}, got {least} to {most}"
            raise BadInput(wrong, "rescale the batch or change the space")
        return x

    def _checked_by_parts(self, x: torch.Tensor) -> torch.Tensor:
        if not x.is_floating_point():
            raise BadInput(f"expected floats for a record, got {x.dtype}", "join its parts by Space.join")
        for name, part in self.parts:
            values = x[:, self.places[name]]
            if not part.optional and values.isnan().any():
                raise BadInput(f"a value of '{name}' is missing", "fill it, or make that part optional")
            if (values.isnan().any(1) != values.isnan().all(1)).any():
                raise BadInput(f"some values of one '{name}' are missing and others are not", "drop all of them")
            known = values[~values.isnan().any(1)]
            if part.discrete and (known != known.round()).any():
                raise BadInput(f"expected whole numbers for '{name}', of a {part.kind} space", "round them")
            try:
                part.check((known.long() if part.discrete else known).reshape(-1, *part.shape))
            except BadInput as error:
                wrong = f"'{name}': {str(error).rpartition('; ')[0]}"
                raise BadInput(wrong, "correct those values or change the space") from error
        return x

    @property
    def places(self) -> dict[str, slice]:
        """The columns of each part in the batch of a record."""
        ends = list(accumulate(part.dim for _, part in self.parts))
        return {name: slice(end - part.dim, end) for (name, part), end in zip(self.parts, ends, strict=True)}

    def split(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parts of a record's batch (B, D), each (B, *shape) in the dtype of the part, which is float64 with NaN
        for
        missing values where the part is optional.
        """
        parts = dict(self.parts)
        return {
            name: x[:, place].reshape(len(x), *parts[name].shape).to(parts[name].dtype)
            for name, place in self.places.items()
        }

    def join(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """A record's batch (B, D), float64, of its parts: the inverse of `split`.

        Raises:
            BadInput: For missing or unknown parts.
        """
        import torch

        if parts.keys() != self.places.keys():
            wrong = f"expected the parts {', '.join(self.places)}, got {', '.join(parts)}"
            raise BadInput(wrong, "give each part of the record once")
        return torch.cat([parts[name].reshape(len(parts[name]), -1).double() for name in self.places], 1)

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        document: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
            if key == "shape" or (value is not False and value not in (None, ()))
        }
        if self.parts:
            document["parts"] = {name: part.to_json() for name, part in self.parts}
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Space:
        of_type("a space", document, dict, "give the result of Space.to_json")
        names = {field.name for field in fields(cls)}
        for key in document:
            if key not in names:
                raise UnknownName.of("field of a space", key, names)
        if not {"shape", "kind"} <= document.keys():
            raise BadInput("a space needs a shape and a kind", "give the result of Space.to_json")
        if "parts" in document:
            of_type("the parts of a space", document["parts"], dict, "give the result of Space.to_json")
            parts = tuple((name, cls.from_json(part)) for name, part in document["parts"].items())
            document = {**document, "parts": parts}
        return cls(**document)

    def __str__(self) -> str:
        if self.kind == "record":
            names = [name for name, _ in self.parts]
            return f"record of {', '.join(names[:SHOWN])}" + (
                f" and {more} more" if (more := len(names[SHOWN:])) else ""
            )
        size = " " + "×".join(map(str, self.shape)) if self.shape else ""
        held = f", {self.values} values" if self.kind in ("levels", "tokens", "categories") else ""
        bounds = f" in [{self.low:g}, {self.high:g}]" if self.bounds else ""
        return f"{self.kind}{size}{held}{bounds}" + (" or missing" if self.optional else "")


def checked_parts(kind: str, parts: Any) -> tuple[tuple[str, Space], ...]:
    """Checks the parts of a record, and returns them."""
    if kind != "record":
        raise BadInput(f"a {kind} space has no parts", "build one by Space.record")
    if not parts:
        raise BadInput("a record needs at least one part", "give it as Space.record(age=Space.levels((), 120))")
    for name, part in parts:
        of_type(f"the part '{name}' of a record", part, Space, "give a Space, such as Space.levels((), 120)")
        if part.kind == "record":
            raise BadInput(f"the part '{name}' of a record is itself a record", "give its parts to the outer one")
        if (part.values or 0) > WHOLE:
            raise BadInput(f"the part '{name}' of a record has {part.values} values", f"give at most {WHOLE}")
    return tuple(parts)


def listed(what: str, value: Any) -> list[Any]:
    """The items of a list, a tuple, or a one-dimensional array."""
    if isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) != 1:
        raise BadInput(
            f"{what} must be a list of numbers, got {brief(value)}", "give it as a tuple, such as (1, 28, 28)"
        )
    return value.tolist() if hasattr(value, "tolist") else list(value)
