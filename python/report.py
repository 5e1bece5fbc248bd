"""Turns the output of offline_eval.py, and of train.py where given, into one self-contained HTML page.

The page needs no network and no script, follows the reader's light or dark setting, and is the same, byte for
byte, for the same input. The table of figures is printed, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ur10e_act.atomic_io import write_file
from ur10e_act.errors import UserError, run_cli
from ur10e_act.evaluation.figure_table import text_table
from ur10e_act.evaluation.page import render
from ur10e_act.evaluation.results import read_results
from ur10e_act.evaluation.verdicts import verdicts


def run(argv: Sequence[str] | None = None) -> int:
    """The command: read, write the page, print the figures and the page's path."""
    parser = argparse.ArgumentParser(description="Make one HTML page of an evaluation and its training.")
    parser.add_argument("--eval", type=Path, required=True, help="output folder of offline_eval.py")
    parser.add_argument("--train", type=Path, help="output folder of train.py; without it, no loss curves")
    parser.add_argument("--output", type=Path, required=True, help="the page, e.g. outputs/report.html")
    args = parser.parse_args(argv)
    results = read_results(args.eval, args.train)
    html = render(results, args.train)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_file(args.output, html.encode())
    except OSError as error:
        raise UserError(f"--output {args.output}: cannot be written ({error.strerror})") from None
    print(text_table(results))
    print()
    for verdict in verdicts(results):
        print(f"{verdict.headline}. {verdict.reason}")
    print(f"report: {args.output.resolve()}")
    return 0


if __name__ == "__main__":
    run_cli(run)
