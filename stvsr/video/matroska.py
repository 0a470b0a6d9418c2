"""The structure of Matroska and MP4 files: detect a file that is cut off, and set the pixel aspect of WebM."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

EBML, SEGMENT, TRACKS, TRACK_ENTRY, VIDEO, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675
TRACK_UID, TAG_TRACK_UID, DISPLAY_WIDTH, DISPLAY_HEIGHT = 0x73C5, 0x63C5, 0x54B0, 0x54BA
HEADER_BYTES = 1 << 20  # more than any header of a file written here


@dataclass(frozen=True)
class _Element:
    name: int
    start: int  # where the name begins
    body: int  # where the content begins
    end: int | None  # None: unknown size


def is_cut_off(path: Path) -> bool:
    """Return whether a Matroska or MP4 file ends before the size that its own structure announces."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if int.from_bytes(head[:4], "big") == EBML:
            return _segment_end(file, size) > size
        return _boxes_end(file, size) > size


def _segment_end(file: BinaryIO, size: int) -> int:
    file.seek(0)
    for element in _elements(file.read(4096), 0, 4096):
        if element.name == SEGMENT:
            return size if element.end is None else element.end
    return size


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Return where the last top-level box of an MP4 file (ISO/IEC 14496-12, 4.2) ends."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # a 64-bit size follows the box's type
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: to the end of the file
            return size
        position += length
    return position


def set_display_size(path: Path, width: int, height: int) -> bool:
    """Write DisplayWidth and DisplayHeight into the one video track of a WebM file that libavformat wrote.

    Its muxer writes them only from a field of the stream that PyAV cannot set. Ten bytes are gained in place, from the
    eight-byte size of the track's entry and from its random identifier, so that nothing in the file moves.

    Returns:
        Whether the file has the expected layout; otherwise it is left as it was.
    """
    with path.open("r+b") as file:
        header = file.read(HEADER_BYTES)
        changed = _with_display_size(header, width, height)
        if changed is None:
            return False
        file.seek(0)
        file.write(changed)
    return True


def _with_display_size(header: bytes, width: int, height: int) -> bytes | None:
    entry = next((e for e in _walk(header, 0, len(header)) if e.name == TRACK_ENTRY and _child(header, e, VIDEO)), None)
    if entry is None or entry.end is None or entry.body - entry.start != 9 or max(width, height) >= 1 << 16:
        return None
    video, uid = _child(header, entry, VIDEO), _child(header, entry, TRACK_UID)
    if video is None or video.end is None or uid is None or uid.end is None or uid.end - uid.body != 8:
        return None
    display = b"".join(
        name.to_bytes(2, "big") + b"\x82" + side.to_bytes(2, "big")
        for name, side in ((DISPLAY_WIDTH, width), (DISPLAY_HEIGHT, height))
    )
    video_size = video.end - video.body + len(display)
    if video_size > 126 or video.body - video.start != 2:
        return None
    short_uid = header[uid.body + 4 : uid.end]
    body = (
        header[entry.body : uid.start] + TRACK_UID.to_bytes(2, "big") + b"\x84" + short_uid
        + header[uid.end : video.start] + VIDEO.to_bytes(1, "big") + (0x80 | video_size).to_bytes(1, "big")
        + header[video.body : video.end] + display + header[video.end : entry.end]
    )  # fmt: skip
    size = (0x4000 | len(body)).to_bytes(2, "big")
    reference = TAG_TRACK_UID.to_bytes(2, "big") + b"\x88"
    rest = header[entry.end :].replace(reference + header[uid.body : uid.end], reference + bytes(4) + short_uid, 1)
    changed = header[: entry.start] + TRACK_ENTRY.to_bytes(1, "big") + size + body + rest
    return changed if len(changed) == len(header) and len(body) < 0x3FFF else None


def _walk(data: bytes, start: int, stop: int) -> Iterator[_Element]:
    """Yield the elements of the header down to the track entries."""
    for element in _elements(data, start, stop):
        yield element
        if element.name in (SEGMENT, TRACKS):
            yield from _walk(data, element.body, min(element.end or stop, stop))


def _child(data: bytes, parent: _Element, name: int) -> _Element | None:
    return next((e for e in _elements(data, parent.body, parent.end or len(data)) if e.name == name), None)


def _elements(data: bytes, start: int, stop: int) -> Iterator[_Element]:
    """Yield the sibling EBML elements (RFC 8794) in data[start:stop], up to the first cluster."""
    position = start
    while position + 2 < min(stop, len(data)):
        name_length, size_length = 9 - data[position].bit_length(), 0
        if position + name_length < len(data):
            size_length = 9 - data[position + name_length].bit_length()
        body = position + name_length + size_length
        if not 1 <= name_length <= 4 or not 1 <= size_length <= 8 or body > len(data):
            return
        name = int.from_bytes(data[position : position + name_length], "big")
        mask = (1 << 7 * size_length) - 1
        size = int.from_bytes(data[position + name_length : body], "big") & mask
        end = None if size == mask else body + size
        yield _Element(name, position, body, end)
        if end is None or name == CLUSTER:
            return
        position = end
