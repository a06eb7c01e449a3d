"""Two-dimensional pictures of codes: principal components (PCA) and t-SNE, beside those of the examples themselves.

PCA is the linear map to the plane that keeps most variance. t-SNE keeps neighbours: distances between far clusters and
the sizes of clusters mean nothing in it.

Source: Reducing the Dimensionality of Data with Neural Networks (Hinton & Salakhutdinov, 2006), figure 3, for codes
beside PCA; Visualizing Data using t-SNE (van der Maaten & Hinton, 2008).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgm.errors import BadInput

PERPLEXITY = 30.0  # of t-SNE, and less of few examples
FEWEST = 4


def planes(x: Tensor, z: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
    """The points of N examples in the plane by each method, (N, 2): of the numbers of x and of their codes z.

    Codes of two dimensions are their own plane.

    Raises:
        BadInput: For fewer than four examples.
    """
    if len(z) < FEWEST:
        raise BadInput(f"a picture of codes needs at least {FEWEST} examples, got {len(z)}", "give more --examples")
    flat_x, flat_z = x.flatten(1).double(), z.flatten(1).double()
    own = {"codes": flat_z} if flat_z.shape[1] == 2 else {"codes, PCA": principal(flat_z)}
    return {"data, PCA": principal(flat_x), **own, "codes, t-SNE": neighbours(flat_z, seed)}


def principal(x: Tensor) -> Tensor:
    """The first two principal components, (N, 2), each with its largest value positive; 0 where there is only one.

    Example:
        >>> principal(torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 3.0]]))[:, 0].round().tolist()
        [-1.0, -1.0, 2.0]
    """
    centred = x - x.mean(0)
    left, scale, _ = torch.linalg.svd(centred, full_matrices=False)
    components = left * scale
    components = torch.cat([components, components.new_zeros(len(x), 2)], 1)[:, :2]
    largest = components.gather(0, components.abs().argmax(0, keepdim=True))
    return components * torch.where(largest < 0, -1.0, 1.0)


def neighbours(z: Tensor, seed: int) -> Tensor:
    """t-SNE, (N, 2), from the principal components on."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(z) - 1) / 3)
    with threadpool_limits(1):  # sums in another order would give another picture
        made = TSNE(perplexity=perplexity, init="random" if z.shape[1] < 2 else "pca", random_state=seed)
        return torch.from_numpy(made.fit_transform(z.numpy())).double()
