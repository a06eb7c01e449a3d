"""One random stream a sample: beside torch's own generator, and beside a generator of torch's for each sample."""

from __future__ import annotations

import math
from functools import partial

import torch
from timing import in_turn, no_arguments, seconds
from torch import Tensor

from dgm.seeds import Streams, mix

ROUNDS = 15


def one_generator_each(n: int, shape: tuple[int, ...]) -> Tensor:
    drawn = torch.empty(n, *shape)
    for k, row in enumerate(drawn):
        row.normal_(generator=torch.Generator().manual_seed(mix(0, k) >> 1))
    return drawn


def main() -> None:
    for n, shape in ((256, (3, 32, 32)), (256, (64,)), (1024, (2,))):
        size = f"{n} streams of {math.prod(shape):,} normals"
        made = partial(seconds, lambda n=n, shape=shape: Streams(0, range(n)).normal(shape))
        drawn = partial(seconds, partial(Streams(0, range(n)).normal, shape))
        in_turn(
            f"{size}, made and drawn; peer: a generator of torch's each",
            made,
            partial(seconds, partial(one_generator_each, n, shape)),
            rounds=ROUNDS,
            unit="ms",
        )
        in_turn(
            f"{size}, drawn; peer: torch.randn",
            drawn,
            partial(seconds, partial(torch.randn, n, *shape)),
            rounds=ROUNDS,
            unit="ms",
        )


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
