"""Scoring by a named protocol: one clip from memory or streams, or folders of clips and many methods at once."""

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from stvsr.degradation import DEGRADATIONS
from stvsr.errors import InputError, unknown
from stvsr.metrics.fidelity import size
from stvsr.metrics.protocols import METRICS, TRUTH, Protocol, find_protocol, weights_of
from stvsr.metrics.views import Pair, View, fill_features, lockstep
from stvsr.runs.device import pick_device
from stvsr.video.folders import find_clips, natural, print_note
from stvsr.video.reader import FrameReader, open_clip

ORIGINS = (*DEGRADATIONS, "other")  # how a low-resolution input can have been made
SCALES = (2, 4, 8)  # degrade crops to multiples of these
COLUMNS = [
    "method", "arm", "seed", "clip", "frame", "metric", "value",
    "protocol", "version", "colour", "border", "dropped", "degradation", "weights",
]  # fmt: skip


def evaluate(
    methods: Mapping[str, str | os.PathLike],
    targets: str | os.PathLike,
    protocol: str,
    *,
    degradation: str = "other",
    device: str = "cpu",
    strict: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Score every method's clips against the targets.

    Args:
        methods: name -> a clip (frame folder or video), or a folder of clips. `arm@seed` names one seed of a trained
            arm.
        targets: a clip, or a folder of clips with the same names; a lone clip needs no equal name. Frames are cropped
            as `stvsr degrade` crops them where the results are smaller for that reason.
        protocol: a name in `PROTOCOLS`.
        degradation: how the low-resolution input was made, "bi", "bd" or "other": recorded in every row.
        device: where measuring networks run: cpu, cuda or auto.
        strict: refuse videos with damaged or missing frames, on either side, instead of noting them.
        progress: show a bar over frames, where there is a terminal.

    Returns:
        One row per value, columns `COLUMNS`: `frame` is the 0-based index in the clip, `seed` is NA for a method
        without one, `weights` joins `name:sha256[:12]` of the measuring networks. The truth's own values stand under
        method `truth`.

    Raises:
        InputError: a clip is missing on either side, cannot be read or does not fit its target, or a name is unknown.
    """
    definition = find_protocol(protocol)
    if degradation not in ORIGINS:
        raise unknown("degradation", degradation, ORIGINS)
    device = str(pick_device(device))
    tables = []
    for clip, target, results in _matched(methods, targets):
        truth = open_clip(target, strict=strict)
        opened = {method: open_clip(path, strict=strict) for method, path in results.items()}
        _compare_names(clip, truth, opened)
        with tqdm(
            desc=f"{protocol} {clip}", unit="frame", total=truth.length, disable=None if progress else True
        ) as bar:
            try:
                frames = _counted(_cropped(clip, truth, opened), bar)
                scores = score_methods(opened, frames, definition, device=device)
            except InputError as error:
                raise InputError(f"clip {clip}: {error}") from error
            finally:  # frames that damage took away may be why the lengths differ
                for reader in (truth, *opened.values()):
                    for note in reader.notes:
                        print_note(f"{reader.path}: {note}")
        tables.append(scores.assign(clip=clip))
    return _labelled(pd.concat(tables, ignore_index=True), definition, degradation)


def score_methods(
    results: Mapping[str, Iterable[np.ndarray]],
    targets: Iterable[np.ndarray],
    protocol: Protocol,
    *,
    device: str = "cpu",
) -> pd.DataFrame:
    """Score several methods on one clip in one pass over the truth, whose flows and features are computed once.

    Args:
        results: method's name -> its uint8 (H, W, 3) RGB frames.
        targets: the truth's frames, as many, as large.
        protocol: from `PROTOCOLS`.
        device: where measuring networks run.

    Returns:
        Columns `method`, `frame`, `metric`, `value`; the truth's own values are under method `truth`.

    Raises:
        InputError: a frame is not 8-bit RGB or too small, sizes or lengths differ, or the clip is too short.
    """
    rows: list[tuple] = []
    previous: dict[str, View] = {}
    with torch.inference_mode():
        for index, frames in _kept(results, targets, protocol):
            views = _views(frames, index, protocol, device)
            if any(METRICS[name].network == "lpips" for name in protocol.metrics):
                fill_features(views.values(), "lpips")
            pairs = {name: Pair(previous[name], view) for name, view in views.items() if previous}
            for name in views:
                rows += [(name, index, *score) for score in _scores(name, views, pairs, protocol)]
                if name != TRUTH:
                    views[name].forget(keep=["lpips"])
            views[TRUTH].forget(keep=["lpips"])
            previous = views
    return pd.DataFrame(rows, columns=["method", "frame", "metric", "value"])


def _kept(
    results: Mapping[str, Iterable[np.ndarray]], targets: Iterable[np.ndarray], protocol: Protocol
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield (index, frames by method, the truth first) of the frames that the protocol keeps."""
    if TRUTH in results:
        raise InputError(f"a method is called {TRUTH!r}, the name of the targets' own rows: give it another name")
    waiting, count = [], 0
    for frames in lockstep({TRUTH: targets, **results}):
        waiting.append((count, frames))
        count += 1
        if len(waiting) > protocol.dropped:
            index, ready = waiting.pop(0)
            if index >= protocol.dropped:
                yield index, ready
    if count < protocol.least_frames:
        raise InputError(
            f"clip has {count} frames, protocol {protocol.name} needs {protocol.least_frames}: give a longer clip"
        )


def _views(frames: dict[str, np.ndarray], index: int, protocol: Protocol, device: str) -> dict[str, View]:
    views = {
        name: View(frame, crop=protocol.crop, colour=protocol.colour, device=str(device))
        for name, frame in frames.items()
    }
    for name, view in views.items():
        if view.full.shape != views[TRUTH].full.shape:
            raise InputError(
                f"frame {index} of {name} is {size(view.full)}, the target is {size(views[TRUTH].full)}: "
                "crop or upscale one so that both agree"
            )
    return views


def _scores(
    name: str, views: dict[str, View], pairs: dict[str, Pair], protocol: Protocol
) -> Iterator[tuple[str, float]]:
    """Yield (metric, value) of one method at one frame; for the truth, only metrics that need no reference."""
    for metric in (METRICS[metric] for metric in protocol.metrics):
        if name == TRUTH and not metric.own:
            continue
        if metric.frame:
            yield metric.name, metric.frame(views[name], views[TRUTH])
        elif pairs and metric.pair:
            yield metric.name, metric.pair(pairs[name], pairs[TRUTH])


def _clips(path: str | os.PathLike, owner: str) -> tuple[dict[str, Path], bool]:
    """Return clip's name -> path, and whether `path` is itself one clip."""
    found = find_clips(Path(path), owner)
    for note in found.notes:
        print_note(note)
    return found.paths, found.lone


def _matched(
    methods: Mapping[str, str | os.PathLike], targets: str | os.PathLike
) -> Iterator[tuple[str, Path, dict[str, Path]]]:
    """Yield (clip's name, target, method -> result); both sides must hold the same clips."""
    truths, lone = _clips(targets, "targets")
    if not methods:
        raise InputError("no results are given: name at least one folder or video to score")
    results = {}
    for method, path in methods.items():
        found, one = _clips(path, f"results {method}")
        if (lone or one) and len(found) == len(truths) == 1:
            found = dict(zip(truths, found.values(), strict=True))
        if found.keys() != truths.keys():
            absent, extra = (
                ", ".join(sorted(names)) or "none" for names in (truths.keys() - found, found.keys() - truths)
            )
            raise InputError(
                f"results {method} and targets hold different clips (missing: {absent}; without target: {extra}): "
                "make both agree"
            )
        results[method] = found
    for clip, target in truths.items():
        yield clip, target, {method: found[clip] for method, found in results.items()}


def _compare_names(clip: str, truth: FrameReader, results: Mapping[str, FrameReader]) -> None:
    """Warn when frames that are paired by their order have names that pair them otherwise."""
    for method, result in results.items():
        names, others = truth.names(), result.names()
        if names is None or others is None:
            continue
        keys, other_keys = ([natural(Path(name)) for name in given] for given in (names, others))
        differing = next((pair for pair in zip(keys, other_keys, strict=False) if pair[0] != pair[1]), None)
        if differing and any(key in other_keys for key in keys):
            index = next(index for index in itertools.count() if keys[index] != other_keys[index])
            print(
                f"stvsr: warning: clip {clip}: frames are paired in order, but their names are shifted: target "
                f"{names[index]} is paired with {others[index]} of {method}. Rename or drop frames so that both agree.",
                file=sys.stderr,
            )


def _cropped(clip: str, truth: FrameReader, results: Mapping[str, FrameReader]) -> Iterable[np.ndarray]:
    """Return the truth's frames, cropped as `stvsr degrade` crops when that is why every result is smaller."""
    sizes, (height, width) = {result.size for result in results.values()}, truth.size
    cuts = {(height // scale * scale, width // scale * scale) for scale in SCALES} - {truth.size}
    if len(sizes) != 1 or not sizes <= cuts:
        return truth
    tall, wide = sizes.pop()
    print_note(f"clip {clip}: the targets are cropped from {width}x{height} to {wide}x{tall}, as degrade crops them")
    return (frame[:tall, :wide] for frame in truth)


def _counted(frames: Iterable[np.ndarray], bar: tqdm) -> Iterator[np.ndarray]:
    for frame in frames:
        yield frame
        bar.update()


def _labelled(scores: pd.DataFrame, protocol: Protocol, degradation: str) -> pd.DataFrame:
    """Add the columns that identify a value: arm and seed, protocol, colour, border, degradation, weights."""
    named = {method: _arm_and_seed(method) for method in scores["method"].unique()}
    weights = {
        name: ",".join(f"{key}:{value[:12]}" for key, value in weights_of(name).items()) for name in protocol.metrics
    }
    return scores.assign(
        arm=scores["method"].map({method: arm for method, (arm, _) in named.items()}),
        seed=scores["method"].map({method: seed for method, (_, seed) in named.items()}).astype("Int64"),
        protocol=protocol.name,
        version=protocol.version,
        colour=scores["metric"].map({name: METRICS[name].colour or protocol.colour for name in protocol.metrics}),
        border=protocol.border,
        dropped=protocol.dropped,
        degradation=degradation,
        weights=scores["metric"].map(weights),
    )[COLUMNS]


def _arm_and_seed(method: str) -> tuple[str, int | None]:
    """Split `arm@seed` or `arm@sSEED`; a name without a number after its last @ is an arm without seeds."""
    arm, _, seed = method.rpartition("@")
    seed = seed.removeprefix("s")
    return (arm, int(seed)) if arm and seed.isdecimal() else (method, None)
