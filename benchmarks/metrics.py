"""Speed and memory of an evaluation, each against a plain baseline in the same run.

python benchmarks/metrics.py [--frames 8] [--methods 3] [--height 480] [--width 720]

Speed: `tecogan` on several methods in one pass, whose truth's flows and features are shared, against the same
definition applied to one method at a time with the LPIPS package called on pairs of frames. Both give the same numbers,
which is checked. Memory: peak of NumPy and Python memory while a long clip streams, against stacking it first; the
growth from one clip length to twice that length should be about nothing.
"""

import argparse
import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch

from stvsr.metrics import perceptual
from stvsr.metrics.fidelity import psnr
from stvsr.metrics.protocols import PROTOCOLS, TRUTH, centre_crop
from stvsr.metrics.scoring import score_methods

TECOGAN, LITERATURE = PROTOCOLS["tecogan"], PROTOCOLS["literature-y"]
FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
VID4_FRAMES = 171  # calendar 41, city 34, foliage 49, walk 47


def frame(index: int, height: int, width: int, blur: float = 0) -> np.ndarray:
    """Return one frame of a clip that needs no file: drifting texture, uint8 (H, W, 3)."""
    noise = np.random.default_rng(0).random((height // 6 + 2, (width + 400) // 6 + 2, 3))
    wide = cv2.resize(noise, (width + 400, height), interpolation=cv2.INTER_CUBIC)
    image = (255 * wide[:, 2 * (index % 200) :][:, :width]).clip(0, 255).astype(np.uint8)
    return cv2.GaussianBlur(image, (0, 0), blur) if blur else image


def clip(frames: int, size: tuple[int, int], blur: float = 0) -> Iterator[np.ndarray]:
    return (frame(index, *size, blur) for index in range(frames))


def plain(result: list[np.ndarray], truth: list[np.ndarray]) -> dict[str, float]:
    """Score one method by `tecogan` the plain way: nothing shared, nothing kept."""
    network = perceptual.network("lpips", "cpu").network

    def lpips(first: np.ndarray, second: np.ndarray) -> float:
        images = (
            torch.from_numpy(centre_crop(each).copy()).movedim(-1, 0)[None].float() / 127.5 - 1
            for each in (first, second)
        )
        with torch.inference_mode():
            return network(*images).item()

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        grey = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (first, second))
        return centre_crop(cv2.calcOpticalFlowFarneback(*grey, None, *FARNEBACK))

    kept = list(zip(result[2:-2], truth[2:-2], strict=True))
    pairs = list(itertools.pairwise(kept))
    return {
        "psnr": np.mean([psnr(centre_crop(a).copy(), centre_crop(b).copy()) for a, b in kept]),
        "lpips": np.mean([lpips(a, b) for a, b in kept]),
        "tof": np.mean([np.linalg.norm(flow(a, c) - flow(b, d), axis=2).mean() for (a, b), (c, d) in pairs]),
        "tlp100": np.mean([100 * abs(lpips(b, d) - lpips(a, c)) for (a, b), (c, d) in pairs]),
    }


def speed(frames: int, methods: int, size: tuple[int, int]) -> None:
    truth = list(clip(frames + 4, size))
    results = {f"blur {blur}": list(clip(frames + 4, size, 0.5 * blur)) for blur in range(1, methods + 1)}
    perceptual.network("lpips", "cpu").features([centre_crop(truth[0])])  # loading is not timed

    baseline, plainly = timed(lambda: {name: plain(result, truth) for name, result in results.items()})
    scores, shared = timed(lambda: score_methods(results, truth, TECOGAN))
    means = scores[scores["method"] != TRUTH].groupby(["method", "metric"])["value"].mean()
    worst = max(abs(means[name, metric] - value) for name, row in baseline.items() for metric, value in row.items())
    print(
        f"{frames} frames of {size[1]}x{size[0]}, {methods} methods, {torch.get_num_threads()} threads; "
        f"they differ by {worst:.1e}"
    )
    for clock in plainly:
        ratio = plainly[clock] / shared[clock]
        print(
            f"tecogan, {clock} time: plain {plainly[clock]:.2f} s, shared {shared[clock]:.2f} s: "
            f"{ratio:.2f} times as fast"
        )

    one = {name: results[name] for name in list(results)[:1]}
    _, first = timed(lambda: score_methods(one, truth, TECOGAN))
    _, second = timed(lambda: score_methods(one, truth, LITERATURE))
    for clock in first:
        each = first[clock] / frames + second[clock] / len(truth)
        print(
            f"one method, literature-y and tecogan, {clock} time: {each:.3f} s per frame, "
            f"{each * VID4_FRAMES:.0f} s for Vid4"
        )


def timed(work: Callable[[], object]) -> tuple[object, dict[str, float]]:
    """Return what `work` returns, and its wall and processor seconds (on a busy machine only the latter mean much)."""
    wall, processor = time.perf_counter(), time.process_time()
    done = work()
    return done, {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def peak(frames: int, size: tuple[int, int], *, stacked: bool) -> float:
    """Return the peak of traced memory in MiB while one method is scored."""
    tracemalloc.start()
    result, truth = clip(frames, size, 1.0), clip(frames, size)
    if stacked:
        result, truth = np.stack(list(result)), np.stack(list(truth))
    score_methods({"one": result}, truth, LITERATURE)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def memory(frames: int, size: tuple[int, int]) -> None:
    for label, stacked in (("streamed", False), ("stacked first", True)):
        short, long = (peak(count, size, stacked=stacked) for count in (frames, 2 * frames))
        print(
            f"literature-y, {label}: {short:.0f} MiB for {frames} frames, {long:.0f} MiB for {2 * frames}: "
            f"{long / short:.2f} times"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--methods", type=int, default=3)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=720)
    parsed = parser.parse_args()
    size = parsed.height, parsed.width
    speed(parsed.frames, parsed.methods, size)
    memory(4 * parsed.frames, size)


if __name__ == "__main__":
    main()
