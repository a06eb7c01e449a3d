r"""Invertible maps with log-determinants, of which a flow is composed.

Every transform is a module with ``forward(x, c)`` and ``inverse(z, c)``; c is an embedded condition or None, and a
transform that does not depend on a condition ignores it. A composition, an inverse and a conditioned transform are
transforms too, so a flow is defined by a list of transforms:

>>> import torch
>>> from torch import nn
>>> from dgm.transforms import AffineCoupling, Composition, Permutation, checkerboard
>>> kept = checkerboard((4,))
>>> flow = Composition([AffineCoupling(kept, nn.Linear(4, 8)), Permutation([3, 2, 1, 0])])
>>> z, ladj = flow(torch.zeros(2, 4))
>>> x, minus_ladj = flow.inverse(z)
"""

from dgm.transforms.autoregressive import Autoregressive
from dgm.transforms.causal import CausalAffine, Patches
from dgm.transforms.coupling import AffineCoupling, ChannelCoupling, VectorCoupling, alternating, checkerboard
from dgm.transforms.elementwise import Exp, Logit, Scaled, to_real_numbers
from dgm.transforms.linear import ActNorm, InvertibleLinear, Permutation, Squeeze
from dgm.transforms.normal_scores import NormalScores
from dgm.transforms.planar import Planar, Radial
from dgm.transforms.residual import Residual
from dgm.transforms.scales import FirstHalf, convolutional_prior, glow_steps, multi_scale
from dgm.transforms.splines import RationalQuadratic
from dgm.transforms.transform import Composition, Conditioned, Flattened, Inverse, Transform
from dgm.transforms.univariate import Affine, Shift, Univariate

__all__ = [
    "ActNorm",
    "Affine",
    "AffineCoupling",
    "Autoregressive",
    "CausalAffine",
    "ChannelCoupling",
    "Composition",
    "Conditioned",
    "Exp",
    "FirstHalf",
    "Flattened",
    "Inverse",
    "InvertibleLinear",
    "Logit",
    "NormalScores",
    "Patches",
    "Permutation",
    "Planar",
    "Radial",
    "RationalQuadratic",
    "Residual",
    "Scaled",
    "Shift",
    "Squeeze",
    "Transform",
    "Univariate",
    "VectorCoupling",
    "alternating",
    "checkerboard",
    "convolutional_prior",
    "glow_steps",
    "multi_scale",
    "to_real_numbers",
]
