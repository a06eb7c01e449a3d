"""The autoencoder finds the principal subspace where it can only be linear, and samples its codes' Gaussian."""

from __future__ import annotations

import torch
from torch import nn

from dgm.models.autoencoder.autoencoder import Autoencoder
from dgm.space import Space


def test_a_linear_one_loses_what_lies_outside_the_principal_subspace() -> None:
    x = torch.randn(2000, 4) * torch.tensor([3.0, 2.0, 0.5, 0.1])
    model = Autoencoder(Space.continuous((4,)), Autoencoder.Config(latent=2))
    model.encoder, model.decoder = nn.Linear(4, 2), nn.Linear(2, 4)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(600):
        optimiser.zero_grad()
        model.loss(x).mean().backward()
        optimiser.step()
    spectrum = torch.linalg.eigvalsh(x.T.cov(correction=0))
    assert abs(model.loss(x).mean().item() - 0.5 * spectrum[:2].sum().item()) < 0.01


def test_samples_are_decoded_from_the_codes_moments() -> None:
    model = Autoencoder(Space.continuous((2,)), Autoencoder.Config(latent=2))
    model.encoder, model.decoder = nn.Identity(), nn.Identity()
    x = torch.randn(5000, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]]) + torch.tensor([2.0, -1.0])
    model.train()
    for rows in torch.randint(5000, (600, 100)):
        model.loss(x[rows])
    drawn = model.sample(5000, seed=0)
    assert (drawn.mean(0) - x.mean(0)).abs().max() < 0.15
    assert (drawn.T.cov() - x.T.cov()).abs().max() < 0.25
    before = model.mean.clone()
    model.eval().loss(x)
    assert torch.equal(model.mean, before), "evaluation moved the moments"
