"""The random numbers of a loss that several processes compute, equal to those of one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from dgm.seeds import SHARE

SIZED = {torch.rand, torch.randn, torch.randint}
OF_TENSORS = {
    torch.rand_like,
    torch.randn_like,
    torch.randint_like,
    torch.normal,
    torch.bernoulli,
    torch.multinomial,
    functional.gumbel_softmax,
}
IN_PLACE = {
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    torch.Tensor.bernoulli_,
    torch.Tensor.exponential_,
    torch.Tensor.random_,
}
DROPOUT = {functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d}


class DrawnTogether(TorchFunctionMode):
    """A context in which a process draws the random numbers of the whole batch and keeps those of its own rows.

    All processes start with one state of torch's generator and draw the same numbers, so that their states stay equal.
    A tensor belongs to the examples if its first dimension has the size of this process's share of the batch, or else
    its second one, or if the first is a multiple of it. Other numbers, such as the index of a mask, are equal in all
    processes.

    Args:
        rows: The number of examples in this process's share of the batch.
    """

    def __init__(self, rank: int, world: int, rows: int) -> None:
        super().__init__()
        self.rank, self.world, self.rows = rank, world, rows

    def __enter__(self) -> DrawnTogether:
        self.token = SHARE.set((self.rank, self.world))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        SHARE.reset(self.token)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is not None:  # a generator of its own has the same state in every process
            return func(*args, **kwargs)
        if func in SIZED:
            return self.of_size(func, args, kwargs)
        if func in OF_TENSORS:
            return self.of_tensors(func, args, kwargs)
        if func in IN_PLACE:
            return args[0].copy_(self.of_tensors(func, (args[0].detach(), *args[1:]), kwargs))
        if func in DROPOUT:
            return self.dropped(func, *args, **kwargs)
        return func(*args, **kwargs)

    def of_size(self, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Of ``rand(*size)``, ``rand(size)``, ``rand(size=size)`` and ``randint(low, high, size)``."""
        if "size" in kwargs:
            size = kwargs.pop("size")
        elif args and isinstance(args[-1], Sequence):
            *args, size = args  # type: ignore[assignment]
        else:
            args, size = (), args
        axis = self.axis(size)
        if axis is None:
            return func(*args, size, **kwargs)
        whole = [n * self.world if k == axis else n for k, n in enumerate(size)]
        return self.own(func(*args, whole, **kwargs), axis)

    def of_tensors(self, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        axes = [self.axis(value.shape) for value in args if isinstance(value, Tensor)]
        if set(axes) <= {None}:
            return func(*args, **kwargs)
        drawn = func(*(self.whole(value) if isinstance(value, Tensor) else value for value in args), **kwargs)
        return self.own(drawn, next(axis for axis in axes if axis is not None))

    def dropped(
        self, func: Callable[..., Tensor], x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        return x * self.of_tensors(func, (torch.ones_like(x), p, True), {}) if training and p else x

    def axis(self, size: Sequence[int]) -> int | None:
        """The dimension of the examples; None for a tensor of something else."""
        if self.rows in size[:2]:
            return list(size).index(self.rows)
        return 0 if len(size) and size[0] and size[0] % self.rows == 0 else None

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor of the whole batch that has the rows of this process in their places, and copies in the others."""
        axis = self.axis(tensor.shape)
        if axis is None:
            return tensor
        rows = tensor.unflatten(axis, (self.rows, -1))
        return rows.repeat_interleave(self.world, axis).flatten(axis, axis + 1)

    def own(self, tensor: Tensor, axis: int) -> Tensor:
        """The rows of this process."""
        rows = tensor.unflatten(axis, (self.rows, self.world, -1))
        return rows.select(axis + 1, self.rank).flatten(axis, axis + 1)
