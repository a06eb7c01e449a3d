r"""Anomaly detection: scores that are larger for other data than for held-out data of the model, and their AUROC.

A likelihood alone fails: models of colourful images give plain ones a higher density. Several scores are therefore
measured side by side, each one larger for an anomaly:

================  ======================================================  ==========================================
score             value                                                   source
================  ======================================================  ==========================================
log p             -log p(x), of any kind of likelihood                    Bishop, 1994
typicality        \|log p(x) - mean of log p of training data\|             Nalisnick et al., 2019, arXiv:1906.02994
complexity        -log p(x) - the length of a compressed file of x         Serrà et al., 2020, arXiv:1909.11480, eq. 1
gradient          \|\|d log p(x) / dz\|\|, z the scaled x                     Grathwohl et al., 2020, section 5.3
reconstruction    the squared error of decode(encode(x))                  An & Cho, 2015
confidence        -max p(y\|x) of a classifier                             Hendrycks & Gimpel, 2017
================  ======================================================  ==========================================
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.stats import rankdata
from torch import Tensor

from dgm.data import Dataset, order
from dgm.distributions.dequantisation import Dequantised
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput, Unsupported
from dgm.evaluation.classification import label_log_probs
from dgm.evaluation.features import features
from dgm.evaluation.skipping import Skipped
from dgm.inputs import whole
from dgm.likelihood import Kind, Likelihood, evaluation_batch, kind_of, log_likelihood
from dgm.modes import device_of, evaluating
from dgm.networks.conditions import labels_of
from dgm.progress import Progress, silent
from dgm.protocols import Batch, Classifying, Invertible, Latent, Model, PerExample, condition_of, has, parts_of
from dgm.space import Space

PERMUTED = "permuted"  # each dimension of held-out data, shuffled over the examples: right marginals, no dependence
MOST = 1000  # examples of each kind
Z = 1.96  # half the width of a 95 % interval, in standard errors


@dataclass(frozen=True)
class Scored:
    """A batch with its log-likelihoods.

    Attributes:
        x: (B, *shape).
        likelihood: Of x; raises `Unsupported` for a model without one.
        usual: The mean log-likelihood of training data.
    """

    model: Model
    dataset: Dataset
    x: Batch
    likelihood: Callable[[], Likelihood]
    usual: Callable[[], float]


def log_p(of: Scored) -> PerExample:
    return -of.likelihood().nats


def typicality(of: Scored) -> PerExample:
    return (of.likelihood().nats - of.usual()).abs()


def complexity(of: Scored) -> PerExample:
    return -of.likelihood().nats - code_lengths(of.x, of.model.space)


def gradient(of: Scored) -> PerExample:
    """Of the exact log-density of real numbers, or of an energy, which is a function of real numbers always."""
    model, kind = of.model, kind_of(of.model)
    if isinstance(model, Dequantised) and kind is Kind.UNNORMALISED:
        return gradient(replace(of, model=model.model, x=model.cells.centre(of.x)))
    differentiable = kind is Kind.UNNORMALISED or (kind is Kind.EXACT and model.space.kind == "continuous")
    if not differentiable or (condition_of(model) is not None and not has(model, Classifying)):
        raise Unsupported("no log p(x) of real numbers has a gradient here", "use a flow or an energy")
    log_density = model.log_prob if kind is Kind.EXACT else model.energy
    scale = Scaling(model.space).scale.to(device_of(model))  # else the column of the smallest unit is the whole norm
    return in_blocks(model, of.x, lambda x: (slope(log_density, x) * scale).flatten(1).norm(dim=1))


def slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of the function at each x, (B, *shape).

    Raises:
        Unsupported: If it has none.
    """
    with torch.enable_grad():
        x = x.to(torch.get_default_dtype()).detach().requires_grad_()
        value = function(x).sum()
        if not value.requires_grad:
            raise Unsupported("the energy of this model is not differentiable", "use a flow or another energy")
        (found,) = torch.autograd.grad(value, x)
    return found


def reconstruction(of: Scored) -> PerExample:
    model = of.model
    inner = parts_of(model).get("model", model)  # of a dequantised one
    if not has(model, Latent) or has(inner, Invertible) or condition_of(model) is not None:
        raise Unsupported("no code loses a part of x", "use an unconditional vae or autoencoder")
    again = in_blocks(model, of.x, lambda x: model.decode(model.encode(x)))
    pixels = features("pixels", of.dataset).of
    return (pixels(of.x) - pixels(again)).square().sum(1)


def confidence(of: Scored) -> PerExample:
    if not has(of.model, Classifying):
        raise Unsupported("the model has no p(y|x)", "use jem")
    return -label_log_probs(of.model, of.x).amax(1).exp()


SCORES: Mapping[str, Callable[[Scored], PerExample]] = {
    "log p": log_p,
    "typicality": typicality,
    "complexity": complexity,
    "gradient": gradient,
    "reconstruction": reconstruction,
    "confidence": confidence,
}


def anomaly(
    model: Model,
    dataset: Dataset,
    other: Batch,
    name: str,
    *,
    split: str = "test",
    draws: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The AUROC of every score that the model has, of up to 1,000 held-out examples and as many of other data.

    Args:
        other: (B, *shape), in the space of the model.
        name: The name of the other data, for the document.
        draws: Random draws of each bound or estimate.

    Raises:
        BadInput: If a batch has less than two examples, or the model has none of the scores.
    """
    inside, outside = (few(x, seed) for x in (dataset.splits[split].x, model.space.check(other)))
    if min(len(inside), len(outside)) < 2:
        raise BadInput(f"AUROC needs two examples of each, got {len(inside)} and {len(outside)}", "give more")
    draws = whole("draws", draws, low=1)
    document: dict[str, Any] = {"anomalies": name, "n_anomalies": len(outside), "n": len(inside), "split": split}
    skipped, found = Skipped(), document.setdefault("scores", {})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        known: dict[str, Likelihood] = {}

        def likelihood(part: str, x: Tensor) -> Likelihood:
            if part not in known:
                known[part] = log_likelihood(model, x, draws=draws, marginal=labels_of(model) > 0)
            return known[part]

        def usual() -> float:
            return float(likelihood("train", few(dataset.train.x, seed)).nats.double().mean())

        def scored(part: str, x: Tensor) -> Scored:
            return Scored(model, dataset, x, lambda: likelihood(part, x), usual)

        parts = scored("inside", inside), scored("outside", outside)
        for k, (score, function) in enumerate(SCORES.items()):
            progress(k / len(SCORES), score)
            with skipped.on_failure(score), evaluating(model):
                found[score] = row(*(function(part).double().cpu() for part in parts))
    if not found:
        raise BadInput(f"{type(model).__name__} has no score: {skipped[0]['reason']}", "use a model with a likelihood")
    if known:
        document["likelihood"] = {"kind": str(known["inside"].kind), "method": known["inside"].method}
    progress(1.0, "done")
    return document | {"skipped": list(skipped), "seed": seed}


def row(inside: Tensor, outside: Tensor) -> dict[str, float]:
    value, error = auroc(inside, outside)
    return {
        "auroc": value,
        "low": max(0.0, value - Z * error),
        "high": min(1.0, value + Z * error),
        "median": float(inside.median()),
        "median_of_anomalies": float(outside.median()),
    }


def auroc(inside: Tensor, outside: Tensor) -> tuple[float, float]:
    """The probability that a random anomaly has a larger score than a random held-out example, a tie counted half,
    and its standard error.

    Source: Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves (DeLong et al.,
    1988), equations 2-4; by ranks, Sun & Xu, 2014.

    Example:
        >>> auroc(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0, 3.0]))[0]
        0.9166666666666666
    """
    n, m = len(inside), len(outside)
    ranks = torch.from_numpy(rankdata(torch.cat([inside, outside]).numpy()))
    below = (ranks[n:] - torch.from_numpy(rankdata(outside.numpy()))) / n  # share of held-out scores below each
    above = 1 - (ranks[:n] - torch.from_numpy(rankdata(inside.numpy()))) / m
    return float(below.mean()), math.sqrt(float(below.var() / m + above.var() / n))


def code_lengths(x: Batch, space: Space) -> PerExample:
    """The length of each example as a compressed file, in nats: of PNG for images, else of zlib.

    Raises:
        Unsupported: For real numbers.
    """
    if not space.discrete or (space.values or 0) > 256:
        raise Unsupported(f"{space} has no files of a finite length", "use integers below 256")
    length = png_length if len(space.shape) == 3 and space.shape[0] in (1, 3) else zlib_length
    bits = [8 * length(one.to(torch.uint8)) for one in x.cpu()]
    return torch.tensor(bits, dtype=torch.float64) * math.log(2)


def png_length(image: Tensor) -> int:
    from PIL import Image

    file, array = io.BytesIO(), image.movedim(0, -1).squeeze(-1).numpy()
    Image.fromarray(array).save(file, format="PNG", optimize=True)
    return len(file.getvalue())


def zlib_length(one: Tensor) -> int:
    return len(zlib.compress(one.numpy().tobytes(), 9))


def few(x: Batch, seed: int) -> Batch:
    """At most `MOST` examples."""
    return x[order(len(x), seed, 0)[:MOST].sort().values]


def permuted(x: Batch, seed: int) -> Batch:
    """Each dimension of x shuffled over the examples."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(x.flatten(1).shape, generator=generator).argsort(0)
    return x.flatten(1).gather(0, rows).view(x.shape)


@torch.no_grad()
def in_blocks(model: Model, x: Batch, function: Callable[[Tensor], Tensor]) -> Tensor:
    blocks = x.split(evaluation_batch(model))
    return torch.cat([function(block.to(device_of(model))).cpu() for block in blocks])
