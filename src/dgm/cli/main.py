"""``dgm VERB …``: finds the verb's file, and turns whatever goes wrong into one line and exit code 2."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from dgm import __version__
from dgm.errors import BadInput, DgmError, UnknownName

# verb -> (its module, one line); nothing is imported before its verb is called
VERBS = {
    "models": ("dgm.cli.models", "list the models, or one model's settings"),
    "data": ("dgm.cli.data", "list the data sets, or what one holds"),
    "train": ("dgm.cli.train", "train a model, or go on where one stopped"),
    "sample": ("dgm.cli.sample", "draw samples from a trained model into a picture, a folder or a table"),
    "edit": ("dgm.cli.edit", "in-paint, enlarge, colour, sharpen, encode or interpolate images"),
    "evaluate": ("dgm.cli.evaluate", "measure a trained model: likelihood, sample quality, coverage, copies"),
    "compare": ("dgm.cli.compare", "train one model of each family on the same data and write the report"),
    "report": ("dgm.cli.report", "write the report of models that are trained already"),
    "check": ("dgm.cli.check", "run the mathematical contract on a model, yours too"),
}


class Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage and leave."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(message, f"see `{self.prog} --help`")

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):  # type: ignore[no-untyped-def, override]
        parsed, left = self.parse_known_args(args, namespace)
        if left:
            refuse_unknown(left[0], self)
        return parsed


def refuse_unknown(argument: str, parser: argparse.ArgumentParser) -> NoReturn:
    """The error for an argument that the parser does not know, with the nearest option."""
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    if argument.startswith("-"):
        raise UnknownName.of(f"option of {parser.prog}", argument.split("=")[0], options)
    raise BadInput(f"{parser.prog} takes no further argument, got '{argument}'", f"see `{parser.prog} --help`")


def usage() -> str:
    verbs = "\n".join(f"  {verb:<10} {line}" for verb, (_, line) in VERBS.items())
    return f"""usage: dgm VERB … [--debug]

Every family of deep generative model under one contract.

{verbs}

  dgm compare                                  one model of each family on digits: trained, measured, one report
  dgm train vae --data digits --out runs/vae   train one
  dgm sample runs/vae -n 64 --out grid.png     look at it

`dgm VERB --help` says more. --debug shows the traceback of an error. --version prints the version."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0 when it worked, 1 when what it looked for failed, 2 for a user's mistake, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return dispatch(arguments)
    except KeyboardInterrupt:
        print("dgm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader has gone (`dgm models | head`): keep Python from complaining as it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (DgmError, OSError, MemoryError, RuntimeError) as error:
        line = one_line(error)
        if debug or line is None:
            raise
        print(f"dgm: {line}", file=sys.stderr)
        return 2


def dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(f"dgm {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        raise UnknownName.of("verb of dgm", verb, VERBS)
    module = importlib.import_module(VERBS[verb][0])
    if hasattr(module, "main"):  # a verb whose options depend on its arguments
        return int(module.main(rest))
    parser = Parser(
        prog=f"dgm {verb}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(rest)))


def one_line(error: BaseException) -> str | None:
    """What to tell the user of an error that is theirs or the machine's; None for a bug of ours."""
    if isinstance(error, DgmError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        remedies = {
            errno.ENOSPC: "the disk is full; free some space and run it again",
            errno.EDQUOT: "the disk quota is used up; free some space and run it again",
            errno.EACCES: "no permission; choose a place that you may write to and read from",
            errno.EPERM: "no permission; choose a place that you may write to and read from",
            errno.EROFS: "the file system is read-only; choose another place",
        }
        return f"{error.filename or 'a file'}: {remedies.get(error.errno, f'{error.strerror}; look at the path')}"
    if isinstance(error, MemoryError) or re.search(r"not enough memory|out of memory", str(error)):
        return "out of memory; ask for fewer samples, a smaller batch or a smaller model"
    return None


if __name__ == "__main__":
    sys.exit(main())
