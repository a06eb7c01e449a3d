r"""Integer frequencies of a discrete distribution, the same on every machine that computes nearly the same logits.

A decoder needs the frequencies of the encoder to the last bit, and floating point does not give them: the order of a
sum depends on the batch size, the number of threads and the instruction set. Three measures make them equal:

- networks compute in float64, where different orders of a sum differ by about 1e-14;
- log-probabilities are rounded to multiples of 1/64 nat, so that such a difference changes a rounded value with a
  probability of about 1e-12;
- a frequency is looked up in a table of integers, made with decimal arithmetic.

.. math:: f_k = \lfloor 2^{24} e^{-q_k / 64} \rceil \vee 1, \quad q_k = \lfloor -64 \log p_k \rceil

Rounding costs at most about 1/64² / 24 = 1e-5 nats a value. The coder normalises the frequencies to 24 bits, in which
each value has at least 2^-24, so that every value can be coded.
"""

from __future__ import annotations

import zlib
from decimal import Decimal, localcontext

import numpy
import torch
from torch import Tensor

from dgm.errors import BadInput

STEPS_A_NAT = 64
BITS = 24
LAST = 17 * STEPS_A_NAT  # e^-17 is below 2^-24


def exponentials() -> numpy.ndarray:
    """round(2^24 e^(-q / 64)) of q = 0 … LAST, at least 1, as float32, which has integers up to 2^24 exactly."""
    with localcontext() as context:
        context.prec = 50
        ratio, value, table = (Decimal(-1) / STEPS_A_NAT).exp(), Decimal(2) ** BITS, []
        for _ in range(LAST + 1):
            table.append(max(1, int(value + Decimal("0.5"))))
            value *= ratio
    return numpy.array(table, dtype=numpy.float32)


TABLE = exponentials()


class Frequencies:
    """The frequencies of m values of K kinds each, and their checksum.

    Args:
        log_p: (m, K), log-probabilities in nats, float64.

    Example:
        >>> Frequencies(torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()).table.astype(int)
        array([[8436114, 8436114]])
    """

    def __init__(self, log_p: Tensor) -> None:
        if log_p.isnan().any():
            raise BadInput("the model's probabilities are not finite", "train it again, or use other weights")
        rounded = (log_p * -STEPS_A_NAT).round_().clamp_(0, LAST).to(torch.int16).contiguous().numpy()
        self.checksum = zlib.crc32(rounded.data)
        self.table = TABLE.take(rounded)  # in C order, which the coder takes for granted
        self.kinds = rounded.shape[1]


def log_interval(edges: Tensor) -> Tensor:
    """log(Phi(b) - Phi(a)) of neighbouring edges, (L, K + 1) to (L, K), as a difference in the nearer tail."""
    tail = torch.special.ndtr(-edges.abs())
    a, b, upper = tail[..., :-1], tail[..., 1:], edges[..., :-1] >= 0
    within = torch.where(edges[..., 1:] <= 0, b - a, 1 - a - b)
    return torch.where(upper, a - b, within).log()
