"""Codes in the plane: PCA beside scikit-learn's, t-SNE of separated clusters, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from commands import dgm as command
from PIL import Image
from sklearn.decomposition import PCA

import dgm
from dgm.editing.embedding import neighbours, planes, principal
from dgm.errors import BadInput
from dgm.report.embedding import embedding


def test_principal_components_are_scikit_learn_s() -> None:
    x = torch.randn(50, 7).double() @ torch.randn(7, 7).double() + 3
    expected = PCA(2).fit_transform(x.numpy())
    expected *= numpy.sign((principal(x).numpy() * expected).sum(0))
    assert principal(x).numpy() == pytest.approx(expected, abs=1e-9)


def test_examples_that_vary_in_one_number_have_one_component() -> None:
    points = principal(torch.tensor([[0.0], [1.0], [2.0], [9.0]]).double())
    torch.testing.assert_close(points.T, torch.tensor([[-3.0, -2.0, -1.0, 6.0], [0.0] * 4]).double())


def test_clusters_of_codes_stay_clusters() -> None:
    """Kills: t-SNE of the examples in place of their codes."""
    labels = torch.arange(60) % 3
    z = torch.randn(60, 5) + 20 * torch.nn.functional.one_hot(labels, 5)
    found = planes(torch.randn(60, 1, 4, 4), z)
    assert list(found) == ["data, PCA", "codes, PCA", "codes, t-SNE"]
    for name in ("codes, PCA", "codes, t-SNE"):
        distance = torch.cdist(found[name], found[name]).fill_diagonal_(torch.inf)
        assert torch.equal(labels[distance.argmin(1)], labels)
    assert torch.equal(planes(torch.randn(60, 2), z[:, :2])["codes"], z[:, :2].double())
    with pytest.raises(BadInput, match="needs at least 4 examples, got 3"):
        planes(z[:3], z[:3])


def test_few_examples_have_fewer_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A perplexity of 30, and of at most a third of the other examples, as van der Maaten's program has it."""
    seen = []

    class Recorded:
        def __init__(self, *, perplexity: float, **how: object) -> None:
            seen.append(perplexity)

        def fit_transform(self, z: numpy.ndarray) -> numpy.ndarray:
            return z[:, :2]

    monkeypatch.setattr("sklearn.manifold.TSNE", Recorded)
    for n in (4, 31, 91, 200):
        neighbours(torch.randn(n, 3), 0)
    assert seen == [1, 10, 30, 30]


def test_labels_are_colours() -> None:
    """Two clusters: the pixels of each panel have the colours of both labels. Kills: one colour for all."""
    points = torch.cat([torch.zeros(20, 2), torch.ones(20, 2)])
    labels = (torch.arange(40) >= 20).long()
    pixels = numpy.asarray(embedding({"a": points}, labels, ["no", "yes"])).reshape(-1, 3)
    shown = {tuple(colour) for colour in pixels.tolist()}
    assert {(31, 119, 180), (255, 127, 14)} <= shown  # the first two of tab10


def test_the_command_draws_codes_beside_their_labels(tmp_path: Path) -> None:
    digits = dgm.data.load("digits")
    dgm.save(dgm.create("vae", digits.space, latent=2, hidden=8), tmp_path / "vae", digits)
    done = command("edit embed vae --examples 30 --out codes.png", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "30 test examples in codes.png: data, PCA; codes; codes, t-SNE" in done.stdout
    with Image.open(tmp_path / "codes.png") as picture:
        assert picture.width > 3 * picture.height
    assert command("edit embed vae --examples 30 --out codes.npz", tmp_path).returncode == 0
    with numpy.load(tmp_path / "codes.npz") as held:
        z = dgm.edit.encode(dgm.load(tmp_path / "vae"), digits.test.x[dgm.data.order(497, 0, 0)[:30]], seed=0)
        assert held["codes"] == pytest.approx(z.numpy())
