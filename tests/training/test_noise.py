"""The random numbers of several processes, computed here one process after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dgm.seeds import shuffled, stratified
from dgm.training.noise import DrawnTogether

B, WORLD = 12, 3
X = torch.arange(B * 5.0).view(B, 5) / 60

# of x, the rows of the batch: numbers that belong to its examples
OF_EXAMPLES: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": torch.randn_like,
    "sizes": lambda x: torch.rand(len(x), 2),
    "a size": lambda x: torch.randn((len(x), 2)),
    "a named size": lambda x: torch.rand(size=(len(x), 2)),
    "integers like": lambda x: torch.randint_like(x, 9),
    "integers": lambda x: torch.randint(1, 9, (len(x),)),
    "in place": lambda x: x.new_empty(len(x)).uniform_(),
    "share of each": lambda x: torch.bernoulli(x),
    "of each mean": lambda x: torch.normal(x, 1.0),
    "categories": lambda x: torch.multinomial(x + 0.1, 2),
    "reparameterised": lambda x: torch.distributions.Normal(x, 1.0 + x).rsample(),
    "exponential": lambda x: torch.distributions.Exponential(1 + x).rsample(),
    "dropout": lambda x: nn.Dropout(0.4)(x),
    "channels": lambda x: nn.functional.dropout2d(x[:, :, None, None].expand(-1, -1, 2, 2), 0.4, True),
    "channels of rows": lambda x: nn.functional.dropout1d(x[:, :, None].expand(-1, -1, 3), 0.4, True),
    "no dropout": lambda x: nn.functional.dropout(x, 0.4, training=False),
    "gumbel": lambda x: nn.functional.gumbel_softmax(x),
    "positions": lambda x: torch.rand(5 * len(x)).view(len(x), 5),
    "strata": lambda x: stratified(len(x)),
    "chains": lambda x: shuffled(len(x), 20),
    "chains again": lambda x: shuffled(len(x), 7),
}
# numbers that all examples share
SHARED: dict[str, Callable[[Tensor], Tensor]] = {
    "index": lambda x: torch.randint(9, ()),
    "order": lambda x: torch.randperm(5),
    "offset": lambda x: torch.rand(()),
    "weights": lambda x: torch.randn(3, 2),
    "own generator": lambda x: torch.rand(4, generator=torch.Generator().manual_seed(3)),
}


def drawn(draw: Callable[[Tensor], Tensor], rank: int) -> tuple[Tensor, Tensor]:
    """The numbers of a process, and the next ones that it draws."""
    torch.manual_seed(5)
    with DrawnTogether(rank, WORLD, B // WORLD):
        return draw(X[rank::WORLD]), torch.rand(2)


@pytest.mark.parametrize("name", OF_EXAMPLES)
def test_each_process_has_its_rows_of_what_one_would_draw(name: str) -> None:
    """Kills: contiguous rows, another process's rows, generators that part, numbers of a row at another place."""
    torch.manual_seed(5)
    whole, after = OF_EXAMPLES[name](X), torch.rand(2)
    found = [drawn(OF_EXAMPLES[name], rank) for rank in range(WORLD)]
    torch.testing.assert_close(torch.stack([part for part, _ in found], 1).flatten(0, 1), whole, rtol=1e-6, atol=0)
    assert all(torch.equal(next_ones, after) for _, next_ones in found)


def test_several_draws_of_each_example_come_first() -> None:
    torch.manual_seed(5)
    whole = torch.randn(5, B, 2)
    found = [drawn(lambda x: torch.randn(5, len(x), 2), rank)[0] for rank in range(WORLD)]
    assert torch.equal(torch.stack(found, 2).flatten(1, 2), whole)


@pytest.mark.parametrize("name", SHARED)
def test_numbers_of_no_example_are_the_same_in_all_processes(name: str) -> None:
    torch.manual_seed(5)
    whole, after = SHARED[name](X), torch.rand(2)
    for rank in range(WORLD):
        assert all(map(torch.equal, drawn(SHARED[name], rank), (whole, after)))


def test_a_gradient_passes_through_dropout() -> None:
    torch.manual_seed(5)
    mask = nn.functional.dropout(torch.ones_like(X), 0.4)
    x = X[1::WORLD].clone().requires_grad_()
    torch.manual_seed(5)
    with DrawnTogether(1, WORLD, B // WORLD):
        nn.functional.dropout(x, 0.4).sum().backward()
    assert torch.equal(x.grad, mask[1::WORLD])
