"""The order of steps that go back now and then: down to less noise, up again by the forward process, down once more.

What is given and what is generated are brought into harmony so, at the cost of ``resamplings`` times the steps.

Source: RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), arXiv:2201.09865,
algorithm 1, section 4.2 and appendix B.
Differs from it: ``jump`` steps up are one draw, which has their law; the last step, to t = 0, is taken once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dgm.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How many steps there are, and which are taken again.

    Args:
        sampling_steps: Steps from noise to data.
        jump: How many steps are gone back at once.
        resamplings: How often each stretch of ``jump`` steps is taken; 1 never goes back.

    Example:
        >>> list(Resampling(sampling_steps=3, jump=2, resamplings=2).walk())
        [(0, 1), (1, 2), (2, 0), (0, 1), (1, 2), (2, 3)]
    """

    sampling_steps: int = 50
    jump: int = 5
    resamplings: int = 5

    def __post_init__(self) -> None:
        for name in ("sampling_steps", "jump", "resamplings"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, got {getattr(self, name)}", "give more")

    def walk(self, clear: int | None = None) -> Iterator[tuple[int, int]]:
        """From which to which of the steps + 1 times, noise first.

        Args:
            clear: The last step from which it goes back; None for any but the last of all.
        """
        for first in range(0, self.sampling_steps - 1, self.jump):
            last = min(first + self.jump, self.sampling_steps - 1)
            again = clear is None or last <= clear
            for k in range(self.resamplings if again else 1):
                yield from ((step, step + 1) for step in range(first, last))
                if again and k < self.resamplings - 1:
                    yield last, first
        yield self.sampling_steps - 1, self.sampling_steps
