r"""Mixtures of Gaussians: densities, samples, and the exact distribution of some dimensions given the others.

The K components are given by log pi (K,), means (K, D) and the roots of their covariances. A root is the Cholesky
factor of a covariance, (K, D, D) or (1, D, D) where all components share it, or the standard deviations of independent
dimensions, (K, D) or (K, 1) where all dimensions share one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dgm.seeds import Streams, categorical

# of one matrix product: columns of its result, those of several components, numbers of it, and rows
COLUMNS, TOGETHER, ROWS = 256, 1 << 17, 512
RIDGE = 1e-9  # relative to the largest variance: a conditional covariance may be singular up to rounding


class Gaussians(NamedTuple):
    """The components of a mixture.

    Example:
        >>> one = Gaussians(torch.zeros(1), torch.zeros(1, 2), torch.ones(1, 1))
        >>> one.log_prob(torch.zeros(3, 2))
        tensor([-1.8379, -1.8379, -1.8379])
    """

    log_weights: Tensor
    means: Tensor
    roots: Tensor

    def log_joint(self, z: Tensor, powers: Tensor | None = None) -> Tensor:
        """log pi_k + log N(z; mu_k, Sigma_k) of points (B, D), as (B, K).

        Args:
            powers: `second_powers` of z and the roots, where they are known; not of matrices.
        """
        if self.roots.ndim == 3:
            squares, log_det = self.matrices(z)
        else:
            squares, log_det = self.variances(z, second_powers(z, self.roots) if powers is None else powers)
        constant = 0.5 * z.shape[1] * math.log(2 * math.pi)
        return torch.sub(self.log_weights - log_det - constant, squares, alpha=0.5)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.log_joint(z).logsumexp(1)

    def marginal(self, seen: Tensor) -> Gaussians:
        """Of the dimensions that are ``seen``, bool (D,)."""
        means = self.means[:, seen]
        if self.roots.ndim == 2:
            return Gaussians(self.log_weights, means, self.roots.expand_as(self.means)[:, seen])
        covariances = (self.roots @ self.roots.mT)[:, seen][:, :, seen]
        return Gaussians(self.log_weights, means, torch.linalg.cholesky(covariances))

    def log_prob_observed(self, z: Tensor, observed: Tensor) -> Tensor:
        """log p(z_o) of the observed dimensions of each point, (B,).

        Args:
            z: (B, D); the values of unobserved numbers are not used.
            observed: bool (B, D).
        """
        log_p = z.new_zeros(len(z))
        patterns, which = observed.unique(dim=0, return_inverse=True)
        for i, seen in enumerate(patterns):
            rows = (which == i).nonzero()[:, 0]
            if seen.any():
                log_p[rows] = self.marginal(seen).log_prob(z[rows][:, seen])
        return log_p

    def matrices(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """||L_k^-1 (z - mu_k)||^2 (B, K), and log det L_k (K or 1,)."""
        log_det = self.roots.diagonal(dim1=1, dim2=2).log().sum(1)
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        whiten = torch.linalg.solve_triangular(self.roots, eye, upper=False).mT
        if len(self.roots) == 1:
            return squared_distances(z @ whiten[0], self.means @ whiten[0]), log_det
        shift = (self.means[:, None] @ whiten)[:, 0]
        blocks = []
        for points in z.split(rows_together(*whiten.shape[:2])):
            found = [
                torch.addmm(-shift[k].flatten(), points, beside(whiten[k])).square_().unflatten(1, (len(k), -1)).sum(2)
                for k in components_together(*whiten.shape[:2])
            ]
            blocks.append(torch.cat(found, 1))
        return torch.cat(blocks), log_det

    def variances(self, z: Tensor, powers: Tensor) -> tuple[Tensor, Tensor]:
        """||(z - mu_k) / sigma_k||^2 (B, K), and the sum of log sigma_k (K,).

        By matrix products: of z^2 with 1 / sigma^2, of z with -2 mu / sigma^2, and mu^2 / sigma^2.
        """
        precision = self.roots.square().reciprocal()
        scaled = self.means * precision
        # (K, B) in memory, so that sums over the components of many points are fast
        squares = torch.addmm((self.means * scaled).sum(1, keepdim=True), scaled, z.mT, alpha=-2)
        squares = squares.addmm_(precision, powers.mT).clamp_min(0)
        return squares.mT, z.shape[1] // self.roots.shape[1] * self.roots.log().sum(1)

    def sample(self, noise: Streams) -> Tensor:
        """One point for each stream, (n, D)."""
        n, (components, d) = len(noise), self.means.shape
        k = noise.categorical(self.log_weights.expand(n, -1))
        eps = noise.normal((d, 1)).to(self.means)
        if self.roots.ndim == 2:
            return self.means[k] + self.roots[k] * eps[..., 0]
        return self.means[k] + (self.roots.expand(components, d, d)[k] @ eps)[..., 0]

    def completed(self, z: Tensor, observed: Tensor, noise: Streams) -> Tensor:
        r"""Points whose observed numbers stay and whose others are drawn from their exact distribution given those.

        With o the observed and m the other dimensions, component k has

        .. math:: p(k | z_o) \propto \pi_k N(z_o; \mu_{k,o}, \Sigma_{k,oo}), \qquad z_m | z_o, k \sim
            N(\mu_{k,m} + \Sigma_{k,mo} \Sigma_{k,oo}^{-1} (z_o - \mu_{k,o}),
            \Sigma_{k,mm} - \Sigma_{k,mo} \Sigma_{k,oo}^{-1} \Sigma_{k,om})

        Source: Supervised learning from incomplete data via an EM approach (Ghahramani & Jordan, 1993), section 3.

        Args:
            z: (B, D); the values of unobserved numbers are not used.
            observed: bool (B, D).
            noise: B streams.
        """
        u, eps, drawn = noise.uniform((1,))[:, 0], noise.normal((z.shape[1],)).to(z), z.clone()
        patterns, which = observed.unique(dim=0, return_inverse=True)
        for i, seen in enumerate(patterns):
            rows = (which == i).nonzero()[:, 0]
            if not seen.all():
                drawn[rows[:, None], ~seen] = self.given(z[rows][:, seen], seen, u[rows], eps[rows][:, ~seen])
        return drawn

    def given(self, z_o: Tensor, seen: Tensor, u: Tensor, eps: Tensor) -> Tensor:
        """z_m of points with the same observed dimensions."""
        components, d = self.means.shape
        if self.roots.ndim == 3:
            covariances = (self.roots @ self.roots.mT).expand(components, d, d)
        else:
            covariances = self.roots.square().expand(components, d).diag_embed()
        mu_o, mu_m = self.means[:, seen], self.means[:, ~seen]
        factor = torch.linalg.cholesky(covariances[:, seen][:, :, seen])
        white = torch.linalg.solve_triangular(factor, (z_o - mu_o[:, None]).mT, upper=False)  # (K, o, B)
        along = torch.linalg.solve_triangular(factor, covariances[:, seen][:, :, ~seen], upper=False)  # (K, o, m)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        k = categorical((self.log_weights - log_det - 0.5 * white.square().sum(1).mT), u)
        rest = covariances[:, ~seen][:, :, ~seen] - along.mT @ along
        ridge = RIDGE * self.roots.square().amax() * torch.eye(rest.shape[1], dtype=rest.dtype, device=rest.device)
        root = torch.linalg.cholesky(rest + ridge)
        mean = mu_m[k] + (along.mT[k] @ white.permute(2, 0, 1)[torch.arange(len(k)), k][..., None])[..., 0]
        return mean + (root[k] @ eps[..., None])[..., 0]


def components_together(components: int, d: int) -> tuple[Tensor, ...]:
    """The numbers of the components, split into those whose results of d columns each enter one matrix product."""
    return torch.arange(components).split(max(1, COLUMNS // max(1, d)))


def rows_together(components: int, d: int) -> int:
    """How many of the points (B, D) enter one matrix product, so that its result fits in a cache."""
    return max(ROWS, TOGETHER // max(1, min(components * d, COLUMNS)))


def beside(matrices: Tensor) -> Tensor:
    """Matrices (K, D, D) as one of the columns of all, (D, K D): one wide product is faster than K narrow ones."""
    return matrices.transpose(0, 1).flatten(1)


def second_powers(z: Tensor, deviations: Tensor) -> Tensor:
    """z^2 (B, D), or its sum over the dimensions (B, 1) where they share one deviation."""
    return z.square() if deviations.shape[1] > 1 else z.square().sum(1, keepdim=True)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """||a_i - b_j||^2 of (N, D) and (M, D), as (N, M)."""
    cross = torch.addmm(b.square().sum(1), a, b.mT, alpha=-2)
    return (cross + a.square().sum(1, keepdim=True)).clamp_min(0)
