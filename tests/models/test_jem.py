"""A classifier that is an energy: its distributions over labels and over x, and its training signal."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dgm.data import Split
from dgm.errors import BadInput
from dgm.evaluation.classification import calibration_error, classification
from dgm.likelihood import log_likelihood
from dgm.models.energy.jem import JEM
from dgm.protocols import Classifying, has
from dgm.space import Space

LABELS = Space.categories(3)
SLOPES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])


class Known(nn.Module):
    """Logits that are linear in z."""

    def forward(self, z: Tensor) -> Tensor:
        return z @ SLOPES.mT.to(z)


def known(condition: Space | None = LABELS, **config: float) -> JEM:
    jem = JEM(Space.continuous((2,), loc=(0.0, 0.0), scale=(2.0, 2.0)), JEM.Config(width=1, **config), condition)  # type: ignore[arg-type]
    jem.features, jem.last = nn.Identity(), Known()
    return jem.eval()


X = torch.tensor([[2.0, -4.0], [0.5, 6.0]])
Z = X / 2


def test_joint_and_marginal_energies_have_one_normaliser() -> None:
    """exp(-E(x)) is the sum of exp(-E(x, y)) at T = 1, and p(y|x) their ratio. Kills: a sign, a mean for a sum."""
    jem = known(step_size=0.04, noise=0.2)
    joint = torch.stack([-jem.energy(X, torch.full((2,), label)) for label in range(3)], 1)
    torch.testing.assert_close(-jem.energy(X), joint.logsumexp(1))
    torch.testing.assert_close(jem.label_log_probs(X), joint.log_softmax(1))
    torch.testing.assert_close(joint, Z @ SLOPES.mT - math.log(4))
    torch.testing.assert_close(known(step_size=0.02, noise=0.2).potential(Z), jem.potential(Z))
    ladj = math.log(4)
    torch.testing.assert_close(known(step_size=0.02, noise=0.2).energy(X) - ladj, (jem.energy(X) - ladj) / 2)


def test_log_p_of_x_is_compared_over_labels() -> None:
    jem = known()
    assert has(jem, Classifying)
    found = log_likelihood(jem, X, marginal=True)
    torch.testing.assert_close(found.nats, -jem.energy(X))
    torch.testing.assert_close(log_likelihood(jem, X, [2, 0]).nats, -jem.energy(X, torch.tensor([2, 0])))


def test_the_loss_is_that_of_a_classifier_and_of_the_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """-log p(y|x) + f(z+) - f(z-) + alpha of squares. Kills: each sign, chains of E(x, y), labels left out."""
    jem, y, seen = known(data_noise=0.0, regularisation=0.3), torch.tensor([1, 2]), []
    ends = torch.tensor([[0.5, 1.0], [-1.0, 0.3]])
    monkeypatch.setattr(jem, "chain", lambda z, y, steps, noise: iter([seen.append(y) or ends]))
    f, of_chains = -(Z @ SLOPES.mT).logsumexp(1), -(ends @ SLOPES.mT).logsumexp(1)
    energies = f - of_chains + 0.3 * (f.square() + of_chains.square())
    nll = -(Z @ SLOPES.mT).log_softmax(1)[[0, 1], y]
    loss, (rows, last) = jem.loss_and_outputs(X, y)
    torch.testing.assert_close(loss, nll + energies)
    assert seen == [None]
    jem.after_step(rows, last)
    assert torch.equal(jem.replay[rows], ends)
    without = known(None, data_noise=0.0, regularisation=0.3)
    assert not has(without, Classifying)
    monkeypatch.setattr(without, "chain", lambda z, y, steps, noise: iter([ends]))
    torch.testing.assert_close(without.loss(X), energies)


def test_data_has_noise_and_some_chains_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: data without its noise, a variance for a deviation, chains that are never restarted."""
    n, seen = 20_000, list[Tensor]()
    jem = known(None, data_noise=0.2, buffer=n)
    jem.replay.fill_(7.0)
    monkeypatch.setattr(jem, "chain", lambda z, y, steps, noise: iter([seen.append(z) or z]))  # type: ignore[func-returns-value]
    monkeypatch.setattr(jem, "logits", lambda z: seen.append(z) or z)  # type: ignore[func-returns-value]
    jem.loss(torch.zeros(n, 2))
    starts, both = seen
    fresh = (starts != 7).all(1)
    assert abs(float(fresh.float().mean()) - 0.05) < 5 * math.sqrt(0.05 * 0.95 / n)
    assert starts[fresh].abs().max() <= 1
    assert float(both[:n].std()) == pytest.approx(0.2, rel=5 / math.sqrt(4 * n))
    assert torch.equal(both[n:], starts)


def test_chains_of_a_label_climb_its_logit() -> None:
    """The drift of a step is eta / 2 times the slope of the label's logit, or of their log-sum-exp."""
    jem = known(step_size=0.1, noise=0.0)
    for y, slope in ((torch.tensor([1, 2]), SLOPES[[1, 2]]), (None, (Z @ SLOPES.mT).softmax(1) @ SLOPES)):
        (end,) = jem.chain(Z, y, 1, lambda: torch.zeros(2, 2))
        torch.testing.assert_close(end, Z + 0.05 * slope)


def test_only_labels_are_classified() -> None:
    with pytest.raises(BadInput, match="jem classifies by one label"):
        JEM(Space.continuous((2,)), JEM.Config(), Space.categories(3, (2,)))


def test_accuracy_and_calibration_of_known_labels() -> None:
    """Kills: the least likely label, accuracy minus confidence without its size, bins that are not weighted."""
    jem = known()
    best = (Z @ SLOPES.mT).argmax(1)
    found = classification(jem, Split(X, torch.tensor([int(best[0]), (int(best[1]) + 1) % 3])), "test")
    assert found is not None
    assert found["accuracy"] == 0.5
    assert found["accuracy_se"] == pytest.approx(math.sqrt(0.125))
    log_p = (Z @ SLOPES.mT).double().log_softmax(1)
    assert found["log_p"] == pytest.approx(float(log_p[0, best[0]] + log_p[1, (int(best[1]) + 1) % 3]) / 2, rel=1e-5)
    confidence = torch.tensor([0.91, 0.92, 0.45, 0.46], dtype=torch.float64)
    right = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    assert calibration_error(confidence, right) == pytest.approx((abs(1 - 1.83) + abs(2 - 0.91)) / 4)
    assert calibration_error(torch.ones(3).double(), torch.ones(3).double()) == 0


def test_without_labels_there_is_one_logit_which_is_minus_the_energy() -> None:
    """Kills: two logits, whose sum of exponentials would be no EBM of one output."""
    jem, x = JEM(Space.continuous((2,)), JEM.Config()), torch.randn(4, 2)
    logits = jem.logits(x)
    assert logits.shape == (4, 1)
    torch.testing.assert_close(jem.potential(x), -logits[:, 0])
