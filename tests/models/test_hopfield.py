"""The Hopfield network: its energy, its minima, and how many patterns it stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from dgm.errors import BadInput
from dgm.models.energy.hopfield import Hopfield
from dgm.seeds import streams
from dgm.space import Space


def storing(patterns: torch.Tensor, **config: Any) -> Hopfield:
    model = Hopfield(Space.binary(tuple(patterns.shape[1:])), Hopfield.Config(patterns=len(patterns), **config))
    list(model.fit([(patterns, None)]))
    return model


def random_bits(n: int, d: int) -> torch.Tensor:
    return torch.randint(2, (n, d), generator=torch.Generator().manual_seed(n)).to(torch.uint8)


def test_the_energy_is_the_sum_over_pairs_of_the_stored_patterns() -> None:
    """Written out. Kills: a pair counted twice, the diagonal kept, the sign, 1 / D left out."""
    patterns, x = random_bits(3, 6), random_bits(5, 6)
    xi, s = 2.0 * patterns - 1, 2.0 * x - 1
    W = sum(torch.outer(p, p) for p in xi) / 6
    expected = [-sum(float(W[i, j] * row[i] * row[j]) for i in range(6) for j in range(i)) for row in s]
    assert storing(patterns).energy(x).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("rule", ["hebb", "projection"])
def test_no_update_of_a_unit_raises_the_energy_and_all_states_end_in_a_minimum(rule: str) -> None:
    """Beyond the capacity too. Kills: an update of all units at once, the other sign, a diagonal."""
    model = storing(random_bits(12, 40), rule=rule)
    start = random_bits(200, 40)
    energies = [model.energy(start)] + [model.energy(model.values(s)) for s in model.descent(model.signs(start))]
    falls = torch.stack(energies).diff(dim=0)
    assert float(falls.max()) <= 1e-5  # float32 rounding of energies up to 20
    assert float(falls[0].mean()) < -1
    end = model.retrieve(start)
    for i in range(40):
        flipped = end.clone()
        flipped[:, i] = 1 - flipped[:, i]
        assert bool((model.energy(flipped) >= model.energy(end) - 1e-5).all())


def overlap(alpha: float, d: int = 400) -> float:
    """Of the retrieved states with the patterns that they start near, a twentieth of the units flipped."""
    patterns = random_bits(int(alpha * d), d)
    flips = torch.rand(len(patterns), d, generator=torch.Generator().manual_seed(0)) < 0.05
    end = storing(patterns, sampling_steps=15).retrieve(patterns ^ flips)
    return float((2.0 * (end == patterns).double() - 1).mean())


def test_patterns_are_retrieved_up_to_the_capacity_and_not_beyond() -> None:
    """Amit, Gutfreund & Sompolinsky: 0.138 patterns a unit, at an overlap of 0.97, then a sudden fall."""
    assert overlap(0.05) > 0.999
    assert overlap(0.12) > 0.95
    assert overlap(0.25) < 0.6


def test_patterns_that_resemble_one_another_are_kept_by_the_projection() -> None:
    """Four in five units alike. Kills: a projection onto the other space."""
    patterns = random_bits(8, 60)
    patterns[:, :48] = patterns[0, :48]
    assert bool((storing(patterns).retrieve(patterns) != patterns).any())
    model = storing(patterns, rule="projection")
    assert torch.equal(model.retrieve(patterns), patterns)
    xi = 2.0 * patterns.double() - 1
    assert torch.allclose(xi @ model.W, xi * (1 - torch.linalg.pinv(xi).mul(xi.mT).sum(1)))


def test_grey_levels_are_split_at_the_middle_and_one_unit_is_refused() -> None:
    model = Hopfield(Space.levels((2, 2), 5), Hopfield.Config(patterns=1))
    x = torch.tensor([[[0, 4], [2, 3]]], dtype=torch.uint8)
    assert list(model.fit([(x, None)])) == [pytest.approx(-1.5)]  # 6 pairs of 4 units
    assert list(model.fit([(x, None)])) == []
    assert model.retrieve(x).tolist() == [[[0, 4], [0, 4]]]
    with pytest.raises(BadInput, match="at least two units"):
        Hopfield(Space.binary((1,)), Hopfield.Config())


def test_random_states_are_half_ones_and_a_unit_without_input_keeps_its_state() -> None:
    """Kills: another share of ones, the sign of 0 as a state, rounding taken for an input."""
    model, x = storing(random_bits(1, 6)), random_bits(5, 6)
    model.W.zero_()
    assert torch.equal(model.retrieve(x), x)
    n = 4000
    assert abs(float(model.sample(n, seed=0).double().mean()) - 0.5) < 5 * 0.5 / (6 * n) ** 0.5
    model.W[0, 1] = 1e-12  # a sum that cancels leaves as much
    assert torch.equal(model.retrieve(x), x)


def test_the_first_patterns_of_several_batches_are_stored_and_no_further_batch_is_read() -> None:
    """Kills: all of the last batch, a batch more than is needed, the sum of their energies."""
    patterns, read = random_bits(9, 12), list[int]()

    def batches() -> Iterator[tuple[torch.Tensor, None]]:
        for k in range(3):
            read.append(k)
            yield patterns[3 * k : 3 * k + 3], None

    for stored, needed in ((4, 2), (6, 2), (3, 1)):
        read.clear()
        model, alone = Hopfield(Space.binary((12,)), Hopfield.Config(patterns=stored)), storing(patterns[:stored])
        (mean,) = model.fit(batches())
        assert torch.equal(model.W, alone.W)
        assert mean == pytest.approx(float(alone.energy(patterns[:stored]).mean()))
        assert len(read) == needed


def test_fewer_examples_than_patterns_are_refused_and_many_take_no_memory_before_the_fit() -> None:
    """Kills: a promise of patterns that are not there; random patterns as many as will be stored."""
    memory = Hopfield(Space.binary((4,)), Hopfield.Config(patterns=100_000))
    assert memory.W.abs().max() <= 100 / 4
    with pytest.raises(BadInput, match=r"100,000 patterns are to be stored, and there are 3 examples; .* 3"):
        list(memory.fit([(torch.eye(4)[:3].to(torch.uint8), None)]))


def test_before_the_fit_random_patterns_are_stored_and_each_sweep_is_a_state() -> None:
    """One pattern of signs has |W_ij| = 1 / D. Kills: bits for signs, states counted from 0 or from 2."""
    model = Hopfield(Space.binary((8,)), Hopfield.Config(patterns=1, sampling_steps=3))
    assert torch.equal(8 * model.W.abs(), 1.0 - torch.eye(8).double())
    states = list(model.trajectory(2, seed=0))
    assert [(state.sampling_step, state.sampling_steps) for state in states] == [(1, 3), (2, 3), (3, 3)]
    u = streams(2, 0).uniform((8,))
    *_, last = model.descent(torch.where(u < 0.5, -1.0, 1.0).double())
    assert torch.equal(states[-1].x, model.values(last))
