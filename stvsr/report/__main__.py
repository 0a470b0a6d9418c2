"""Build a report again: `python -m stvsr.report reports/quick`."""

import argparse
import sys
from pathlib import Path

from stvsr.errors import InputError
from stvsr.report.build import BUDGET_MB, build_report


def main(arguments: list[str] | None = None) -> int:
    """Build the report of the run folder named on the command line and print where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m stvsr.report", description="Build a run's report again from its folder."
    )
    parser.add_argument("run_folder", type=Path, help="a folder that holds run.json, such as reports/quick")
    parser.add_argument(
        "--budget-mb",
        type=float,
        default=BUDGET_MB,
        help="largest size of report.html; more goes to media/ (default %(default)g)",
    )
    options = parser.parse_args(arguments)
    try:
        print(build_report(options.run_folder, budget_mb=options.budget_mb))
    except InputError as error:
        print(f"stvsr: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
