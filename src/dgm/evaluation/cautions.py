"""What a reader of numbers should hear first: feature spaces that disagree, and runs that are hardly trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# of what held-out data gets: a space that gives half of it and one that gives a tenth cannot both be right, while the
# spaces of one trained model differ by a factor of two in earnest
MOST_OF, HARDLY_ANY = 0.5, 0.1
PASSES = 3  # over the training data, before which nothing can be said of how a training ends
# what a loss that falls as t^(-1/2) loses in the last fifth is 3 % of its fall since the first twentieth, what falls
# along a straight line 21 %: between the two
START, LAST, STILL = 0.05, 0.8, 0.1


def cautions(document: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> list[str]:
    """Sentences on one run: of its evaluation, of the rows of its metrics.jsonl and of its config."""
    found = [disagreement(document), few_passes(metrics, config), still_falling(metrics)]
    return [sentence for sentence in found if sentence]


def disagreement(document: Mapping[str, Any]) -> str:
    """Where one feature space finds most of what real data has, and another hardly any of it."""
    for name in ("coverage", "precision"):
        entries = [entry for entry in document["metrics"] if entry["name"] == name and entry["reference"]]
        if not entries:
            continue
        high, low = max(entries, key=relative), min(entries, key=relative)
        if relative(high) >= MOST_OF and relative(low) <= HARDLY_ANY:
            levels = f"{high['reference']['value']:.2f} and {low['reference']['value']:.2f}"
            return (
                f"Feature spaces disagree: {name} is {high['value']:.2f} in {high['features']} features and "
                f"{low['value']:.2f} in {low['features']} features, where real data has {levels}. Trust neither alone; "
                "look at the samples."
            )
    return ""


def relative(entry: Mapping[str, Any]) -> float:
    """A share, of what held-out real data has."""
    level = entry["reference"]["value"]
    return float(entry["value"] / level) if level > 0 else 1.0


def few_passes(metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """Of text nothing is said: its examples are windows that overlap."""
    passes = epochs(metrics[-1], config) if metrics else None
    if passes is None or passes >= PASSES:
        return ""
    return f"Hardly trained: {passes:.2g} passes over the training data. It says little of what the model can do."


def epochs(line: Mapping[str, Any], config: Mapping[str, Any]) -> float | None:
    """How often the training data was seen by that line of metrics.jsonl; None for text and for passes of a fit."""
    data = config["data"]
    size = data.get("sizes", {}).get("train")
    is_text = data.get("alphabet") or data.get("options", {}).get("bytes")
    return None if is_text or not size or "examples" not in line else line["examples"] / size


def still_falling(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Where a good part of what the validation loss fell since the start was in the last fifth of the training."""
    points = [(line["progress"], line["validation"]) for line in metrics if "validation" in line]
    if not points or points[0][0] > LAST or points[-1][0] <= LAST:
        return ""
    first, late, last = at(points, START), at(points, LAST), points[-1][1]
    part = (late - last) / (first - last) if first > last else 0.0
    if part < STILL:
        return ""
    return f"The validation loss still falls fast: {part:.0%} of all that it fell was in the last fifth. Train longer."


def at(points: Sequence[tuple[float, float]], progress: float) -> float:
    """The loss at a share of the training, on the line between the validations beside it."""
    (p, before), (q, after) = points[0], points[0]
    for q, after in points:
        if q >= progress:
            break
        p, before = q, after
    share = (progress - p) / (q - p) if q > p else 0.0
    return before + min(max(share, 0.0), 1.0) * (after - before)


def kept(metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The line of metrics.jsonl whose weights were kept: that of the least validation loss, where it selects."""
    validated = [line for line in metrics if "validation" in line]
    if config["training"].get("select") != "best" or not validated:
        return metrics[-1] if metrics else None
    least: Mapping[str, Any] = min(validated, key=lambda line: line["validation"])
    return least
