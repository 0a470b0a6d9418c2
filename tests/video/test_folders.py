"""Which entries of a folder are frames, which are clips, what is left out, and in which order."""

from pathlib import Path

import pytest
from media import film, moving
from PIL import Image

from stvsr.data.clips import load_clips
from stvsr.errors import InputError
from stvsr.video.folders import find_clips, image_files, in_order
from stvsr.video.reader import open_clip
from stvsr.video.writer import write_frames

JUNK = (
    ".DS_Store",
    "._000.png",
    ".ipynb_checkpoints/000-checkpoint.png",
    "__MACOSX/000.png",
    "Thumbs.db",
    "@eaDir/a.jpg",
)


def add_junk(folder):
    for name in JUNK:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"not a picture")
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [("f10 f9 f1", "f1 f9 f10"), ("0.5 0.25 1.0 0.75", "0.25 0.5 0.75 1.0"), ("1.10 1.9 1.1 1.2", "1.1 1.2 1.9 1.10"),
     ("t0.5 t0.25 t10.0", "t0.25 t0.5 t10.0"), ("b a10 a9", "a9 a10 b"), ("000002 000001 10", "000001 000002 10")],
)  # fmt: skip
def test_natural_order(names, expected):
    assert [file.stem for file in in_order(Path(f"{name}.png") for name in names.split())] == expected.split()


def test_what_systems_and_editors_leave_is_skipped_in_frame_folders_with_a_note(tmp_path):
    folder = tmp_path / "clip"
    write_frames(folder, moving(3))
    add_junk(folder)
    assert [file.name for file in image_files(folder)] == ["000.png", "001.png", "002.png"]
    with open_clip(folder) as clip:
        assert len(list(clip)) == 3
        assert "left out" in clip.notes[0] and ".DS_Store" in clip.notes[0]


def test_what_systems_and_editors_leave_is_skipped_in_clip_folders_with_a_note(tmp_path):
    root = tmp_path / "clips"
    for name in ("a", "b"):
        write_frames(root / name, moving(3))
    add_junk(root)
    (root / "notes.txt").write_text("about the clips")
    (root / "a sorted last").mkdir()
    Image.fromarray(moving(1)[0]).save(root / "cover.png")
    found = find_clips(root)
    assert list(found.paths) == ["a", "b"] and not found.lone
    assert all(name in found.notes[0] for name in (".DS_Store", "__MACOSX", "cover.png"))
    assert "1 more" in found.notes[0]
    assert [clip.name for clip in load_clips(str(root))] == ["a", "b"]


def test_pictures_with_a_folder_next_to_them_are_frames(tmp_path):
    write_frames(tmp_path / "clip", moving(5))
    write_frames(tmp_path / "clip" / "thumbs", moving(5, 8, 8))
    found = find_clips(tmp_path / "clip")
    assert found.lone and list(found.paths) == ["clip"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ts", ".m2ts", ".mpg", ".gif", ".flv", ".3gp", ".mxf", ".nut", ".webm", ".MP4"])
def test_clip_folders_take_every_container(tmp_path, suffix):
    codec, pix_fmt = {".gif": ("gif", "rgb8"), ".mpg": ("mpeg2video", "yuv420p"),
                      ".mxf": ("mpeg2video", "yuv420p"), ".webm": ("libvpx-vp9", "yuv420p"),
                      ".nut": ("mpeg4", "yuv420p")}.get(suffix, ("libx264", "yuv420p"))  # fmt: skip
    film(tmp_path / f"clip{suffix}", codec, pix_fmt=pix_fmt)
    assert [(clip.name, len(clip)) for clip in load_clips(str(tmp_path))] == [("clip", 12)]


def test_one_folder_of_frames_in_a_clips_folder_is_understood_and_several_are_named(tmp_path):
    for name in ("calendar", "city"):
        write_frames(tmp_path / "Vid4" / name / "original", moving(3))
    found = find_clips(tmp_path / "Vid4")
    assert {name: path.name for name, path in found.paths.items()} == {"calendar": "original", "city": "original"}
    assert any("calendar is read from" in note for note in found.notes)
    for name in ("calendar", "city"):
        write_frames(tmp_path / "Vid4" / name / "BIx4", moving(3))
        write_frames(tmp_path / "sets" / "GT" / name, moving(3))
    with pytest.raises(InputError, match="calendar holds no frames but the folders BIx4, original"):
        find_clips(tmp_path / "Vid4")
    with pytest.raises(InputError, match=r"GT holds no frames but the folders calendar, city: give .*GT itself"):
        find_clips(tmp_path / "sets")


def test_two_clips_of_one_name_are_refused(tmp_path):
    film(tmp_path / "a.mp4", "libx264")
    write_frames(tmp_path / "a", moving(2))
    with pytest.raises(InputError, match="of one name"):
        find_clips(tmp_path)
