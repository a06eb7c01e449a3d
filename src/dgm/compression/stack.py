"""An entropy coder with a stack of bits: the first value that is popped is the last that was pushed.

The coder is asymmetric numeral systems of `constriction`. Source: Asymmetric numeral systems (Duda, 2009),
arXiv:0902.0271.
"""

from __future__ import annotations

import constriction
import numpy
import torch
from torch import Tensor

from dgm.compression.frequencies import Frequencies

ANY = constriction.stream.model.Categorical(perfect=False)
UNIFORM = constriction.stream.model.Uniform()
WORD = 2**32
START = numpy.array(
    [0, 1], numpy.uint32
)  # the least full state; on an empty one, the lowest value is free until another comes


class Stack:
    """A stack of bits, with the checksum of all frequencies that were used, in whatever order.

    Args:
        words: The bits of the stack as 32-bit words, two at least, the lowest first; the last is not 0.

    Example:
        >>> frequencies = Frequencies(torch.full((3, 4), -1.5, dtype=torch.float64))
        >>> stack = Stack()
        >>> stack.push(torch.tensor([2, 0, 3]), frequencies)
        >>> stack.pop(frequencies)
        tensor([2, 0, 3])
    """

    def __init__(self, words: numpy.ndarray = START) -> None:
        self.coder = constriction.stream.stack.AnsCoder(words)
        self.checksum = 0

    def push(self, symbols: Tensor, frequencies: Frequencies) -> None:
        """Pushes (m,) values from 0 on with their frequencies."""
        self.checksum = (self.checksum + frequencies.checksum) % WORD
        if frequencies.kinds > 1:  # a value of one kind takes no bits
            self.coder.encode_reverse(symbols.numpy().astype(numpy.int32), ANY, frequencies.table)

    def pop(self, frequencies: Frequencies) -> Tensor:
        """The (m,) values, int64, that were pushed last with these frequencies."""
        self.checksum = (self.checksum + frequencies.checksum) % WORD
        if frequencies.kinds == 1:
            return torch.zeros(len(frequencies.table), dtype=torch.int64)
        return torch.from_numpy(self.coder.decode(ANY, frequencies.table).astype(numpy.int64))

    def push_uniform(self, symbols: Tensor, counts: Tensor) -> None:
        """Pushes (m,) values, each one of as many equally probable ones as its count says."""
        several = counts > 1
        values, sizes = (v[several].numpy().astype(numpy.int32) for v in (symbols, counts))
        self.coder.encode_reverse(values, UNIFORM, sizes)

    def pop_uniform(self, counts: Tensor) -> Tensor:
        """The (m,) values, int64, that were pushed last with these counts."""
        found, several = torch.zeros_like(counts), counts > 1
        drawn = self.coder.decode(UNIFORM, counts[several].numpy().astype(numpy.int32))
        found[several] = torch.from_numpy(drawn.astype(numpy.int64))
        return found

    def words(self) -> numpy.ndarray:
        """The bits of the stack as 32-bit words, the lowest first."""
        return self.coder.get_compressed()
