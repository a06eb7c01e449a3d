r"""Block Gibbs sampling: each block of variables in turn is drawn from its distribution given all others.

The joint density of the blocks is invariant. Source: Stochastic relaxation, Gibbs distributions, and the Bayesian
restoration of images (Geman & Geman, 1984), section X.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor


def block_gibbs(
    blocks: Sequence[Tensor], conditionals: Sequence[Callable[..., Tensor]], *, sweeps: int
) -> Iterator[list[Tensor]]:
    """Yields the blocks after each sweep.

    Args:
        blocks: The initial state of each block. That of the first is not looked at.
        conditionals: For each block a function of all blocks that draws it given the others.

    Example:
        >>> import torch
        >>> start = [torch.tensor(0), torch.tensor(3)]
        >>> first, second = (lambda a, b: b + 1), (lambda a, b: 2 * a)
        >>> [[int(x) for x in state] for state in block_gibbs(start, [first, second], sweeps=2)]
        [[4, 8], [9, 18]]
    """
    state = list(blocks)
    for _ in range(sweeps):
        for k, conditional in enumerate(conditionals):
            state[k] = conditional(*state)
        yield list(state)
