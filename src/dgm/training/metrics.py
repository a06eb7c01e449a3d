"""metrics.jsonl, and optional files of TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from dgm.errors import MissingExtra
from dgm.files import replacing, writable
from dgm.training.step import Step


class Metrics:
    """Writes one line for each logged step.

    Args:
        out: The run directory; None to write no files.
        step: The step from which training resumes. Lines of later steps are removed, since they are written again.
        tensorboard: Whether to write TensorBoard's files too.
        unit: The unit of the losses, if the model states it.
    """

    def __init__(self, out: Path | None, step: int, tensorboard: bool, unit: str) -> None:
        self.unit = unit
        self.file: TextIO | None = None
        self.board: Any = None
        if out is None:
            return
        self.path = out / "metrics.jsonl"
        if self.path.is_file():
            lines = [line for line in self.path.read_text(encoding="utf-8").splitlines() if is_up_to(line, step)]
            with replacing(self.path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        with writable(self.path):
            self.file = self.path.open("a", encoding="utf-8")
        if tensorboard:
            self.board = board_class()(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, step: Step) -> None:
        if self.file is None:
            return
        line: dict[str, Any] = {"step": step.step, "progress": step.progress, "seconds": step.seconds}
        line |= {"examples": step.examples, "losses": dict(step.losses), "lr": step.lr}
        if step.validation is not None:
            line["validation"] = step.validation
        if step.symptoms:
            line["symptoms"] = dict(step.symptoms)
        if self.unit:
            line["unit"] = self.unit
        if step.note:
            line["note"] = step.note
        with writable(self.path):
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        if self.board is not None:
            for player, loss in step.losses.items():
                self.board.add_scalar(f"loss/{player}", loss, step.step)
            if step.validation is not None:
                self.board.add_scalar("loss/validation", step.validation, step.step)
            for name, value in step.symptoms.items():
                self.board.add_scalar(f"symptoms/{name}", value, step.step)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in (self.file, self.board):
            if writer is not None:
                writer.close()


def is_up_to(line: str, step: int) -> bool:
    """Whether a line is complete and of that step or an earlier one; a killed process can leave an incomplete line."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except ValueError:
        return False


def board_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra.of("--tensorboard", "tensorboard") from error
    return SummaryWriter
