"""Feature spaces for the comparison of samples: pixels, principal components, the last layer of a classifier.

Those of networks that were trained on other images are in `dgm.evaluation.pretrained`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits, cross_entropy, one_hot

from dgm.data import Dataset, order
from dgm.data.dataset import fingerprint
from dgm.data.table import cache
from dgm.distributions.cells import binary, bits_of, dimensions
from dgm.distributions.columns import scalars
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput, UnknownName
from dgm.evaluation.held_out import fitting_rows
from dgm.files import write_json
from dgm.space import Space
from dgm.tensor_files import read_weights, write_weights

NAMES = ("pixels", "pca", "classifier", "inception", "dinov2", "clip")
COMPONENTS = 32
WIDE = 4096  # dimensions up to which principal components are exact
NUMBERS = 1 << 27  # of the examples, at most, that they are fitted on
ONES = 32  # categories of a column that are ones and zeros
LARGEST = 32  # side of the classifier's input in pixels; larger images are average-pooled to it
CLASSIFIER = {
    "version": 2,
    "width": 32,
    "features": 64,
    "epochs": 30,
    "batch": 64,
    "lr": 2e-3,
    "seed": 0,
    "most_steps": 3000,
}


@dataclass(frozen=True)
class Features:
    """A map from examples to feature vectors, and a description of it."""

    name: str
    of: Callable[[Tensor], Tensor]
    about: dict[str, Any]
    log_p: Callable[[Tensor], Tensor] | None = None  # log p(y|x) of labels where a classifier is behind it
    guess: Callable[[Tensor], Tensor] | None = None  # the likeliest y, a label or attributes


def features(name: str, dataset: Dataset, progress: Callable[[float], None] = lambda share: None) -> Features:
    """The feature space called ``name`` for a data set.

    Args:
        progress: Called with the completed fraction of the training of a classifier.

    Raises:
        UnknownName: For an unknown feature space.
        BadInput: For a classifier of data without labels or attributes.
        MissingExtra: For a pretrained network without its extra.
    """
    if name not in NAMES:
        raise UnknownName.of("feature space", name, NAMES)
    makers: dict[str, Callable[[Dataset], Features]] = {"pixels": pixels, "pca": principal_components}
    makers["classifier"] = partial(classifier, progress=progress)
    if name not in makers:
        from dgm.evaluation.pretrained import pretrained  # which imports this module

        return pretrained(name, dataset)
    return makers[name](dataset)


def refuse_unusable(names: Iterable[str], dataset: Dataset) -> None:
    """Raises the errors of `features` before samples are drawn; the weights of pretrained networks are downloaded."""
    for name in names:
        if name not in NAMES:
            raise UnknownName.of("feature space", str(name), NAMES)
        if name in ("pixels", "pca"):
            flattener(dataset.space)
        elif name == "classifier":
            refuse_without_labels(dataset)
        else:
            from dgm.evaluation.pretrained import refuse_without_weights

            refuse_without_weights(name, dataset.space)


def default_features(dataset: Dataset) -> list[str]:
    """All feature spaces that the data allows; none for tokens, which have no distance."""
    if dataset.space.kind == "tokens":
        return []
    labelled = ["classifier"] if outputs_of(dataset) and len(dataset.space.shape) == 3 else []
    return [*labelled, "pca", "pixels"] if dataset.space.dim > COMPONENTS else [*labelled, "pixels"]


def pixels(dataset: Dataset) -> Features:
    """Scaled values of x: grey levels in [-1, 1], standardised columns of a table, see `of_columns`."""
    return Features("pixels", flattener(dataset.space), {"dim": dataset.space.dim, "fitted_on": "nothing"})


def flattener(space: Space) -> Callable[[Tensor], Tensor]:
    if space.kind == "tokens":
        raise BadInput("tokens have no distance", "compare their likelihoods instead")
    if space.kind == "record":
        return of_columns(space)
    scaling = Scaling(space)
    return lambda x: scaling(x).flatten(1).double()


def of_columns(space: Space) -> Callable[[Tensor], Tensor]:
    """The columns of a record as one vector, (B, E), in which different values of any column have similar distances.

    Numbers are standardised. Categories are one-hot encoded, or by the bits of their numbers if there are many, with
    the same average distance. A missing value is 0 and is marked in a separate dimension.
    """

    def of(part: Space, values: Tensor) -> Tensor:
        missing, known = values.isnan(), values.nan_to_num(0.0)
        if part.kind != "categories":
            (dimension,) = dimensions(replace(part, optional=False))
            found = ((known - dimension.loc) / dimension.scale)[:, None]
        elif (part.values or 0) <= ONES:
            found = one_hot(known.long(), part.values or 0).double()
        else:
            bits = bits_of(part)
            found = binary(known.long()[:, None], bits).double() * 2 / bits**0.5
        found = found.masked_fill(missing[:, None], 0.0)
        return torch.cat([found, missing[:, None].double()], 1) if part.optional else found

    parts = scalars(space)
    return lambda x: torch.cat([of(part, x[:, k].double()) for k, part in enumerate(parts)], 1)


def principal_components(dataset: Dataset) -> Features:
    """The leading principal components of training examples, not whitened."""
    flatten = flattener(dataset.space)
    x = flatten(dataset.train.x[fitting_rows(dataset)[: min(10_000, max(COMPONENTS, NUMBERS // dataset.space.dim))]])
    mean = x.mean(0)
    basis, variances = leading_components(x - mean)
    explained = float(variances.sum() / x.var(0).sum())
    about = {"dim": basis.shape[1], "variance_kept": round(explained, 4), "fitted_on": fitted_on(dataset, len(x))}
    return Features("pca", lambda z: (flatten(z) - mean) @ basis, about)


def leading_components(centred: Tensor) -> tuple[Tensor, Tensor]:
    """The `COMPONENTS` leading principal components of centred rows, as columns, and the variance along each.

    Above `WIDE` dimensions by a randomised decomposition with power iterations, since the time of an exact one grows
    with the third power of the dimensions: half an hour for an image of 64 × 64 pixels in colour.

    Source: Finding Structure with Randomness (Halko, Martinsson & Tropp, 2011), arXiv:0909.4061, algorithm 4.4.
    """
    if centred.shape[1] <= WIDE:
        values, vectors = torch.linalg.eigh(centred.mT @ centred / (len(centred) - 1))
        return vectors.flip(1)[:, :COMPONENTS], values.flip(0)[:COMPONENTS]
    from sklearn.utils.extmath import randomized_svd

    _, roots, rows = randomized_svd(
        centred.numpy(), COMPONENTS, n_oversamples=COMPONENTS, n_iter=8, power_iteration_normalizer="QR", random_state=0
    )
    return torch.from_numpy(rows.T.copy()), torch.from_numpy(roots).square() / (len(centred) - 1)


def fitted_on(dataset: Dataset, n: int) -> str:
    return f"{n:,} of the {len(dataset.train):,} training examples"


def outputs_of(dataset: Dataset) -> int:
    """How many numbers a classifier of the data's condition has: one a label, or one an attribute; 0 where it is
    neither.
    """
    condition = dataset.condition
    if condition is None or dataset.train.y is None:
        return 0
    attributes = condition.dim if condition.kind == "binary" and len(condition.shape) == 1 else 0
    return len(dataset.labels) or attributes


class Classifier(nn.Module):
    """A small convolutional network, whose last hidden layer is the feature vector.

    Args:
        outputs: Logits, one a label or one an attribute.
    """

    def __init__(self, space: Space, outputs: int) -> None:
        super().__init__()
        width, wide = int(CLASSIFIER["width"]), int(CLASSIFIER["features"])
        self.scaling = Scaling(space)
        self.body = nn.Sequential(
            nn.Conv2d(space.shape[0], width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8 * width, wide),
            nn.ReLU(),
        )
        self.last = nn.Linear(wide, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        return self.body(reduced(self.scaling(x)))


def reduced(x: Tensor) -> Tensor:
    """Images (B, C, H, W) average-pooled so that no side is larger than `LARGEST`."""
    height, width = (min(side, LARGEST) for side in x.shape[2:])
    return x if x.shape[2:] == (height, width) else adaptive_avg_pool2d(x, (height, width))


def classifier(dataset: Dataset, progress: Callable[[float], None] = lambda share: None) -> Features:
    """A classifier trained once on training labels or attributes, kept in the cache by the hash of all it depends on.

    It is trained on the examples of `fitting_rows`, and never on the held-out examples of the reference values.
    """
    refuse_without_labels(dataset)
    assert dataset.train.y is not None
    rows = fitting_rows(dataset)
    recipe = {
        **CLASSIFIER,
        "data": fingerprint(dataset.train.x),
        "labels": fingerprint(dataset.train.y),
        "n": len(rows),
    }
    name = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache() / "classifiers"
    network = Classifier(dataset.space, outputs_of(dataset))
    weights = folder / f"{name}.safetensors"
    if weights.is_file():
        network.load_state_dict(read_weights(weights))
    else:
        train_classifier(network, dataset, rows, progress)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(recipe, folder / f"{name}.json")
        write_weights(network.state_dict(), weights)
    network.eval()
    about = {"dim": int(CLASSIFIER["features"]), "hash": name, "trained_on": fitted_on(dataset, len(rows))}
    about |= {"test_accuracy": round(accuracy(network, dataset), 4), "largest_side": f"{LARGEST} pixels"}
    log_p = in_blocks(log_p_of(network)) if dataset.labels else None
    of, guess = in_blocks(lambda x: network.features(x).double()), in_blocks(guess_of(network, dataset))
    return Features("classifier", of, about, log_p, guess)


def refuse_without_labels(dataset: Dataset) -> None:
    if not outputs_of(dataset) or len(dataset.space.shape) != 3:
        wrong = f"{dataset.name} has no images with labels or attributes to train a classifier on"
        raise BadInput(wrong, "choose pca or pixels")


def log_p_of(network: Classifier) -> Callable[[Tensor], Tensor]:
    return lambda x: network(x).double().log_softmax(1)


def guess_of(network: Classifier, dataset: Dataset) -> Callable[[Tensor], Tensor]:
    """The likeliest label, (B,), or which attributes are likelier than not, (B, D)."""
    if dataset.labels:
        return lambda x: network(x).argmax(1)
    return lambda x: (network(x) > 0).to(torch.uint8)


def in_blocks(function: Callable[[Tensor], Tensor], size: int = 1024) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def blocked(x: Tensor) -> Tensor:
        return torch.cat([function(part) for part in x.split(size)])

    return blocked


def train_classifier(
    network: Classifier, dataset: Dataset, training_rows: Tensor, progress: Callable[[float], None]
) -> None:
    """Trains for a fixed number of epochs, at most ``most_steps`` steps; torch's global generator is not changed."""
    n = len(training_rows)
    batch = min(int(CLASSIFIER["batch"]), n)
    total = min(int(CLASSIFIER["epochs"]) * (n // batch), int(CLASSIFIER["most_steps"]))
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(int(CLASSIFIER["seed"]))
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.reset_parameters()
        optimiser = torch.optim.AdamW(network.parameters(), lr=CLASSIFIER["lr"], fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
        for step in range(total):
            progress(step / total)
            epoch, place = divmod(step, n // batch)
            rows = order(n, int(CLASSIFIER["seed"]), epoch)[place * batch : (place + 1) * batch]
            x, y = dataset.train.batch(training_rows[rows])
            optimiser.zero_grad()
            assert y is not None  # checked by `classifier`
            loss_of(network(x), y).backward()
            optimiser.step()
            schedule.step()


def loss_of(logits: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy of labels (B,), or of attributes (B, D) that are independent given x."""
    return cross_entropy(logits, y) if y.ndim == 1 else binary_cross_entropy_with_logits(logits, y.to(logits))


def accuracy(network: Classifier, dataset: Dataset) -> float:
    """On the test split; of attributes the mean over all of them."""
    x, y = dataset.test.x, dataset.test.y
    if y is None or len(x) == 0:
        return float("nan")
    return float((in_blocks(guess_of(network, dataset))(x) == y).double().mean())
