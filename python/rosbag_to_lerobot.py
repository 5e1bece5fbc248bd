"""Converts ROS 2 recordings to a LeRobot v3.0 dataset: one recording, one episode.

    python rosbag_to_lerobot.py --bags DIR --output DIR --config convert.yaml
    python rosbag_to_lerobot.py --inspect BAG > convert.yaml      # what is in it, and a configuration for it

Each recording becomes a piece in a hidden directory beside the output, several at a time; then the pieces are
joined in the order of the recordings' names, without encoding anything again. A run that was killed resumes
from the pieces that are there. A later run on the same output adds what is new: episodes keep their numbers.
conversion.json in the dataset says what was kept, what not and why.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ur10e_act.errors import UserError, run_cli
from ur10e_act.recordings.assemble_dataset import assemble, choose
from ur10e_act.recordings.conversion_report import Skipped, read_reports, table
from ur10e_act.recordings.convert_config import ConvertConfig, load_convert_config
from ur10e_act.recordings.find_recordings import find_recordings, folder_kind
from ur10e_act.recordings.inspect_recording import inspect
from ur10e_act.recordings.make_pieces import locked_pieces, make_pieces


@dataclass(frozen=True)
class Options:
    """recover, strict, overwrite: as the command line says. workers: processes, None for one a core."""

    recover: bool = False
    strict: bool = False
    overwrite: bool = False
    workers: int | None = None


def convert(bags: Path, output: Path, config: ConvertConfig, options: Options = Options()) -> dict[str, Any]:
    """Converts all recordings in ``bags`` that ``output`` does not have yet; returns conversion.json.

    Recordings that ``output`` has need not be in ``bags``. Raises UserError, leaving ``output`` as it is: no
    recording in either, none usable, one changed since it was converted, another configuration than
    before, or with ``strict`` any that would be skipped.
    """
    output = Path(output).absolute()
    if (Path(bags) / "meta" / "info.json").is_file():
        raise UserError(f"{bags}: is a LeRobot dataset already; there is nothing to convert")
    recordings = find_recordings(bags)
    if not recordings and output.is_dir():
        print(f"{bags}: no recordings here; {output} stays as it is", file=sys.stderr)
    else:
        folder_kind(bags)  # says what is wrong where there is nothing to convert
    with locked_pieces(output) as pieces:
        known = [] if options.overwrite else read_reports(output, config)
        made = make_pieces(recordings, config, pieces, known, options.recover, options.workers)
        reports = choose(made, known)
        print(table(reports))
        skipped = [(report, report.result) for report in reports if isinstance(report.result, Skipped)]
        if options.strict and skipped:
            first, result = skipped[0]
            raise UserError(
                f"{len(skipped)} of {len(reports)} recordings cannot be converted and --strict is set; the "
                f"first is {first.recording}: {result.reason}"
            )
        if len(skipped) == len(reports):
            raise UserError(f"{bags}: none of {len(reports)} recordings can be converted; see the table")
        content = assemble(reports, pieces, output, config)
        shutil.rmtree(pieces)
    return content


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bags", type=Path, help="folder of recordings (or one recording)")
    parser.add_argument("--output", type=Path, help="folder of the dataset")
    parser.add_argument("--config", type=Path, help="YAML file, see convert.yaml")
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="may be repeated"
    )
    parser.add_argument(
        "--inspect", type=Path, metavar="BAG", help="print what a recording holds, and a configuration"
    )
    parser.add_argument(
        "--strict", action="store_true", help="convert nothing unless every recording is whole"
    )
    parser.add_argument(
        "--recover",
        action="store_true",
        help="take what a killed recorder left: a cut .mcap, no metadata.yaml",
    )
    parser.add_argument("--overwrite", action="store_true", help="convert everything again")
    parser.add_argument("--workers", type=int, help="recordings at a time (one a core)")
    args = parser.parse_args(argv)
    if args.inspect:
        print(inspect(args.inspect), end="")
        return
    if not args.bags or not args.output:
        parser.error("--bags and --output are needed (or --inspect)")
    if args.workers is not None and args.workers < 1:
        raise UserError("--workers must be at least 1")
    if args.config is None:
        raise UserError("--config is needed: `make inspect BAGS=DIR > convert.yaml` proposes one")
    config = load_convert_config(args.config, args.override)
    options = Options(args.recover, args.strict, args.overwrite, args.workers)
    report = convert(args.bags, args.output, config, options)
    counts = report["summary"]
    print(f"{args.output}: {counts['kept']} episodes, {counts['frames']} frames, {counts['skipped']} skipped")


if __name__ == "__main__":
    run_cli(main)
