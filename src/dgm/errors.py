"""What can go wrong by a user's hand: one line saying what is wrong, and what to do about it.

The command line prints the line and leaves with exit code 2; ``--debug`` shows the traceback.
Anything that is not a `DgmError` is a bug in dgm.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

# old names of settings and options -> the names that replaced them, of which a model or a command has one
RENAMED: Mapping[str, tuple[str, ...]] = {
    "levels": ("noise_scales", "resolutions"),
    "steps": ("timesteps", "langevin_steps", "sampling_steps", "sampling-steps"),
    "unlabelled": ("condition_dropout",),
}


class DgmError(Exception):
    """A mistake that the user can mend.

    Args:
        wrong: What is wrong, with what was expected and what came instead.
        remedy: What to do, in the imperative.
    """

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(f"{wrong}; {remedy}")


class UnknownName(DgmError):
    """A model, data set, option or field that does not exist."""

    @classmethod
    def of(cls, what: str, name: str, known: Iterable[str]) -> UnknownName:
        """The error for ``name``, with the name that replaced it, the nearest of the ``known`` names or all of them."""
        known = sorted(known)
        old = name.removeprefix("--").removeprefix("model.")
        for new in (name.removesuffix(old) + new for new in RENAMED.get(old, ())):
            if new in known:
                return cls(f"the {what} '{name}' was renamed to '{new}'", "use the new name")
        near = difflib.get_close_matches(name, known, n=1)
        return cls(
            f"no {what} is called '{name}'", f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
        )


class BadInput(DgmError):
    """A value, a file or a tensor that is not what was asked for."""


class Unsupported(DgmError):
    """Something that this model, by its nature, cannot do."""


class MissingExtra(DgmError):
    """An optional part that is not installed."""

    @classmethod
    def of(cls, feature: str, extra: str) -> MissingExtra:
        return cls(f"{feature} needs the extra '{extra}', which is not installed", f"run: pip install 'dgm[{extra}]'")


class DamagedRun(DgmError):
    """A run directory that is not one, or whose files do not match their checksums."""


class TrainingStopped(DgmError):
    """Training that could not go on: a non-finite loss, a full disk, a second trainer in one directory."""


class Interrupted(TrainingStopped):
    """Training that was asked to stop and saved what it had."""


def one_line(error: Exception) -> str:
    """What an error says, in a line, after its type where it is none of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, DgmError) else f"{type(error).__name__}: {text}"
