"""RePaint's resampling schedule: steps to less noise are repeated after forward steps back to more noise.

It makes the generated region consistent with the given one, at the cost of ``resamplings`` times the sampling steps.

Source: RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), arXiv:2201.09865,
algorithm 1, section 4.2 and appendix B.
Differs from it: ``jump`` forward steps are one draw from the same distribution; the last step, to t = 0, is taken once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dgm.errors import BadInput

OF_IMAGES = 5


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """A schedule of sampling steps, of which some are repeated.

    Args:
        sampling_steps: Steps from noise to data.
        jump: Number of steps between repetitions.
        resamplings: How often each group of ``jump`` steps is taken; with 1 none is repeated. By default it is
            `OF_IMAGES` for a diffusion of x and 1 for a diffusion of codes, each of whose steps draws a code given the
            measurement.

    Example:
        >>> list(Resampling(sampling_steps=3, jump=2, resamplings=2).moves())
        [(0, 1), (1, 2), (2, 0), (0, 1), (1, 2), (2, 3)]
    """

    sampling_steps: int = 50
    jump: int = 5
    resamplings: int | None = None

    def __post_init__(self) -> None:
        for name in ("sampling_steps", "jump", "resamplings"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise BadInput(f"{name} must be at least 1, got {number}", "give more")

    def with_default(self, resamplings: int) -> Resampling:
        return replace(self, resamplings=resamplings) if self.resamplings is None else self

    def moves(self, last_resampled: int | None = None) -> Iterator[tuple[int, int]]:
        """The moves between the steps + 1 times, as pairs of indices from noise to data.

        Args:
            last_resampled: The last step that is repeated; by default all but the final one.
        """
        times = self.resamplings or 1
        for first in range(0, self.sampling_steps - 1, self.jump):
            last = min(first + self.jump, self.sampling_steps - 1)
            repeated = last_resampled is None or last <= last_resampled
            for k in range(times if repeated else 1):
                yield from ((step, step + 1) for step in range(first, last))
                if repeated and k < times - 1:
                    yield last, first
        yield self.sampling_steps - 1, self.sampling_steps
