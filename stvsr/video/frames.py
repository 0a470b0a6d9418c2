"""The interface of every clip that can be read: its description, and its frames with their times."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from stvsr.errors import InputError
from stvsr.video.colour import Colour
from stvsr.video.tracks import Tracks

SLIDE = Fraction(1, 10)  # seconds: a picture that stays on screen longer than this after `start` is shown from `start`


class BrokenClip(InputError):
    """Raised after the last usable frame of a clip that ends too early or changes its size; what was read is good."""


class FrameReader:
    """A clip that can be iterated, again and again, for uint8 (H, W, 3) RGB frames; one frame is held at a time.

    Attributes:
        name: file or folder name, without suffix.
        size: (H, W) in pixels, after rotation.
        length: frames the container announces or the folder holds; None when it is unknown before the end.
        rate: mean frames per second; None for a folder.
        seconds: announced duration; None when unknown.
        begins: where the file's clock starts, seconds: the earliest of all its streams.
        origin: time of the first frame on the file's clock, seconds.
        ends: time at which the last frame given leaves the screen, on the file's clock; known after an iteration.
        colour: matrix, range and tags, for a writer to repeat; None where the frames are RGB.
        time_base: unit of the times, seconds.
        aspect: width of a pixel over its height, 1 for square pixels.
        files: a folder's frames in order; None for a video or animation.
        profile: ICC profile of the pictures, for a writer of PNG to repeat.
        has_audio: whether there is sound to copy.
        tracks: chapters, titles and HDR metadata, for a writer to repeat.
        notes: sentences a user should see, such as a lost bit depth; damage is added while frames are read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem if path.is_file() else path.name
        self.size = (0, 0)
        self.length: int | None = None
        self.rate: Fraction | None = None
        self.seconds: Fraction | None = None
        self.begins = self.origin = Fraction(0)
        self.ends: Fraction | None = None
        self.colour: Colour | None = None
        self.time_base: Fraction | None = None
        self.aspect = Fraction(1)
        self.files: list[Path] | None = None
        self.profile: bytes | None = None
        self.has_audio = False
        self.tracks = Tracks()
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        pass

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame."""
        return (frame for _, frame in self.timed())

    def timed(
        self, start: Fraction = Fraction(0), stop: Fraction | None = None
    ) -> Iterator[tuple[Fraction, np.ndarray]]:
        """Yield (time, frame), the time on the file's clock; `start` and `stop` are seconds after the first frame.

        A slide that is on screen at `start` comes first, at that time.

        Raises:
            BrokenClip: after the last usable frame, when the clip ends too early or changes its size.
        """
        for time, still in self._chosen(start, stop):
            yield time, self._same_size(self._rgb(still), time, still)

    def names(self, start: Fraction = Fraction(0), stop: Fraction | None = None) -> list[str] | None:
        """Return a folder's file names without suffix, in the order of `timed`; None where frames have no names."""
        if self.files is None or len({file.stem for file in self.files}) < len(self.files):
            return None
        return [still.stem for _, still in self._chosen(start, stop)]

    def _chosen(self, start: Fraction, stop: Fraction | None) -> Iterator[tuple[Fraction, Any]]:
        """Yield (time, undecoded frame) of the range, and leave in `ends` when the last one leaves the screen."""
        first, last = self.origin + start, None if stop is None else self.origin + stop
        before = None
        for time, still in self._stills(first):
            if time < first:
                before = still
                continue
            if before is not None and time - first > SLIDE:
                yield first, before
            before = None
            if last is not None and time >= last:
                self.ends = last
                self._left()
                return
            yield time, still
        if before is not None and self.ends is not None and self.ends - first > SLIDE:
            yield first, before
        if last is not None and self.ends is not None:
            self.ends = min(self.ends, last)

    def _stills(self, first: Fraction) -> Iterator[tuple[Fraction, Any]]:
        """Yield (time, undecoded frame) in order; those long before `first` may be left out. Sets `ends` at the end."""
        raise NotImplementedError

    def _left(self) -> None:
        """Add notes about the frames read so far, as the end of the file would."""

    def _rgb(self, still: Any) -> np.ndarray:
        raise NotImplementedError

    def _same_size(self, frame: np.ndarray, time: Fraction, still: object) -> np.ndarray:
        if frame.shape[:2] != self.size:
            (height, width), (tall, wide) = frame.shape[:2], self.size
            where = still.name if isinstance(still, Path) else f"at {float(time):.3f} s"
            raise BrokenClip(
                f"{self.path}: frame {where} is {width}x{height}, the clip began {wide}x{tall}: split it there"
            )
        return frame

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)
