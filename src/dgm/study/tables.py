"""The analysis of a study as tables of texts, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dgm.study.analysis import Analysis, Estimate, Judge
from dgm.study.intervals import FEWEST

TASKS = {"real or fake": "real or generated", "pairs": "which is better"}  # the file's names, and those of people


@dataclass(frozen=True)
class Table:
    """Rows of cells below their headings; a cell has a value and its interval, or an empty text."""

    title: str
    about: str
    headings: tuple[str, ...]
    rows: Sequence[Sequence[tuple[str, str]]]


def tables(found: Analysis) -> list[Table]:
    """Those for which there are answers."""
    made = [blocks(found), ranks(found), agreement(found), raters(found)]
    return [table for table in made if table.rows]


def blocks(found: Analysis) -> Table:
    timed = found.study["timed"]
    rows = []
    for block in found.blocks:
        main = cell(block.exposure, 0, " ms") if timed else share(block.error)
        shares = (share(block.fakes), share(block.reals))
        rows.append((plain(block.run), main, *shares, plain(f"{block.answers:,}"), plain(str(block.raters))))
    measure = "HYPE-time ↑" if timed else "HYPE-infinity ↑"
    about = (
        "The exposure in ms at which people tell real from generated images in three of four cases, from 100 to 1,000."
        if timed
        else "The share of wrong answers without a limit of time; at 50 % people cannot tell real from generated."
    )
    headings = ("run", measure, "generated taken for real", "real taken for generated", "answers", "raters")
    return Table("Real or generated", about, headings, rows)


def ranks(found: Analysis) -> Table:
    rows = [
        (
            plain(row.source),
            plain(str(row.best) if row.best == row.worst else f"{row.best}–{row.worst}"),
            plain(f"{100 * row.won / row.compared:.0f} % of {row.compared:,}"),
            cell(row.strength, 2),
        )
        for row in found.ranks
    ]
    about = "Bradley-Terry: the odds that the first of two sources is chosen are exp(strength 1 - strength 2)."
    return Table("Which is better", about, ("source", "rank", "chosen", "strength ↑"), rows)


def agreement(found: Analysis) -> Table:
    rows = [(plain(TASKS[task]), cell(of.alpha, 2), plain(f"{of.units:,}")) for task, of in found.agreement.items()]
    about = "Krippendorff's alpha: 1 is perfect agreement, 0 that of chance."
    return Table("Agreement of the raters", about, ("task", "alpha", "judged by two or more"), rows)


def raters(found: Analysis) -> Table:
    rows = [judge_row(judge) for judge in found.raters if judge.answers]
    headings = ("rater", "answers", "wrong", "said real", "seconds", "finished")
    about = (
        f"Seconds are medians. Intervals are of 95 %: a bootstrap over raters where there are {FEWEST} or more, else "
        "Wilson's."
    )
    return Table("Raters", about, headings, rows)


def judge_row(judge: Judge) -> tuple[tuple[str, str], ...]:
    real = "" if judge.said_real is None else f"{judge.said_real:.1%}".replace("%", " %")
    seconds = "" if judge.seconds is None else f"{judge.seconds:.2f}"
    counts = (plain(str(judge.rater)), plain(f"{judge.answers:,}"))
    finished = plain("yes" if judge.finished else "no")
    return (*counts, share(judge.error), plain(real), plain(seconds), finished)


def plain(text: str) -> tuple[str, str]:
    return text, ""


def cell(estimate: Estimate | None, digits: int, unit: str = "", scale: float = 1) -> tuple[str, str]:
    """A value and its interval, with ``digits`` after the point.

    Example:
        >>> cell(Estimate(0.25, 0.125, 0.5), 1, " %", 100)
        ('25.0 %', '[12.5, 50.0]')
    """
    if estimate is None:
        return plain("–")
    value, low, high = (
        "" if number is None else f"{scale * number:.{digits}f}"
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return value + unit, f"[{low}, {high}]" if low else ""


def share(estimate: Estimate | None) -> tuple[str, str]:
    return cell(estimate, 1, " %", 100)
