"""Run the benchmarks: `python -m benchmarks [CASE ...] [--quick] [--repeats 5] [--json FILE] [--readme README.md]`.

Every case compares our way with the plain one, interleaved in one process; times are medians. On a machine that others
use too, look at the ratios of processor time. Cases that need a GPU are listed as not measured where there is none.
"""

import argparse
import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path

import torch

from benchmarks.harness import Result, Settings, describe_machine, measure_peak
from stvsr.errors import InputError
from stvsr.runs.files import write_text

CASES = ("samples", "generators", "training", "evaluation", "upscaling", "growth", "startup")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small inputs: does it run, roughly how fast")
    parser.add_argument("--repeats", type=int, default=5, help="of each side (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for generators and training")
    parser.add_argument("--json", type=Path, help="write results, hardware and software")
    parser.add_argument("--readme", type=Path, help="rewrite the block `speed` of this file from the JSON")
    parser.add_argument("--note", default="", help="about the machine, for the JSON and the README")
    parsed = parser.parse_args()
    try:
        return run(parsed)
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def run(parsed: argparse.Namespace) -> int:
    unknown = [name for name in parsed.cases if name not in CASES]
    if unknown:
        raise InputError(f"case {unknown[0]!r} is unknown: choose from {', '.join(CASES)}")
    if parsed.repeats < 1:
        raise InputError(f"repeats is {parsed.repeats}: at least 1")
    if parsed.readme and not parsed.json:
        raise InputError("--readme needs --json: the table is made from that file")
    known = json.loads(parsed.json.read_text()) if parsed.json and parsed.json.is_file() else {"results": []}
    peak = measure_peak(parsed.device)
    print(f"peak: {peak.gflops:.0f} GFLOP/s, {peak.gigabytes:.1f} GB/s with {peak.threads} threads; load {load()}")
    settings = Settings(quick=parsed.quick, repeats=parsed.repeats, device=parsed.device, peak=peak)
    kept = [entry for entry in known["results"] if parsed.cases and entry["case"] not in parsed.cases]
    made = []
    for name in parsed.cases or CASES:
        for result in importlib.import_module(f"benchmarks.{name}").measure(settings):
            print(line(result), flush=True)
            made.append(result.as_dict() | {"quick": parsed.quick, "load": load()})
            if parsed.json:  # after every result, so that an interruption loses nothing
                content = describe_machine(peak) | {"note": parsed.note, "settings": dataclasses.asdict(settings)}
                write_text(parsed.json, json.dumps(content | {"results": kept + made}, indent=1) + "\n")
    if not torch.cuda.is_available():
        print("on a GPU: not measured, there is none")
    if parsed.readme:
        update_readme(parsed.readme, json.loads(parsed.json.read_text()))
    return 0


def load() -> float | None:
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def line(result: Result) -> str:
    """Return one result as a line for the terminal."""
    if result.case == "growth":
        return f"{result.case:10s} {result.what}: {result.note}"
    processor = by_processor(result.processor_ratio)
    parts = [
        f"{result.case:10s} {result.what}: {result.plain_seconds:.3g} -> {result.seconds:.3g} s/{result.unit}",
        f"against {result.plain}: {result.ratio:.2f}x by wall clock, {processor} by processor",
    ]
    if result.difference is not None:
        parts.append(f"{result.tolerance} {result.difference:.1e}")
    if result.memory is not None and result.plain_memory is not None:
        parts.append(f"memory {result.plain_memory:.0f} -> {result.memory:.0f} MB")
    if result.share is not None:
        parts.append(f"{100 * result.share:.0f}% of peak")
    return "; ".join([*parts, *([result.note] if result.note else [])])


def by_processor(ratio: float | None) -> str:
    """Return a ratio of processor times as text."""
    return "not measured" if ratio is None else f"{ratio:.2f}x"


def table(content: dict) -> str:
    """Return the README's table: one row per comparison, with the hardware below it."""
    rows = [
        "| work | against | plain, s | here, s | times as fast | by processor time |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {entry['what']}, per {entry['unit']} | {entry['plain']} | {entry['plain_seconds']:.3g} "
        f"| {entry['seconds']:.3g} | {entry['ratio']:.2f} | {by_processor(entry['processor_ratio'])} |"
        for entry in content["results"]
        if entry["case"] not in ("growth", "startup")
    ]
    peak, hardware = content["peak"], content["hardware"]
    gpu = hardware["gpu"] or "no GPU: GPU cases not measured"
    closing = [
        f"Medians, interleaved in one process, {peak['threads']} thread(s) of {hardware['cores']} cores "
        f"({hardware['cpu']}; {peak['gflops']:.0f} GFLOP/s and {peak['gigabytes']:.1f} GB/s measured; {gpu}).",
        *([content["note"]] if content["note"] else []),
    ]
    return "\n".join([*rows, "", *closing])


def update_readme(readme: Path, content: dict) -> None:
    """Rewrite what stands between `<!-- speed: ... -->` and `<!-- /speed -->`."""
    text = readme.read_text(encoding="utf-8")
    head, start, rest = text.partition("<!-- speed:")
    comment, close, body = rest.partition("-->")
    _, end, tail = body.partition("<!-- /speed -->")
    if not (start and close and end):
        raise InputError(f"{readme} has no block for speed: add <!-- speed: --> and <!-- /speed -->")
    write_text(readme, f"{head}{start}{comment}-->\n{table(content)}\n{end}{tail}")


if __name__ == "__main__":
    sys.exit(main())
