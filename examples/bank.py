"""A table of made-up customers of a bank, of columns of every type, with gaps.

python examples/bank.py bank.csv
python examples/bank.py bank.csv --rows 20000 --seed 1

Columns depend on each other: who is older has more money and is married more often, students are young, retired people
old, and the balance is missing for one in ten, more often for those who joined early.
"""

from __future__ import annotations

import argparse
import csv
from datetime import date, timedelta
from pathlib import Path

import numpy

HEADER = ("age", "job", "balance [EUR]", "income [kEUR]", "married", "joined", "visits")
JOBS = ("engineer", "nurse", "retired", "self-employed", "student", "teacher", "unemployed")
FIRST_DAY, DAYS = date(2010, 1, 1), 5000


def rows(n: int, seed: int) -> list[tuple[object, ...]]:
    """The cells of ``n`` customers, None for a gap."""
    generator = numpy.random.default_rng(seed)
    age = numpy.clip(18 + generator.gamma(3.0, 9.0, n), 18, 99).astype(int)
    favoured = numpy.ones((n, len(JOBS)))
    favoured[:, JOBS.index("student")] = 8 * (age < 26)
    favoured[:, JOBS.index("retired")] = 20 * (age > 64)
    favoured[:, JOBS.index("unemployed")] = 0.3
    job = (favoured / favoured.sum(1, keepdims=True)).cumsum(1)
    job = (generator.uniform(size=(n, 1)) > job).sum(1)
    income = numpy.exp(generator.normal(3.2 + 0.012 * (age - 18), 0.35)) * numpy.where(job == 4, 0.3, 1.0)
    income = numpy.where(JOBS.index("unemployed") == job, 0.0, income)
    balance = numpy.round(generator.normal(40 * income + 25 * (age - 18), 600))
    married = generator.uniform(size=n) < 1 / (1 + numpy.exp(-(age - 34) / 6))
    joined = (DAYS * generator.beta(2, 1.2, n)).astype(int)
    visits = generator.poisson(1.5 + 1.5 * (age > 60))
    no_balance = generator.uniform(size=n) < numpy.where(joined < DAYS / 2, 0.2, 0.05)
    no_job, no_income, no_date = (generator.uniform(size=n) < share for share in (0.05, 0.15, 0.08))
    return [
        (
            int(age[k]),
            None if no_job[k] else JOBS[job[k]],
            None if no_balance[k] else int(balance[k]),
            None if no_income[k] else f"{income[k]:.2f}",
            "yes" if married[k] else "no",
            None if no_date[k] else (FIRST_DAY + timedelta(int(joined[k]))).isoformat(),
            int(visits[k]),
        )
        for k in range(n)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the .csv file to write")
    parser.add_argument("--rows", type=int, default=4000, help="customers (4000)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    args = parser.parse_args()
    with args.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(HEADER)
        table.writerows(rows(args.rows, args.seed))
    print(f"{args.rows} customers in {args.out}")


if __name__ == "__main__":
    main()
