"""Pictures of each clip: frames of every method to compare, crops, error maps, profiles, flow errors, films."""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stvsr import flow
from stvsr.figures import pixels
from stvsr.report import media
from stvsr.report.findings import headline_metrics
from stvsr.report.labels import arm, metric, metric_order, plain
from stvsr.report.media import Item
from stvsr.report.run import Run, read_frames
from stvsr.video.reader import read_image

MOST_COMPARED = 800  # frames times methods times clips of one report; more are thinned evenly
LOOP_FRAMES = 48
LOOP_SIZE = (360, 640)  # pixels; larger clips are cut to the part where methods differ most, never shrunk
CROP = (72, 96)  # pixels


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of one method: its label, what it shows (alt text), a caption line, its item and size in pixels."""

    label: str
    alt: str
    note: str
    item: Item
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Film:
    """A short film of one method and its poster."""

    label: str
    item: Item
    poster: Item
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything to look at in one clip."""

    name: str
    count: int
    width: int
    height: int
    middle: int
    shown: tuple[int, ...]  # frame indices that can be compared
    methods: dict[str, str]  # name -> label
    frames: dict[str, list[Item]]  # method -> items of `shown`
    scores: dict[str, dict[str, list[str]]]  # method -> metric title -> value per shown frame
    crop_boxes: tuple[pixels.Box, ...]
    locator: Picture | None
    crops: tuple[tuple[Picture, ...], ...]
    errors: tuple[Picture, ...]
    error_limit: float
    profiles: tuple[Picture, ...]
    profile_row: int
    motion: tuple[Picture, ...]
    motion_limit: float
    films: tuple[Film, ...]
    film_rate: int
    film_note: str

    def items(self) -> list[Item]:
        """Return every item the page needs for this scene."""
        found = [item for items in self.frames.values() for item in items]
        found += [p.item for group in (*self.crops, self.errors, self.profiles, self.motion) for p in group]
        found += [item for film in self.films for item in (film.item, film.poster)]
        return [*found, self.locator.item] if self.locator else found


def read_scenes(run: Run) -> list[Scene]:
    """Read every clip's frames and prepare everything to look at in it."""
    return [_scene(run, clip, MOST_COMPARED // len(run.frames)) for clip in sorted(run.frames)]


def _scene(run: Run, clip: str, most: int) -> Scene:
    paths = _same_size(run.frames[clip])
    labels = {name: arm(name).label for name in paths}
    count = len(paths["truth"])
    shown = spread(count, max(1, most // len(paths)))
    middle = shown[len(shown) // 2]
    now = {name: read_image(frames[middle]) for name, frames in paths.items()}
    before = {name: read_image(frames[max(0, middle - 1)]) for name, frames in paths.items()}
    truth = now["truth"]
    judged = {name: frame for name, frame in now.items() if name not in ("truth", "bicubic")} or now
    importance = pixels.disagreement(list(judged.values()) if len(judged) > 1 else list(now.values()))
    size = tuple(min(most_pixels, side // 3) for most_pixels, side in zip(CROP, importance.shape, strict=True))
    boxes = tuple(pixels.busiest_boxes(importance, size))
    start = max(0, min(middle - LOOP_FRAMES // 2, count - LOOP_FRAMES))
    loops = {name: read_frames(frames[start : start + LOOP_FRAMES]) for name, frames in paths.items()}
    window = pixels.busiest_boxes(importance, LOOP_SIZE, 1)[0]
    errors, error_limit = _errors(now, labels, middle)
    motion, motion_limit = _motion(before, now, labels, middle)
    profiles, row = _profiles(loops, labels)
    rate = max(6, min(24, round(len(loops["truth"]) / 3)))
    return Scene(
        name=clip, count=count, width=truth.shape[1], height=truth.shape[0], middle=middle, shown=shown, methods=labels,
        frames=_compared(paths, shown, middle), scores=_frame_scores(run, clip, paths, shown),
        crop_boxes=boxes, locator=_locator(truth, boxes, middle),
        crops=tuple(_crops(now, box, labels, middle) for box in boxes), errors=errors, error_limit=error_limit,
        profiles=profiles, profile_row=row, motion=motion, motion_limit=motion_limit,
        films=_films(loops, window, labels, rate), film_rate=rate,
        film_note=_film_note(len(loops["truth"]), start, count, window, truth.shape),
    )  # fmt: skip


def spread(count: int, most: int) -> tuple[int, ...]:
    """Return at most `most` of `count` indices, evenly spread; all of them when they fit."""
    if count <= most:
        return tuple(range(count))
    return tuple(int(i) for i in np.unique(np.linspace(0, count - 1, most).round()))


def _same_size(paths: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Leave out methods whose frames have another size than the truth's: they cannot be laid over it."""
    size = read_image(paths["truth"][0]).shape
    return {name: frames for name, frames in paths.items() if read_image(frames[0]).shape == size}


def _compared(paths: dict[str, list[Path]], shown: tuple[int, ...], middle: int) -> dict[str, list[Item]]:
    """Encode the frames for the comparison; frames near the middle of a coarse grid are embedded first."""
    wanted = [(name, frame) for name in paths for frame in shown]
    with ThreadPoolExecutor() as pool:  # reading PNG and writing WebP leave Python's lock
        encoded = pool.map(lambda one: media.webp(read_image(paths[one[0]][one[1]])), wanted)
    frames: dict[str, list[Item]] = {name: [] for name in paths}
    for (name, frame), data in zip(wanted, encoded, strict=True):
        frames[name].append(Item(data=data, mime="image/webp", rank=1 + _coarseness(shown, frame, middle)))
    return frames


def _coarseness(shown: tuple[int, ...], frame: int, middle: int) -> float:
    """Return 0 for the middle frame, then more for frames that only a finer even spread would contain (up to 1)."""
    if frame == middle:
        return 0.0
    place, total = shown.index(frame), len(shown)
    level = next(k for k in range(1, total.bit_length() + 2) if place % max(1, total >> k) == 0)
    return level / (total.bit_length() + 2)


def _frame_scores(
    run: Run, clip: str, methods: Iterable[str], shown: tuple[int, ...]
) -> dict[str, dict[str, list[str]]]:
    """Return {method: {metric: value per shown frame}} of the first screen's protocol, as text."""
    protocol, _ = headline_metrics(run.metrics)
    rows = run.metrics[(run.metrics["clip"] == clip) & (run.metrics["protocol"] == protocol)]
    scores: dict[str, dict[str, list[str]]] = {name: {} for name in methods}
    for name in sorted(rows["metric"].unique(), key=metric_order):
        means = rows[rows["metric"] == name].groupby(["arm", "frame"])["value"].mean()
        for method in set(means.index.get_level_values("arm")) & set(scores):
            values = means[method].reindex(shown)
            scores[method][metric(name).title] = [plain(float(v), metric(name).digits) for v in values]
    return scores


def training_crops(paths: Sequence[Path], most: int = 4) -> list[Picture]:
    """Return pictures taken during a training, evenly spread from the first to the last; file names hold the step."""
    chosen = [paths[i] for i in spread(len(paths), most)] if paths else []
    steps = [int(re.sub(r"\D", "", path.stem) or 0) for path in chosen]
    alt = "Patches at step {}: bicubic, output and truth side by side"
    return [
        _picture(read_image(path), f"step {step}", alt.format(step)) for path, step in zip(chosen, steps, strict=True)
    ]


def _picture(
    frame: np.ndarray, label: str, alt: str, note: str = "", *, rank: float = 0.5, lossless: bool = False
) -> Picture:
    item = Item(data=media.webp(frame, lossless=lossless), mime="image/webp", rank=rank)
    return Picture(label=label, alt=alt, note=note, item=item, width=frame.shape[1], height=frame.shape[0])


def _crops(frames: dict[str, np.ndarray], box: pixels.Box, labels: dict[str, str], middle: int) -> tuple[Picture, ...]:
    where = f"rows {box.top} to {box.top + box.height}, columns {box.left} to {box.left + box.width} of frame {middle}"
    return tuple(
        _picture(box.cut(frame), labels[name], f"{labels[name]}: {where}, enlarged", rank=0, lossless=True)
        for name, frame in frames.items()
    )


def _locator(truth: np.ndarray, boxes: tuple[pixels.Box, ...], middle: int) -> Picture:
    marked = truth.copy()
    for box in boxes:
        for inset, shade in ((0, 0), (1, 255), (2, 255), (3, 0)):  # dark, light, dark: seen on any background
            rows, columns = (
                slice(box.top + inset, box.top + box.height - inset),
                slice(box.left + inset, box.left + box.width - inset),
            )
            marked[rows, [columns.start, columns.stop - 1]] = shade
            marked[[rows.start, rows.stop - 1], columns] = shade
    places = " and ".join(f"at row {box.top}, column {box.left}" for box in boxes)
    return _picture(marked, "where the crops are", f"True frame {middle} with frames around the crops {places}", rank=0)


def _errors(frames: dict[str, np.ndarray], labels: dict[str, str], middle: int) -> tuple[tuple[Picture, ...], float]:
    errors = {name: pixels.absolute_error(frame, frames["truth"]) for name, frame in frames.items() if name != "truth"}
    if not errors:
        return (), 0.0
    limit = pixels.shared_limit(errors)
    return tuple(
        _picture(
            pixels.heat(error, limit), labels[name],
            f"Error map of {labels[name]}, frame {middle}: mean error {error.mean():.1f} of 255",
            f"mean error {error.mean():.1f}",
        )
        for name, error in errors.items()
    ), limit  # fmt: skip


def _profiles(clips: dict[str, np.ndarray], labels: dict[str, str]) -> tuple[tuple[Picture, ...], int]:
    row = pixels.liveliest_row(clips.values()) if len(clips["truth"]) > 1 else len(clips["truth"][0]) // 2
    return tuple(
        _picture(
            pixels.temporal_profile(clip, row=row), labels[name],
            f"Temporal profile of {labels[name]}: row {row} of {len(clip)} consecutive frames, time runs downwards",
            lossless=True,
        )
        for name, clip in clips.items()
    ), row  # fmt: skip


def _motion(
    before: dict[str, np.ndarray], now: dict[str, np.ndarray], labels: dict[str, str], middle: int
) -> tuple[tuple[Picture, ...], float]:
    """Return maps of the distance of each method's flow into `middle` from the truth's, and their limit in pixels."""
    estimate: Callable = flow.estimator("farneback")  # TecoGAN's tOF uses it
    if middle == 0 or len(now) < 2:
        return (), 0.0
    flows = {name: estimate(before[name], now[name]) for name in now}
    gaps = {name: np.hypot(*(found - flows["truth"])) for name, found in flows.items() if name != "truth"}
    limit = max(pixels.shared_limit(gaps), 0.1)
    return tuple(
        _picture(
            pixels.heat(gap, limit, "viridis"), labels[name],
            f"Motion error of {labels[name]} between frames {middle - 1} and {middle}: mean {gap.mean():.2f} px",
            f"mean {gap.mean():.2f} px",
        )
        for name, gap in gaps.items()
    ), limit  # fmt: skip


def _films(clips: dict[str, np.ndarray], window: pixels.Box, labels: dict[str, str], rate: int) -> tuple[Film, ...]:
    films = []
    for name, clip in clips.items():
        cut = window.cut(clip)
        poster = Item(data=media.webp(cut[0]), mime="image/webp", rank=0.6)
        item = Item(data=media.h264(cut, rate), mime="video/mp4", rank=0.7)
        films.append(Film(label=labels[name], item=item, poster=poster, width=cut.shape[2], height=cut.shape[1]))
    return tuple(films)


def _film_note(length: int, start: int, count: int, window: pixels.Box, shape: tuple[int, ...]) -> str:
    part = f"all {count} frames" if length == count else f"frames {start} to {start + length - 1} of {count}"
    if (window.height, window.width) != shape[:2]:
        part += f", cut to {window.width} by {window.height} pixels where the methods differ most"
    return part
