"""Vimeo-90k's layout in miniature: folders, lists and the zip archive."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from tiny import panning, write_folder


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
        if frames:
            write_folder(folder, panning(7, 256, 448, seed=seed), names=[f"im{index}" for index in range(1, 8)])
        else:
            folder.mkdir(parents=True)
    (root / "sep_trainlist.txt").write_text("".join(f"{name}\n" for name in train))
    (root / "sep_testlist.txt").write_text("".join(f"{name}\n" for name in test))
    return root


def zip_of(root: Path, path: Path, method: int = zipfile.ZIP_STORED) -> Path:
    """Pack a root as the published archive is: everything below `vimeo_septuplet`."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, Path("vimeo_septuplet") / file.relative_to(root))
    return path
