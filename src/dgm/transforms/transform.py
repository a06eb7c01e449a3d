r"""The base class of transforms, and the composition, the inverse and the conditioning of transforms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

Mapped: TypeAlias = tuple[Float[Tensor, "batch *after"], Float[Tensor, "batch"]]


class Transform(nn.Module, ABC):
    r"""An invertible map z = f(x; c) of each example, and the log-determinant of its Jacobian.

    By the change of variables, log p(x) = log p(z) + log |det dz/dx|, in nats with respect to Lebesgue measure.
    """

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch *before"], c: Any = None) -> Mapped:
        """z = f(x; c) and log |det dz/dx|, (batch,).

        Args:
            c: The embedded condition, one row for each example; None without a condition.
        """

    @abstractmethod
    def inverse(self, z: Float[Tensor, "batch *before"], c: Any = None) -> Mapped:
        """x = f^-1(z; c) and log |det dx/dz|, (batch,)."""


class Composition(Transform, nn.ModuleList):
    """The composition of transforms; its log-determinant is their sum. Without transforms it is the identity."""

    def __init__(self, transforms: Iterable[nn.Module] = ()) -> None:
        nn.ModuleList.__init__(self, transforms)

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        return through((part.__call__ for part in self), x, c)

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        return through((part.inverse for part in reversed(self)), z, c)  # type: ignore[misc]


def through(maps: Iterable[Callable[..., Mapped]], x: Tensor, c: Any) -> Mapped:
    total = x.new_zeros(len(x))
    for apply in maps:
        x, ladj = apply(x, c)
        total = total + ladj
    return x, total


class Inverse(Transform):
    """The inverse of a transform."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        return self.transform.inverse(x, c)

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        return self.transform(z, c)


class Flattened(Transform):
    """A transform of vectors, applied to examples of any shape."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        z, ladj = self.transform(x.flatten(1), c)
        return z.reshape(x.shape), ladj

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        x, ladj = self.transform.inverse(z.flatten(1), c)
        return x.reshape(z.shape), ladj


class Conditioned(Transform):
    """A transform with a condition y in its own space; ``embedding(y)`` is the c of every part.

    Args:
        embedding: Maps a batch of conditions to the c of ``transform``; not called if y is None.
    """

    def __init__(self, transform: Transform, embedding: nn.Module) -> None:
        super().__init__()
        self.transform, self.embedding = transform, embedding

    def embedded(self, y: Any) -> Any:
        return None if y is None else self.embedding(y)

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        return self.transform(x, self.embedded(c))

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        return self.transform.inverse(z, self.embedded(c))
