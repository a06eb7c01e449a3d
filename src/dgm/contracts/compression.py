"""The law of codes of finite length: a likelihood is audited by the bits that it takes."""

from __future__ import annotations

import copy
import math

import torch

from dgm.compression.archive import Coder, in_float64
from dgm.compression.codecs import codec_of
from dgm.contracts.examples import with_condition
from dgm.contracts.outcome import require
from dgm.errors import DgmError
from dgm.likelihood import Kind, kind_of
from dgm.protocols import Model

EXAMPLES, DRAWS = 64, 30
RELATIVE, BITS = 1e-3, 64  # the cost of rounding, and of the last words of a code, at most
ERRORS = 5.0  # standard errors of a bound's draws: a false alarm in a million


def has_codec(model: Model) -> bool:
    try:
        codec_of(model)
    except DgmError:
        return False
    return True


@torch.no_grad()
def code_length_is_the_likelihood(model: Model) -> str:
    """The length of the code of samples is the likelihood, or at most the bound, and the code returns the samples."""
    model = copy.deepcopy(model)
    x, *y = with_condition(model, model.sample(*with_condition(model, EXAMPLES), seed=0))
    with in_float64(model):
        coder = Coder(model, y[0][:1] if y else None)
        block = coder.encode(x, verify=False)
        returned = torch.equal(coder.decode(block).nan_to_num(-1), x.nan_to_num(-1))
        if kind_of(model) is Kind.EXACT:
            claimed, error = -float(model.log_prob(x, *y).sum()) / math.log(2), 0.0
        else:
            draws = torch.stack([model.elbo(x, *y) for _ in range(DRAWS)]).double() / -math.log(2)
            claimed, error = float(draws.mean(0).sum()), math.sqrt(float(draws.var(0).sum()))
    bits = 32 * (len(block.words) + block.left_out - len(coder.codec.initial))
    excess = bits - claimed if kind_of(model) is not Kind.EXACT else abs(bits - claimed)
    within = excess <= RELATIVE * claimed + BITS + ERRORS * error
    return require(within and returned, f"{bits} bits, {claimed:.1f} claimed; the same samples: {returned}")
