"""A pass of expectation maximisation and a kernel density estimate, beside scikit-learn's, in seconds of CPU time."""

from __future__ import annotations

import math
import time
import warnings
from functools import partial

import torch
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from threadpoolctl import threadpool_limits
from timing import figure, in_turn, no_arguments, seconds

import dgm
from dgm.models.mixture.gmm import GMM
from dgm.models.mixture.kde import KDE

ROUNDS, PASSES = 5, 5
TRAIN, TEST, D = 60_000, 10_000, 784
FRACTION = 20  # of the test points that scikit-learn evaluates, 1 / FRACTION


def mixture(components: int, d: int, n: int, covariance: str) -> None:
    """Seconds a pass, from the same start, without a stop."""
    x = torch.randn(n, d, dtype=torch.float64) + 2 * torch.randn(components, d)[torch.arange(n) % components]
    config = {"components": components, "covariance": covariance, "ridge": 1e-6, "shrinkage": 0.0}
    batches = [(part, None) for part in x.split(2048)]
    model = GMM(dgm.Space.continuous((d,)), GMM.Config(**config))
    model.start(batches)

    def ours() -> None:
        for _ in range(PASSES):
            model.maximise(*model.expect(batches))

    name = {"diagonal": "diag"}.get(covariance, covariance)
    peer = GaussianMixture(components, covariance_type=name, max_iter=1, init_params="random").fit(x.numpy())

    def theirs() -> None:
        """The body of the loop of its fit."""
        for _ in range(PASSES):
            log_prob_norm, log_resp = peer._e_step(x.numpy())
            peer._m_step(x.numpy(), log_resp)
            peer._compute_lower_bound(log_resp, log_prob_norm)

    what = f"a pass of EM, {covariance}, K = {components}, D = {d}, {n:,} points; peer: scikit-learn"
    with torch.no_grad():
        in_turn(
            what,
            *(lambda work=work: seconds(work, time.process_time) / PASSES for work in (ours, theirs)),
            rounds=ROUNDS,
            unit="ms",
        )


@torch.no_grad()
def density() -> None:
    """Of MNIST's size; scikit-learn's time is of a part of the test points, times the number of parts."""
    train, test = torch.rand(TRAIN, D), torch.rand(TEST, D)
    model = KDE(dgm.Space.continuous((D,)), KDE.Config(bandwidth=1.0))
    for _ in model.fit([(train, None)]):
        pass
    ours = seconds(partial(dgm.log_likelihood, model, test), time.process_time)
    peer = KernelDensity(bandwidth=1.0).fit(train.double().numpy())
    part = test[: math.ceil(TEST / FRACTION)].double().numpy()
    theirs = FRACTION * seconds(partial(peer.score_samples, part), time.process_time)
    what = f"KDE of {TEST:,} on {TRAIN:,} points, D = {D}; peer: scikit-learn, {FRACTION} times a {FRACTION}th"
    figure(what, ours, theirs, "s")


def main() -> None:
    warnings.simplefilter("ignore")  # that scikit-learn's passes did not converge
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a second thread that waits counts as CPU time too
    threadpool_limits(1)
    for covariance in ("full", "diagonal", "tied", "spherical"):
        mixture(10, 32, 10_000, covariance)
    mixture(20, 64, 5_000, "full")
    density()


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
