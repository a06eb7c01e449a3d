"""The errors that a user can cause: one line that states what is wrong and how to correct it.

The command line prints the line and exits with code 2; ``--debug`` shows the traceback. Any other exception is a bug in
dgm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# old names of settings, options and data sets, and the names that replaced them, one of which is known where it is used
RENAMED: Mapping[str, tuple[str, ...]] = {
    "dynamic_mnist": ("mnist/dynamic",),
    "levels": ("noise_scales", "resolutions"),
    "r1_every": ("penalty_every",),
    "steps": ("timesteps", "langevin_steps", "sampling_steps"),
    "unlabelled": ("condition_dropout",),
}
# settings of a model that are now elsewhere, and their places
MOVED: Mapping[str, str] = {
    "classes": "the condition is a space now: train with --conditional, or dgm.create(name, space, space_of_y)",
    "likelihood_steps": "it is an argument of the likelihood now: dgm evaluate RUN --solver-steps, or solver_steps=",
}


MOST_NAMES = 20  # that a message lists, so that it stays one short line


class DgmError(Exception):
    """An error that the user can correct.

    Args:
        wrong: The cause, with the expected and the actual value.
        remedy: The correction, in the imperative.
    """

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(f"{wrong}; {remedy}")
        self.wrong, self.remedy = wrong, remedy


class UnknownName(DgmError):
    """A model, data set, option or field that does not exist."""

    @classmethod
    def of(cls, what: str, name: str, known: Iterable[str]) -> UnknownName:
        """The error for ``name``, with the name that replaced it, the nearest ``known`` name, or the first ones.

        Example:
            >>> str(UnknownName.of("number", "x", map(str, range(100, 130))))[-20:]
            '118, 119 and 10 more'
        """
        known = sorted(known)
        spelled = name.removeprefix("--").removeprefix("model.")
        old = spelled.replace("-", "_")
        for new in RENAMED.get(old, ()):
            for option in (new, new.replace("_", "-")):  # hyphens on the command line
                if (renamed := name.removesuffix(spelled) + option) in known:
                    return cls(f"the {what} '{name}' was renamed to '{renamed}'", "use the new name")
        if old in MOVED and what.startswith("option of"):
            return cls(f"no {what} is called '{name}'", MOVED[old])
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        names = ", ".join(known[:MOST_NAMES]) + (f" and {len(known) - MOST_NAMES} more" if known[MOST_NAMES:] else "")
        return cls(f"no {what} is called '{name}'", f"did you mean '{near[0]}'?" if near else f"known: {names}")


class BadInput(DgmError):
    """A value, a file or a tensor that is not valid."""


class Unsupported(DgmError):
    """An operation that this kind of model does not support."""


class MissingExtra(DgmError):
    """An optional dependency that is not installed."""

    @classmethod
    def of(cls, feature: str, extra: str) -> MissingExtra:
        return cls(
            f"{feature} needs the extra '{extra}', which is not installed",
            f"run in dgm's folder: pip install '.[{extra}]'",
        )


class DamagedRun(DgmError):
    """A folder that is not a run directory, or a run directory whose files do not match their checksums."""


class TrainingStopped(DgmError):
    """Training that could not continue: a non-finite loss, a full disk, a second training in the same directory."""


class Diverged(TrainingStopped):
    """A loss or a weight that is not finite."""


class Interrupted(TrainingStopped):
    """Training that was interrupted and saved a checkpoint.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, wrong: str, remedy: str, number: int) -> None:
        super().__init__(wrong, remedy)
        self.number = number


def in_one_line(said: object) -> str:
    """The message of an error, or a text, without its line breaks."""
    return " ".join(str(said).split())


def one_line(error: Exception) -> str:
    """The message of an error in one line, preceded by the type of the error unless it is a `DgmError`."""
    text = in_one_line(error)
    return text if isinstance(error, DgmError) else f"{type(error).__name__}: {text}"
