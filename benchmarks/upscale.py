"""Memory, seams and speed of upscaling, each against a plain baseline in the same run.

python benchmarks/upscale.py memory [--model basicvsr-bi] [--frames 50 500] [--height 36] [--width 44]
python benchmarks/upscale.py tiles [--frames 5]
python benchmarks/upscale.py windows [--model basicvsr-adversarial] [--clip bikes-02] [--frames 40] [--card]
python benchmarks/upscale.py layout [--frames 5]

memory: peak resident memory of `upscale` from video file to video file with sound, one process per clip length, against
reading the clip whole, upscaling it whole and writing it then. It should be flat within 10%.
tiles: Y-PSNR of tiled against whole frames, and the largest step across a column that only the tiled result has.
windows: scores of a recurrent generator by the frames that it sees together, up to the whole clip (held out);
--card writes them into its model card.
layout: speed with weights and features channels last in memory, as `inference` holds them, against PyTorch's own order.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import torch

from stvsr.assets import locate
from stvsr.data.clips import load_clips, select_clips
from stvsr.degradation import degrade, to_float, to_uint8
from stvsr.evaluation.model_card import CARD_PROTOCOLS, write_card
from stvsr.inference.upscale_file import UpscaleConfig, upscale
from stvsr.inference.upscaler import InferenceConfig, Upscaler, load_upscaler
from stvsr.metrics.fidelity import psnr
from stvsr.metrics.protocols import find_protocol
from stvsr.metrics.scoring import score_methods
from stvsr.models.generators import WEIGHTS, load_generator
from stvsr.runs.files import read_json
from stvsr.video.reader import read_clip
from stvsr.video.writer import write_video

SECOND = 48_000  # samples


def there_and_back(frames: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield `count` frames of a clip played forwards and backwards, without a cut."""
    period = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    return (frames[index] for index in itertools.islice(itertools.cycle(period), count))


def make_clip(path: Path, count: int, height: int, width: int) -> Path:
    """Write a clip of real motion with sound: carphone, shrunk four times and cut to the size."""
    small = degrade(read_clip(locate("carphone"), 0, 40), "bi", 4)
    tiled = np.tile(small, (1, -(-height // small.shape[1]), -(-width // small.shape[2]), 1))[:, :height, :width]
    silent = write_video(path.with_name("silent.mp4"), there_and_back(tiled, count), 25)
    with av.open(str(silent)) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        audio = target.add_stream("aac", rate=SECOND, layout="mono")
        for packet in source.demux(source.streams.video[0]):
            if packet.pts is not None:
                packet.stream = video
                target.mux(packet)
        for start in range(0, count * SECOND // 25, 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SECOND, start, Fraction(1, SECOND)
            target.mux(audio.encode(frame))
        target.mux(audio.encode())
    silent.unlink()
    return path


def streamed(source: Path, target: Path, model: str) -> None:
    upscale(UpscaleConfig(input=source, output=target, model=model, inference=InferenceConfig(tile=0)), progress=False)


def whole(source: Path, target: Path, model: str) -> None:
    """Upscale the plain way, with everything in memory."""
    frames = read_clip(source)
    with torch.inference_mode():
        if model == "bicubic":
            upscaled = np.stack(list(load_upscaler("bicubic")(frames)))
        else:
            network, _ = load_generator(model)
            upscaled = to_uint8(network(to_float(frames)[None])[0])
    write_video(target, upscaled, 25)


def measure(way: str, source: Path, model: str) -> tuple[float, float]:
    """Return (peak MB, seconds) of one way in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "one", way, str(source), str(Path(folder) / "out.mp4"), "--model", model]
        last = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    peak, seconds = map(float, last.split())
    return peak, seconds


def one(parsed: argparse.Namespace) -> None:
    started = time.perf_counter()
    {"streamed": streamed, "whole": whole}[parsed.way](parsed.source, parsed.target, parsed.model)
    print(peak_megabytes(), time.perf_counter() - started)


def peak_megabytes() -> float:
    """Return this process's peak resident memory; `ru_maxrss` would include its parent's, from before the exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts in bytes


def memory(parsed: argparse.Namespace) -> None:
    print(f"{parsed.model}, {parsed.width}x{parsed.height}\n{'frames':>8} {'way':>9} {'peak MB':>8} {'fps':>6}")
    peaks: dict[str, list[float]] = {"streamed": [], "whole": []}
    with tempfile.TemporaryDirectory() as folder:
        for count in parsed.frames:
            source = make_clip(Path(folder) / f"{count}.mp4", count, parsed.height, parsed.width)
            for way in peaks:
                peak, seconds = measure(way, source, parsed.model)
                peaks[way].append(peak)
                print(f"{count:8d} {way:>9} {peak:8.0f} {count / seconds:6.2f}", flush=True)
    for way, values in peaks.items():
        print(
            f"{way}: {100 * (max(values) / values[0] - 1):+.1f}% from {parsed.frames[0]} to {parsed.frames[-1]} frames"
        )


def score(frames: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([psnr(a, b) for a, b in zip(frames, truth, strict=True)]))


def timed(upscaler: Upscaler, frames: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the upscaled frames and how many were made a second."""
    started = time.perf_counter()
    upscaled = np.stack(list(upscaler(frames)))
    return upscaled, len(frames) / (time.perf_counter() - started)


def run(frames: np.ndarray, **config: int) -> tuple[np.ndarray, float]:
    return timed(load_upscaler("basicvsr-bi", config=InferenceConfig(**{"tile": 0} | config)), frames)


def tiles(parsed: argparse.Namespace) -> None:
    truth = read_clip(locate("bikes"), 40, 40 + parsed.frames)
    recorded = degrade(truth, "bi", 4)
    reference, fps = run(recorded)
    print(f"basicvsr-bi, {recorded.shape[2]}x{recorded.shape[1]}, {parsed.frames} frames")
    print(f"{'tile':>6} {'overlap':>8} {'Y-PSNR':>8} {'to whole':>9} {'step':>6} {'fps':>6}")
    print(f"{'whole':>6} {'':8} {score(reference, truth):8.3f} {'':9} {'':6} {fps:6.2f}")
    steps = np.abs(np.diff(reference.astype(int), axis=2)).mean((0, 1, 3))
    for tile, overlap in ((64, 16), (64, 32), (96, 32)):
        tiled, fps = run(recorded, tile=tile, tile_overlap=overlap)
        seam = np.abs(np.abs(np.diff(tiled.astype(int), axis=2)).mean((0, 1, 3)) - steps).max()
        print(
            f"{tile:6d} {overlap:8d} {score(tiled, truth):8.3f} {score(tiled, reference):9.2f} {seam:6.2f} {fps:6.2f}",
            flush=True,
        )


def windows(parsed: argparse.Namespace) -> None:
    truth = select_clips(load_clips(("samples",), "test"), (parsed.clip,))[0].frames(range(parsed.frames))
    recorded, rows = degrade(truth, "bi", 4), {}
    print(f"{parsed.model}, {parsed.clip}, {len(truth)} frames of {recorded.shape[2]}x{recorded.shape[1]}")
    for window in sorted({7, 20, len(truth)}):
        config = InferenceConfig(window=window, tile=0, precision="full")
        upscaler = load_upscaler(parsed.model, config=config)
        made = {"made": list(upscaler(recorded))}
        tables = [
            score_methods(made, truth, find_protocol(protocol)).assign(protocol=protocol) for protocol in CARD_PROTOCOLS
        ]
        scores = pd.concat(tables).query("method == 'made'").groupby(["metric", "protocol"], sort=False)["value"].mean()
        rows[str(window)] = {f"{metric}, {protocol}": round(value, 4) for (metric, protocol), value in scores.items()}
        print(window, rows[str(window)], flush=True)
    if parsed.card:
        path = WEIGHTS / f"{parsed.model}.json"
        what = f"the first {len(truth)} frames of the held-out sample clip {parsed.clip}"
        write_card(path, read_json(path) | {"windows": {"what": what, "scores": rows}})


def layout(parsed: argparse.Namespace) -> None:
    recorded = degrade(read_clip(locate("bigbuckbunny"), 0, parsed.frames), "bi", 4)
    print(f"{recorded.shape[2]}x{recorded.shape[1]}, {parsed.frames} frames")
    print(f"{'model':>12} {'plain fps':>10} {'ours fps':>9} {'ratio':>6} {'levels':>7}")
    for model in ("rbpn-small", "basicvsr-bi"):
        made = []
        for order in (torch.contiguous_format, torch.channels_last):
            upscaler = load_upscaler(model, config=InferenceConfig(tile=0))
            upscaler.network.to(memory_format=order)
            timed(upscaler, recorded)  # the first run builds the kernels
            made.append(timed(upscaler, recorded))
        (reference, plain), (upscaled, ours) = made
        levels = np.abs(upscaled.astype(int) - reference).max()
        print(f"{model:>12} {plain:10.2f} {ours:9.2f} {ours / plain:6.2f} {levels:7d}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for work in (memory, tiles, windows, layout, one):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        if work in (memory, one, windows):
            command.add_argument("--model", default="basicvsr-bi")
        if work is windows:
            command.add_argument("--clip", default="bikes-02")
            command.add_argument("--card", action="store_true")
        if work is one:
            command.add_argument("way", choices=("streamed", "whole"))
            command.add_argument("source", type=Path)
            command.add_argument("target", type=Path)
        elif work is memory:
            command.add_argument("--frames", type=int, nargs="+", default=[50, 500])
            command.add_argument("--height", type=int, default=36)
            command.add_argument("--width", type=int, default=44)
        else:
            command.add_argument("--frames", type=int, default={tiles: 5, windows: 40, layout: 5}[work])
    parsed = parser.parse_args()
    parsed.work(parsed)


if __name__ == "__main__":
    main()
