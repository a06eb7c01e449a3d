"""The usage of a codebook over a whole split: entries that are no example's code, and the perplexity of the rest."""

from __future__ import annotations

from typing import Any

import torch

from dgm.data import Split
from dgm.likelihood import evaluation_batch
from dgm.modes import device_of, evaluating
from dgm.protocols import Latent, Model, condition_of, has, nested


def quantiser(model: Model) -> Model | None:
    """The model, or the part of it, whose codes are entries of a codebook."""
    parts = (part for part in nested(model) if getattr(part, "deterministic_codes", False) and has(part, Latent))
    return next(parts, None)


@torch.no_grad()
def codebook_usage(model: Model, split: Split, name: str) -> dict[str, Any] | None:
    r"""How many entries are the code of some part of an example, and :math:`\exp H` of their frequencies.

    A batch has fewer codes than a large codebook has entries, so the frequencies are those of the whole split.

    Returns:
        ``entries``, ``used``, ``perplexity``, the number of ``codes`` and the name of the ``split``; None for a model
        without a codebook.
    """
    part = quantiser(model)
    if part is None or len(split) == 0:
        return None
    counts = torch.zeros(part.latent_space.values or 0, dtype=torch.int64)
    device, conditional = device_of(part), condition_of(part) is not None
    with evaluating(part):
        for rows in torch.arange(len(split)).split(evaluation_batch(part)):
            x, y = split.batch(rows)
            z = part.encode(x.to(device), y.to(device) if conditional and y is not None else None)
            counts += z.flatten().cpu().bincount(minlength=len(counts))
    shares = counts[counts > 0].double() / counts.sum()
    perplexity = float(torch.exp(-(shares * shares.log()).sum()))
    return {
        "entries": len(counts),
        "used": len(shares),
        "perplexity": perplexity,
        "codes": int(counts.sum()),
        "split": name,
    }
