"""Compression: the coder beside constriction's own from probabilities, and decoding beside a full pass for each pixel.

The first figures are of 100,000 values of 256 levels with a distribution each, from log-probabilities to bits and back.
The last is the decoding of 4 images of 28 x 28 pixels by a PixelCNN whose steps are cached; its peer's time is that
of some passes of the whole network, times 784. Times are of the processor, on one thread.
"""

from __future__ import annotations

from time import process_time

import constriction
import numpy
import torch
from timing import figure, in_turn, no_arguments, seconds

import dgm
from dgm.compression.archive import Coder, in_float64
from dgm.compression.frequencies import Frequencies
from dgm.compression.stack import Stack

VALUES, LEVELS = 100_000, 256
EXAMPLES, PASSES, ROUNDS = 4, 3, 3


def coding() -> None:
    log_p = (3 * torch.randn(VALUES, LEVELS, dtype=torch.float64)).log_softmax(-1)
    symbols = torch.multinomial(log_p.exp(), 1)[:, 0]
    ints, categorical = symbols.numpy().astype(numpy.int32), constriction.stream.model.Categorical(perfect=False)

    def pushed() -> Stack:
        stack = Stack()
        stack.push(symbols, Frequencies(log_p))
        return stack

    def theirs() -> constriction.stream.stack.AnsCoder:
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(ints, categorical, log_p.exp().float().numpy())
        return coder

    def ours_back() -> float:
        stack = pushed()
        return seconds(lambda: stack.pop(Frequencies(log_p)), process_time)

    def theirs_back() -> float:
        coder = theirs()
        return seconds(lambda: coder.decode(categorical, log_p.exp().float().numpy()), process_time)

    name = "100,000 values of 256 levels, from log-probabilities to bits; peer: constriction from float32 probabilities"
    in_turn(name, lambda: seconds(pushed, process_time), lambda: seconds(theirs, process_time), rounds=ROUNDS)
    in_turn("the same, from bits to values", ours_back, theirs_back, rounds=ROUNDS)
    bits = 32 * len(pushed().words())
    claimed = -float(log_p.gather(1, symbols[:, None]).sum()) / numpy.log(2)
    figure("the same, bits; peer: -log2 p", bits, claimed, "bits")


def decoding() -> None:
    space = dgm.Space.levels((1, 28, 28), LEVELS)
    model = dgm.create("pixelcnn", space)
    x = torch.randint(LEVELS, (EXAMPLES, 1, 28, 28)).to(space.dtype)
    with in_float64(model):
        coder = Coder(model, None)
        block = coder.encode(x, verify=False)

        def a_pass_a_pixel() -> float:
            return space.dim * seconds(lambda: [model.conditionals(x) for _ in range(PASSES)], process_time) / PASSES

        name = (
            "PixelCNN (15 blocks), decoding 4 images of 256 levels; peer: a full pass for each pixel (3 passes, × 261)"
        )
        in_turn(name, lambda: seconds(lambda: coder.decode(block), process_time), a_pass_a_pixel, rounds=ROUNDS)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    coding()
    decoding()


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
