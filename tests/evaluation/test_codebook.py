"""The usage of a codebook over a whole split."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import dgm
from dgm.data import Split
from dgm.evaluation.cautions import dead_codes
from dgm.evaluation.codebook import codebook_usage
from dgm.models.two_stage import TwoStage
from dgm.space import Space


def quantised() -> Any:
    """One code for each image of one pixel: 0 for black, 1 for white, and entries 2 and 3 that are far away."""
    model: Any = dgm.create("vq_vae", Space.binary((1, 1, 1)), codes=4, width=1, halvings=1, hidden=2)
    model.codebook.entries.copy_(torch.tensor([[-1.0], [1.0], [90.0], [99.0]]))
    model.encoder = torch.nn.Sequential(torch.nn.Flatten(1), torch.nn.Unflatten(1, (4, 1, 1)), First())
    return model


class First(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1]


@pytest.mark.parametrize("stages", [1, 2])
def test_the_perplexity_is_of_the_frequencies_over_all_examples(stages: int) -> None:
    """Kills: a mean over batches, whose perplexities are 1, and a count of the entries."""
    model = quantised()
    if stages == 2:
        model = TwoStage.of(model, dgm.create("made", model.latent_space, hidden=4))
    x = torch.zeros(1200, 1, 1, 1, dtype=torch.uint8)
    x[900:] = 1
    found = codebook_usage(model, Split(x), "test")
    assert found is not None
    assert (found["entries"], found["used"], found["codes"]) == (4, 2, 1200)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["perplexity"] == pytest.approx(math.exp(entropy))


def test_an_image_of_several_codes_counts_each_of_them() -> None:
    """Of eight codes 5, 1 and 2. Kills: shares of the examples."""

    class Pairs(torch.nn.Module):
        deterministic_codes, latent_space, space = True, Space.categories(4, (2,)), Space.levels((2,), 4)

        def encode(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
            return x.long()

        decode = encode

    x = torch.tensor([[0, 0], [0, 1], [2, 2], [0, 0]], dtype=torch.uint8)
    found = codebook_usage(Pairs(), Split(x), "test")
    assert found is not None
    shares = torch.tensor([5 / 8, 1 / 8, 2 / 8])
    assert found["perplexity"] == pytest.approx(math.exp(-float((shares * shares.log()).sum())))
    assert (found["entries"], found["used"], found["codes"]) == (4, 3, 8)


def test_a_model_without_a_codebook_has_no_usage() -> None:
    model = dgm.create("vae", Space.binary((1, 2, 2)))
    assert codebook_usage(model, Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)), "test") is None


@pytest.mark.parametrize(
    ("used", "codes", "said"),
    [(50, 10_000, "Dead codes: 50 of 100 entries"), (91, 10_000, ""), (50, 900, "")],
)
def test_dead_codes_are_named_where_there_are_enough_codes(used: int, codes: int, said: str) -> None:
    book = {"entries": 100, "used": used, "codes": codes, "perplexity": 3.0, "split": "test"}
    found = dead_codes({"codebook": book})
    assert found.startswith(said) if said else found == ""
