"""A VAE's epoch beside pythae's, and bounds of 5,000 samples beside the decoder alone.

pythae 0.1.2 (pip install --no-deps pythae==0.1.2) is left out where it is not installed. Both train a perceptron of
784, 512, 16, 512 and 784 units with a Bernoulli decoder on the same 10,000 binary images, in batches of 64, with Adam.
Times are of the processor, on one thread.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from time import process_time
from typing import Any

import torch
from timing import figure, in_turn, no_arguments, seconds
from torch import Tensor

import dgm
from dgm.likelihood import evaluation_batch, log_likelihood

N, BATCH, HIDDEN, LATENT = 10_000, 64, 512, 16
DRAWS, EXAMPLES = 5000, 4
ROUNDS = 3


def images() -> Tensor:
    return (torch.rand(N, 1, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.13).to(torch.uint8)


def our_epoch(x: Tensor) -> Callable[[], None]:
    model = dgm.create("vae", dgm.Space.binary((1, 28, 28)), latent=LATENT, hidden=HIDDEN, layers=1)

    def epoch() -> None:
        for _ in dgm.fit(model, x, steps=math.ceil(N / BATCH), batch=BATCH, ema=0.0, precision="32-true"):
            pass

    return epoch


def their_epoch(x: Tensor, folder: str) -> Callable[[], Any]:
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    of_model = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    of_training = BaseTrainerConfig(
        output_dir=folder, num_epochs=1, per_device_train_batch_size=BATCH, learning_rate=1e-3, no_cuda=True, seed=0
    )
    dataset = BaseDataset(x.float(), torch.zeros(N))
    trainer = BaseTrainer(VAE(of_model), train_dataset=dataset, training_config=of_training)
    trainer.prepare_training()
    return partial(trainer.train_step, 1)


def training() -> None:
    x = images()
    with tempfile.TemporaryDirectory() as folder:
        try:
            theirs = their_epoch(x, folder)
        except ImportError as error:
            print(f"left out: {error}; pip install --no-deps pythae==0.1.2", file=sys.stderr)
            return
        what = f"vae {HIDDEN}-{LATENT}, an epoch of {N:,} binary images at batch size {BATCH}; peer: pythae 0.1.2"
        in_turn(what, *(partial(seconds, epoch, process_time) for epoch in (our_epoch(x), theirs)), rounds=ROUNDS)


def bound() -> None:
    """The time of a code and its weight, beside that of log p(x|z) of as many given codes."""
    model = dgm.create("iwae", dgm.Space.binary((1, 28, 28)), latent=50, hidden=200).eval()
    x, batch = images()[:EXAMPLES], evaluation_batch(model)
    z, one = torch.randn(batch, 50), x[:1].expand(batch, 1, 28, 28)

    @torch.no_grad()
    def decoder() -> None:
        for _ in range(EXAMPLES * DRAWS // batch):
            model.likelihood(one, z)

    ours = partial(log_likelihood, model, x, draws=DRAWS)
    times = [(seconds(ours, process_time), seconds(decoder, process_time)) for _ in range(ROUNDS)]
    per_second = [EXAMPLES * DRAWS / sorted(column)[ROUNDS // 2] for column in zip(*times, strict=True)]
    what = f"iwae 200-200-50, codes a second of the {DRAWS:,}-sample bound; peer: log p(x|z) of given codes"
    figure(what, per_second[0], per_second[1], "1/s")


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    bound()
    training()


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
