"""metrics.jsonl, and TensorBoard's files where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from dgm.errors import MissingExtra

if TYPE_CHECKING:
    from dgm.training.loop import Step


class Metrics:
    """Writes a line a logged step.

    Args:
        out: The run directory; None writes nothing.
        step: The step that training goes on from: lines beyond it are dropped, since they will be written again.
        tensorboard: Write TensorBoard's files too.
    """

    def __init__(self, out: Path | None, step: int, tensorboard: bool) -> None:
        self.file: TextIO | None = None
        self.board: Any = None
        if out is None:
            return
        path = out / "metrics.jsonl"
        kept = [line for line in path.read_text().splitlines() if is_up_to(line, step)] if path.is_file() else []
        path.write_text("".join(f"{line}\n" for line in kept))
        self.file = path.open("a")
        if tensorboard:
            self.board = board(out)

    def write(self, step: Step) -> None:
        if self.file is None:
            return
        line: dict[str, Any] = {"step": step.step, "progress": step.progress, "seconds": step.seconds}
        line |= {"losses": step.losses, "lr": step.lr}
        if step.validation is not None:
            line["validation"] = step.validation
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        if self.board is not None:
            for player, loss in step.losses.items():
                self.board.add_scalar(f"loss/{player}", loss, step.step)
            if step.validation is not None:
                self.board.add_scalar("loss/validation", step.validation, step.step)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in (self.file, self.board):
            if writer is not None:
                writer.close()


def is_up_to(line: str, step: int) -> bool:
    """Whether a whole line is of that step or an earlier one; a kill can leave half a line."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except ValueError:
        return False


def board(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra.of("--tensorboard", "tensorboard") from error
    return SummaryWriter(str(out / "tensorboard"))
