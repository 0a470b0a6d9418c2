"""Frame folders, single pictures and animations as clips."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from stvsr.errors import InputError
from stvsr.video.folders import frame_files
from stvsr.video.frames import BrokenClip, FrameReader
from stvsr.video.pictures import Animation, read_picture

FOLDER_RATE = Fraction(25)  # frames per second of a folder by default
MILLISECOND = Fraction(1, 1000)


class FolderReader(FrameReader):
    """A folder of pictures, or a single one, shown at a constant rate."""

    def __init__(self, path: Path, rate: Fraction | None) -> None:
        super().__init__(path)
        files, left_out = ([path], ()) if path.is_file() else frame_files(path)
        self.files = files
        self.length, self.rate = len(files), rate
        first = read_picture(files[0])
        self.size = (first.pixels.shape[0], first.pixels.shape[1])
        self.profile = first.profile
        self.time_base = 1 / (rate or FOLDER_RATE)
        self.seconds = self.length * self.time_base
        self.notes = [*left_out, *first.notes]

    def _stills(self, first: Fraction) -> Iterator[tuple[Fraction, Path]]:
        assert self.files is not None and self.time_base is not None
        yield from ((index * self.time_base, file) for index, file in enumerate(self.files))
        self.ends = self.seconds

    def _rgb(self, still: Path) -> np.ndarray:
        try:
            picture = read_picture(still)
        except InputError as error:  # the frames before it are good
            raise BrokenClip(str(error)) from error
        for line in picture.notes:
            self._note(line)
        if picture.profile != self.profile:
            self._note("the pictures have different colour profiles: the first one's is kept")
        return picture.pixels


class AnimationReader(FrameReader):
    """The pictures of an animated WebP or PNG file, each shown for its own time."""

    def __init__(self, path: Path, animation: Animation) -> None:
        super().__init__(path)
        self._animation = animation
        self.length = len(animation.edges) - 1
        self.seconds = animation.edges[-1] * MILLISECOND
        self.rate = self.length / self.seconds
        self.time_base = MILLISECOND
        first = next(animation.pictures())
        self.size = (first.pixels.shape[0], first.pixels.shape[1])
        self.profile = first.profile
        self.notes = list(first.notes)

    def _stills(self, first: Fraction) -> Iterator[tuple[Fraction, np.ndarray]]:
        for begin, picture in zip(self._animation.edges, self._animation.pictures(), strict=False):
            for line in picture.notes:
                self._note(line)
            yield begin * MILLISECOND, picture.pixels
        self.ends = self.seconds

    def _rgb(self, still: np.ndarray) -> np.ndarray:
        return still
