"""Vimeo-90k's layout in miniature: folders, lists and the zip archive."""

import functools
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tiny import panning


def names(count: int) -> list[str]:
    """Return septuplet names as Vimeo-90k numbers them, sorted."""
    return [f"{index // 1000 + 1:05d}/{index % 1000 + 1:04d}" for index in range(count)]


def write_vimeo(
    root: Path,
    *,
    train: Sequence[str] = (),
    test: Sequence[str] = (),
    unlisted: Sequence[str] = (),
    frames: bool = True,
) -> Path:
    """Write septuplets of moving texture, 448x256, and the two lists; without frames, empty folders."""
    for seed, name in enumerate((*train, *test, *unlisted)):
        folder = root / "sequences" / name
        folder.mkdir(parents=True)
        for index, content in enumerate(_encoded(seed % 8) if frames else (), start=1):
            (folder / f"im{index}.png").write_bytes(content)
    (root / "sep_trainlist.txt").write_text("".join(f"{name}\n" for name in train))
    (root / "sep_testlist.txt").write_text("".join(f"{name}\n" for name in test))
    return root


@functools.cache
def _encoded(seed: int) -> list[bytes]:
    """Return the PNG files of a septuplet; after eight septuplets their contents repeat."""
    files = []
    for frame in panning(7, 256, 448, seed=seed):
        files.append(io.BytesIO())
        Image.fromarray(frame).save(files[-1], "PNG", compress_level=1)
    return [file.getvalue() for file in files]


def zip_of(root: Path, path: Path, method: int = zipfile.ZIP_STORED) -> Path:
    """Pack a root as the published archive is: everything below `vimeo_septuplet`."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, Path("vimeo_septuplet") / file.relative_to(root))
    return path
