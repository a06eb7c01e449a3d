"""An epoch of an RBM beside scikit-learn's, and its annealed importance sampling beside the matrix products of it.

Both sides are measured in processor time of one thread, which other work on the machine changes less.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.neural_network import BernoulliRBM
from threadpoolctl import threadpool_limits
from timing import in_turn, no_arguments, seconds
from torch import Tensor

import dgm
from dgm.data import Dataset, Split
from dgm.models.energy.rbm import CHAINS, RBM
from dgm.space import Space
from dgm.training import fit

SPACE = Space.binary((1, 28, 28))
HIDDEN, BATCHES, EXAMPLES, LR, ROUNDS = 500, (100, 500), 5000, 0.01, 7
TEMPERATURES, OF = 145, 14_500  # a hundredth of the published number, in each round


def examples() -> Tensor:
    """Binary images with pixels on in a third of the places."""
    return (torch.rand(EXAMPLES, *SPACE.shape, generator=torch.Generator().manual_seed(0)) < 1 / 3).to(torch.uint8)


def epochs(x: Tensor, precision: str, batch: int) -> Iterator[Any]:
    """One step of training after another, with persistent chains and one Gibbs sweep, as scikit-learn has it."""
    data = Dataset(name="bits", space=SPACE, train=Split(x), validation=Split(x[:8]), test=Split(x[:8]), split="none")
    model = dgm.create("rbm", SPACE, hidden=HIDDEN, chains=batch)
    plain = {"optimiser": "sgd", "betas": (0.0, 0.0), "ema": 0.0, "clip": 0.0}
    yield from fit(model, data, steps=10**6, batch=batch, lr=LR, precision=precision, **plain)


def of_scikit_learn(x: Tensor, dtype: Any, batch: int) -> Callable[[], Any]:
    peer = BernoulliRBM(HIDDEN, learning_rate=LR, batch_size=batch, n_iter=1, random_state=0)
    flat = x.flatten(1).numpy().astype(dtype)
    return lambda: peer.fit(flat)


def main() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)  # a second thread that waits counts as processor time too
    warnings.filterwarnings("ignore")
    x = examples()
    for batch, precision in itertools.product(BATCHES, ("32-true", "bf16-mixed")):
        steps = epochs(x, precision, batch)

        def ours(steps: Iterator[Any] = steps, of_epoch: int = EXAMPLES // batch) -> float:
            return seconds(lambda: [next(steps) for _ in range(of_epoch)], time.process_time)

        ours()
        for dtype in (np.float64, np.float32):
            peer = of_scikit_learn(x, dtype, batch)
            in_turn(
                f"RBM ({HIDDEN} hidden, 28×28, batch {batch}, k = 1) in {precision}, an epoch of {EXAMPLES:,}; peer: "
                f"scikit-learn's BernoulliRBM in {np.dtype(dtype).name}",
                ours,
                lambda peer=peer: seconds(peer, time.process_time),
                rounds=ROUNDS,
            )
    annealing(x)


@torch.no_grad()
def annealing(x: Tensor) -> None:
    """Forward, and the two products of each temperature alone: of visible and of hidden units with the weights."""
    model = RBM(SPACE, RBM.Config(hidden=HIDDEN))
    model.initialise(x)
    v, h = torch.rand(CHAINS, SPACE.dim), torch.rand(CHAINS, HIDDEN)
    share = OF / TEMPERATURES

    def products() -> None:
        for _ in range(TEMPERATURES):
            torch.addmm(model.b, v, model.W)
            torch.addmm(model.a, h, model.W.mT)

    in_turn(
        f"AIS of an RBM ({HIDDEN} hidden, 28×28), {CHAINS} chains, {OF:,} temperatures (from {TEMPERATURES}); peer: "
        "its matrix products",
        lambda: share * seconds(lambda: model.log_z_weights(temperatures=TEMPERATURES), time.process_time),
        lambda: share * seconds(products, time.process_time),
        rounds=ROUNDS,
    )


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
