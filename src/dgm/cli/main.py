"""``dgm VERB …``: imports the module of the verb, and turns errors into one line and exit code 2."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

from dgm import __version__
from dgm.errors import DgmError, Interrupted, UnknownName

# verb -> (its module, a summary in one line); the module is imported when its verb is called
SHARED = {"sample", "evaluate"}  # verbs that run in parallel under torchrun
VERBS = {
    "models": ("dgm.cli.models", "list the models, or one model's settings"),
    "data": ("dgm.cli.data", "list the data sets, or show one"),
    "train": ("dgm.cli.train", "train a model, or resume a training"),
    "sample": ("dgm.cli.sample", "draw samples from a trained model as a picture, a folder, a table or a text"),
    "edit": ("dgm.cli.edit", "edit images or codes; fill missing cells of tables"),
    "evaluate": ("dgm.cli.evaluate", "evaluate a trained model: likelihood, sample quality, coverage, memorisation"),
    "compare": ("dgm.cli.compare", "train one model of each family on the same data, and write a report"),
    "report": ("dgm.cli.report", "write one page that compares evaluated runs"),
    "check": ("dgm.cli.check", "test the mathematical laws of a model, such as: the density sums to one"),
    "compress": ("dgm.cli.compress", "compress files losslessly by the likelihood of a trained model"),
    "decompress": ("dgm.cli.decompress", "restore files that `dgm compress` wrote"),
    "study": ("dgm.cli.study", "let people judge samples in the browser, and analyse their answers"),
    "push": ("dgm.cli.push", "upload a run to the Hugging Face hub"),
    "pull": ("dgm.cli.pull", "download a run from the Hugging Face hub"),
}


def usage() -> str:
    verbs = "\n".join(f"  {verb:<10} {line}" for verb, (_, line) in VERBS.items())
    return f"""usage: dgm VERB … [--debug]

Every family of deep generative model under one contract.

{verbs}

  dgm train vae --data digits --out runs/vae   train a model; half a minute
  dgm sample runs/vae -n 64 --out grid.png     look at its samples
  dgm evaluate runs/vae                        measure it
  dgm compare                                  one model of each family on digits, with a report; six minutes

`dgm VERB --help` lists the options of a verb. --debug shows the traceback of an error. --version prints the version."""


class Ended(KeyboardInterrupt):
    """The process received SIGTERM, or SIGHUP because its terminal was closed."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def end(number: int, frame: FrameType | None) -> None:
    raise Ended(number)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A context in which SIGTERM and SIGHUP interrupt like Ctrl-C, so that no file is left unfinished.

    A signal that is ignored, as under nohup, stays ignored.
    """
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0 after success, 1 if a check or a comparison failed, 2 after a user's error, and 128 plus the number of the
        signal after an interruption, or if the reader of `dgm check` closed its output.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that the terminal cannot show is no error
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with interruptible():
            code = dispatch(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except KeyboardInterrupt as stop:
        tell("interrupted")
        return 128 + getattr(stop, "number", signal.SIGINT)
    except BrokenPipeError:
        # the reader has closed the pipe (`dgm models | head`): suppress Python's error when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # the rest of a list is not needed, but the laws that were not checked may fail
        return 128 + signal.SIGPIPE if arguments[0] == "check" else 0
    except Interrupted as stop:
        tell(str(stop))
        return 128 + stop.number
    except (DgmError, OSError, MemoryError, RuntimeError) as error:
        line = one_line(error)
        if debug or line is None:
            raise
        tell(line)
        return 2


def tell(line: str) -> None:
    with contextlib.suppress(OSError):  # the reader may have closed the pipe
        print(f"dgm: {line}", file=sys.stderr, flush=True)


def dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(f"dgm {__version__}")
        return 0
    verb, rest = arguments[0], [hyphenated(argument) for argument in arguments[1:]]
    if verb not in VERBS:
        raise UnknownName.of("verb of dgm", verb, VERBS)
    os.getcwd()  # noqa: PTH109  torch's libraries abort the process where it has been removed
    module = importlib.import_module(VERBS[verb][0])
    if hasattr(module, "main"):  # the options of this verb depend on its arguments
        return int(module.main(rest))
    import argparse

    from dgm import torchrun
    from dgm.cli.parser import Parser

    parser = Parser(
        prog=f"dgm {verb}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    chosen = parser.parse_args(rest)
    with torchrun.together() if verb in SHARED else contextlib.nullcontext():
        return int(module.run(chosen))


def hyphenated(argument: str) -> str:
    """An argument whose option is spelled with hyphens: underscores, as in Python and in recipes, are accepted too.

    Example:
        >>> hyphenated("--model.weight_clip=a_b"), hyphenated("my_run")
        ('--model.weight-clip=a_b', 'my_run')
    """
    option, equals, value = argument.partition("=")
    return option.replace("_", "-") + equals + value if option.startswith("--") else argument


def one_line(error: BaseException) -> str | None:
    """The message for an error of the user or of the machine; None for a bug in dgm."""
    if isinstance(error, DgmError):
        return str(error)
    if isinstance(error, FileNotFoundError) and error.filename is None:  # of os.getcwd
        return "the working directory has been removed; change to another one"
    if isinstance(error, OSError) and error.errno is not None:
        remedies = {
            errno.ENOSPC: "the disk is full; free some space and run it again",
            errno.EDQUOT: "the disk quota is used up; free some space and run it again",
            errno.EACCES: "no permission; choose a place that you may write to and read from",
            errno.EPERM: "no permission; choose a place that you may write to and read from",
            errno.EROFS: "the file system is read-only; choose another place",
        }
        return f"{error.filename or 'the output'}: {remedies.get(error.errno, f'{error.strerror}; check the path')}"
    said = ("not enough memory", "out of memory", "can't allocate memory")
    if isinstance(error, MemoryError) or any(words in str(error) for words in said):
        return "out of memory; ask for fewer samples, a smaller batch or a smaller model"
    return None


if __name__ == "__main__":
    sys.exit(main())
