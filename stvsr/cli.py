"""The command line: a light wrapper, one function per command, one clear line for every mistake."""

import argparse
import io
import os
import sys
from pathlib import Path

from stvsr import __version__
from stvsr.errors import InputError

# heavy imports (PyTorch) stay inside the commands, so that --help answers at once


def main(arguments: list[str] | None = None) -> int:
    """Run `stvsr COMMAND ...`; return the exit status: 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="stvsr", description="Spatio-temporal adversarial video super-resolution, reproducible."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_reproduce, _add_check, _add_results, _add_compare, _add_data,
        _add_evaluate, _add_degrade, _add_upscale, _add_export, _add_assets,
    ):  # fmt: skip
        add(commands)
    parsed = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text that the terminal can show
            stream.reconfigure(errors="backslashreplace")
    try:
        status = parsed.run(parsed) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, OSError) as error:
        print(f"stvsr: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print("stvsr: interrupted", file=sys.stderr)
        return getattr(error, "status", 130)


def _add_reproduce(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "reproduce", help="run a study (smoke, quick, gpu, paper, or a .toml file) and build its report"
    )
    command.add_argument("study", help="name in notebooks/studies, or a .toml file")
    command.add_argument("--out", type=Path, help="run folder (default: reports/STUDY)")
    command.add_argument("--only", default="", metavar="STEP", help="run this step and what it needs")
    command.add_argument(
        "--force",
        action="append",
        default=[],
        metavar="STEP",
        help="run this step although nothing changed, and move its old result aside; can be repeated",
    )
    command.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="steps at once on this machine, each with its own GPUs"
    )
    command.add_argument("--scheduler", default="", metavar="ADDRESS", help="run steps on an existing Dask cluster")
    command.add_argument(
        "--minutes", type=float, default=0, help="stop after so long, with checkpoints; run again to continue"
    )
    command.add_argument("--dry-run", action="store_true", help="say which steps would run and why")
    command.add_argument(
        "--estimate",
        action="store_true",
        help="measure a few updates of each kind and print time, GPU hours, memory and disk of what would run",
    )
    command.add_argument("--report-only", action="store_true", help="build the report from what is there")
    command.set_defaults(run=_reproduce)


def _reproduce(parsed: argparse.Namespace) -> int:
    # jsonschema would parse a grammar of internationalised addresses, for a third of the start; notebooks have none
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from stvsr.study.pipeline import reproduce

    return reproduce(
        parsed.study,
        out=parsed.out,
        only=parsed.only,
        force=parsed.force,
        jobs=parsed.jobs,
        scheduler=parsed.scheduler,
        minutes=parsed.minutes,
        dry_run=parsed.dry_run,
        estimate=parsed.estimate,
        report_only=parsed.report_only,
    )


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "evaluate", help="score frame folders or videos against the truth, by a named protocol"
    )
    command.add_argument(
        "--results",
        nargs="+",
        required=True,
        metavar="[NAME=]DIR",
        help="a clip or a folder of clips, one per method; NAME@s0, NAME@s1 are seeds of one",
    )
    command.add_argument(
        "--targets", required=True, metavar="DIR", help="the truth: a clip or a folder of clips with the same names"
    )
    command.add_argument(
        "--protocol", required=True, help="literature-y, original-rgb, tecogan, study or second-opinion"
    )
    command.add_argument("--json", metavar="FILE", help="averages, clip means, settings and hashes of weights")
    command.add_argument("--csv", metavar="FILE", help="one row per method, clip, frame and metric")
    command.add_argument(
        "--degradation", choices=("bi", "bd", "other"), default="other", help="how the input was made: recorded"
    )
    command.add_argument(
        "--device", default="cpu", help="where measuring networks run: cpu, cuda or auto (default: %(default)s)"
    )
    command.add_argument("--strict", action="store_true", help="refuse videos with damaged or missing frames")
    command.set_defaults(run=_evaluate)


def _evaluate(parsed: argparse.Namespace) -> int:
    from stvsr.evaluation.results import seeds_text
    from stvsr.metrics.tables import run

    print(
        run(
            parsed.results,
            parsed.targets,
            parsed.protocol,
            json=parsed.json,
            csv=parsed.csv,
            degradation=parsed.degradation,
            device=parsed.device,
            strict=parsed.strict,
            more=seeds_text,
        )
    )
    return 0


def _add_degrade(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("degrade", help="shrink a clip by BI or BD, as the study's inputs are made")
    command.add_argument("input", type=Path, help="video or frame folder")
    command.add_argument("output", type=Path, help="folder for PNG frames")
    command.add_argument(
        "--mode", choices=("bi", "bd"), default="bi", help="MATLAB bicubic, or Gaussian blur and block centres"
    )
    command.add_argument("--scale", type=int, choices=(2, 4, 8), default=4)
    command.add_argument("--strict", action="store_true", help="refuse a video with damaged or missing frames")
    command.set_defaults(run=_degrade)


def _degrade(parsed: argparse.Namespace) -> int:
    from stvsr.degradation import crop_to_multiple, degrade
    from stvsr.video.folders import print_note
    from stvsr.video.reader import open_clip
    from stvsr.video.writer import write_frames

    scale = parsed.scale
    with open_clip(parsed.input, strict=parsed.strict) as clip:
        small = (degrade(crop_to_multiple(frame[None], scale), parsed.mode, scale)[0] for frame in clip)
        write_frames(parsed.output, small, names=clip.names(), profile=clip.profile)
        (height, width), (tall, wide) = clip.size, (side // scale * scale for side in clip.size)
        if (tall, wide) != (height, width):
            print_note(f"{parsed.input} was cropped from {width}x{height} to {wide}x{tall}, multiples of {scale}")
        for note in clip.notes:
            print_note(f"{parsed.input}: {note}")
    print(parsed.output)
    return 0


def _add_upscale(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("upscale", help="enlarge a video, a frame folder or a folder of clips four times")
    command.add_argument("input", type=Path, help="video file, frame folder, image, or folder of clips")
    command.add_argument("output", help=".mp4, .mov, .mkv or .webm, or a folder for PNG frames or upscaled clips")
    models = "basicvsr-bi, basicvsr-bd, bicubic, shipped weights, or a checkpoint (default: %(default)s)"
    command.add_argument("--model", default="basicvsr-bi", help=models)
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    command.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="skip this much")
    command.add_argument("--duration", type=float, metavar="SECONDS", help="stop after this much")
    command.add_argument(
        "--crf", type=int, default=18, help="quality of the encoder, 0 (best) to 51 (default: %(default)s)"
    )
    command.add_argument("--compare", action="store_true", help="bicubic on the left, the model on the right")
    command.add_argument("--no-audio", action="store_true", help="leave the sound out")
    command.add_argument("--strict", action="store_true", help="refuse a video with damaged or missing frames")
    command.add_argument("--fps", type=float, help="frame rate of a frame folder (default: 25)")
    tile = "side of the tiles it works on, input pixels; 0: whole frames (default: what fits the free memory)"
    command.add_argument("--tile", type=int, metavar="PIXELS", help=tile)
    command.add_argument(
        "--tile-overlap", type=int, default=32, metavar="PIXELS", help="shared by tiles (default: %(default)s)"
    )
    window = "seen together by BasicVSR (default: what its weights recommend, printed beforehand)"
    command.add_argument("--window", type=int, metavar="FRAMES", help=window)
    command.add_argument(
        "--window-overlap", type=int, metavar="FRAMES", help="shared by windows (default: 6, at most half a window)"
    )
    precision = (
        "full (32 bits), bfloat16, float16 (GPU), or auto: 16 bits where the processor is fast at them and the first "
        "frames lose at most 0.02 dB (default: %(default)s)"
    )
    command.add_argument("--precision", default="auto", help=precision)
    command.add_argument("--overwrite", action="store_true", help="replace an existing output")
    command.set_defaults(run=_upscale)


def _upscale(parsed: argparse.Namespace) -> int:
    import signal

    from stvsr.inference.upscale_file import UpscaleConfig, upscale
    from stvsr.inference.upscaler import InferenceConfig

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being ended tidies up as Ctrl-C does
    done = upscale(
        UpscaleConfig(
            input=parsed.input,
            output=parsed.output,
            model=parsed.model,
            device=parsed.device,
            start=parsed.start,
            duration=parsed.duration,
            crf=parsed.crf,
            compare=parsed.compare,
            audio=not parsed.no_audio,
            strict=parsed.strict,
            fps=parsed.fps,
            overwrite=parsed.overwrite,
            inference=InferenceConfig(
                tile=parsed.tile,
                tile_overlap=parsed.tile_overlap,
                window=parsed.window,
                window_overlap=parsed.window_overlap,
                precision=parsed.precision,
            ),
        )
    )
    print(f"{done.frames} frames in {done.path}")
    return 0


def _add_export(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("export", help="write a BasicVSR as an ONNX file, for frames of any size")
    command.add_argument("model", help="basicvsr-bi, basicvsr-bd, shipped weights, or a checkpoint")
    command.add_argument("output", type=Path, help=".onnx file")
    command.add_argument(
        "--frames", type=int, default=7, help="length of the clips that the file takes (default: %(default)s)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace an existing output")
    command.set_defaults(run=_export)


def _export(parsed: argparse.Namespace) -> int:
    from stvsr.models.export import export_onnx

    error = export_onnx(parsed.model, parsed.output, frames=parsed.frames, overwrite=parsed.overwrite)
    print(f"{parsed.output}: clips of {parsed.frames} frames; ONNX Runtime differs from PyTorch by at most {error:.1e}")
    return 0


def _add_assets(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("assets", help="list sample clips and weights, and check their hashes")
    command.set_defaults(run=_assets)


def _assets(parsed: argparse.Namespace) -> int:
    from stvsr.assets import ASSETS, locate

    problems = 0
    for name, asset in ASSETS.items():
        print(f"{name:18s} {asset.package} {asset.version}, {asset.licence}: {asset.description}")
        try:
            print(f"{'':18s} {locate(name)}")
        except InputError as error:
            problems += 1
            print(f"{'':18s} {error}")
    return 2 if problems else 0


def _add_check(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("check", help="check a study before it runs: configurations, data, weights, machine")
    command.add_argument("study", help="name in notebooks/studies, or a .toml file")
    command.add_argument("--out", type=Path, help="run folder (default: reports/STUDY)")
    command.add_argument("--jobs", type=int, default=1, metavar="N", help="steps at once on this machine")
    command.set_defaults(run=_check)


def _check(parsed: argparse.Namespace) -> int:
    from stvsr.study.check import Machine, print_faults
    from stvsr.study.study_file import load_study

    study = load_study(parsed.study, parsed.out)
    faults = print_faults(study, study.steps, Machine(parsed.jobs))
    if not faults:
        print(f"study {parsed.study}: {len(study.steps)} steps, nothing is wrong")
    return 2 if faults else 0


def _add_data(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("data", help="check a data set frame by frame")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="structure, counts, sizes, unreadable frames, list entries, duplicates")
    check.add_argument("path", help="Vimeo-90k root or its zip, a folder of frames or of clips, a video, or samples")
    check.add_argument("--report", type=Path, metavar="FILE", help="write every fault there, not only the first ten")
    check.add_argument("--workers", type=int, default=0, metavar="N", help="threads (default: one per processor)")
    check.set_defaults(run=_check_data)


def _check_data(parsed: argparse.Namespace) -> int:
    from stvsr.data.checking import SHOWN, check_data
    from stvsr.runs.files import write_text

    report = check_data(parsed.path, workers=parsed.workers)
    if parsed.report:
        write_text(parsed.report, "\n".join(report.lines()) + "\n")
    print("\n".join(report.lines(SHOWN)))
    return 2 if report.faults else 0


def _add_results(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("results", help="show the means and comparisons of a finished run")
    command.add_argument("run_folder", type=Path, metavar="RUN", help="run folder, such as reports/quick")
    command.add_argument("--json", action="store_true", help="as JSON, with all digits")
    command.set_defaults(run=_results)


def _results(parsed: argparse.Namespace) -> int:
    from stvsr.evaluation.results import results_json, results_text

    print(results_json(parsed.run_folder) if parsed.json else results_text(parsed.run_folder))
    return 0


def _add_compare(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("compare", help="finished runs in one table, or one HTML page")
    command.add_argument("run_folders", nargs="+", metavar="RUN", help="run folders, or NAME=FOLDER")
    command.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained page there")
    command.add_argument("--csv", type=Path, metavar="FILE", help="write the table there, with all digits")
    command.set_defaults(run=_compare)


def _compare(parsed: argparse.Namespace) -> int:
    from stvsr.evaluation.results import compare_runs

    print(compare_runs(parsed.run_folders, html=parsed.html, csv=parsed.csv))
    return 0
