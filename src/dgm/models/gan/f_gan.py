r"""f-GAN: a game for any f-divergence."""

from __future__ import annotations

from dataclasses import dataclass

from dgm.models.gan.base import AdversarialModel, Options, preset
from dgm.models.gan.objectives import ObjectiveName


class FGAN(AdversarialModel):
    r"""f-GAN: the game minimises a chosen f-divergence; no likelihood.

    .. math::
        D_f(p \| q) = E_q[f(p / q)] \ge E_p[T] - E_q[f^*(T)], \qquad T = g(V), \qquad
        L_D = f^*(g(V(G(z)))) - g(V(x)), \quad L_G = -g(V(G(z)))

    The bound is tight at T = f'(p / q), so that -L_D is then the divergence. The ``objective`` is one of ``kl``,
    ``reverse_kl``, ``pearson``, ``squared_hellinger`` and ``jensen_shannon``, whose f, f* and output activation g are
    the table `dgm.models.gan.objectives.DIVERGENCES`; with another name it is another game.

    Source: f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization (Nowozin et al., 2016),
    arXiv:1606.00709, equations 4 and 6, tables 2 and 6, and section 3.2 for L_G. Differs from it: the networks for
    images are those of `GAN` without spectral normalisation; EMA of the weights.

    Args:
        space: Any space but tokens.

    Example:
        >>> import torch
        >>> from dgm.space import Space
        >>> FGAN(Space.continuous((2,)), FGAN.Config(objective="kl", width=8)).sample(3, seed=0).shape
        torch.Size([3, 2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Options):
        objective: ObjectiveName = preset("objective", "jensen_shannon")
