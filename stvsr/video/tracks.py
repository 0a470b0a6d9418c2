"""What a video file holds besides pictures and sound: what is carried over, and what is left out with a note."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer

TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "creation_time", "timecode",
             "software", "number_of_frames", "number_of_bytes", "bps", "_statistics_tags"}  # fmt: skip
STREAM_NAMES = ("language", "title", "name", "handler_name")  # of a stream's metadata, what is carried over
LOST_SIDE_DATA = {
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata", "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata", "DOVI_METADATA": "Dolby Vision metadata", "A53_CC": "closed captions",
    "SPHERICAL": "the tag of 360-degree video", "STEREO3D": "the tag of stereoscopic video",
    "ICC_PROFILE": "the colour profile",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """What a writer may repeat, and what it cannot.

    titles: metadata of the file. video: language and title of the video stream. chapters: (start, end, title) in
    seconds on the file's clock. hdr: x264's parameters for mastering display and light level, empty without either.
    left_out: descriptions of everything else.
    """

    titles: dict[str, str] = field(default_factory=dict)
    video: dict[str, str] = field(default_factory=dict)
    chapters: tuple[tuple[Fraction, Fraction, str], ...] = ()
    hdr: str = ""
    left_out: tuple[str, ...] = ()

    def part(self, offset: Fraction, start: Fraction | None, stop: Fraction | None) -> "Tracks":
        """Return the same for a part of the file, on an output clock that is `offset` seconds behind the file's."""
        kept = []
        for begin, end, title in self.chapters:
            begin = begin if start is None else max(begin, start)
            end = end if stop is None else min(end, stop)
            if begin < end:
                kept.append((max(Fraction(0), begin - offset), end - offset, title))
        return Tracks(titles=self.titles, video=self.video, chapters=tuple(kept), hdr=self.hdr, left_out=self.left_out)


def read_tracks(container: av.container.InputContainer, video: av.VideoStream, frame: av.VideoFrame) -> Tracks:
    """Return what a file holds besides pictures and sound; `frame` is the first of its video stream."""
    chapters = container.chapters()
    data = side_data(frame)
    lost = [*_other_streams(container, video, len(chapters))]
    lost += dict.fromkeys(text for name, text in LOST_SIDE_DATA.items() if name in data)
    return Tracks(
        titles={name: text for name, text in container.metadata.items() if _is_title(name)},
        video=names_of(video),
        chapters=tuple(_chapter(chapter) for chapter in chapters),
        hdr=_hdr(data),
        left_out=tuple(lost),
    )


def names_of(stream: av.stream.Stream) -> dict[str, str]:
    """Return the language and title of a stream."""
    names = {name: text for name, text in stream.metadata.items() if name in STREAM_NAMES}
    if "name" in names:  # as MP4 calls the title
        names.setdefault("title", names.pop("name"))
    if names.get("handler_name") in ("VideoHandler", "SoundHandler"):
        del names["handler_name"]
    return names


def add_tracks(container: av.container.OutputContainer, video: av.VideoStream, tracks: Tracks) -> None:
    """Write titles and chapters into an output, before its first packet."""
    container.metadata.update(tracks.titles)
    video.metadata.update(tracks.video)
    if tracks.chapters:
        tick = Fraction(1, 1000)
        container.set_chapters([
            {"id": index, "start": round(start / tick), "end": round(end / tick), "time_base": tick,
             "metadata": {"title": title} if title else {}}
            for index, (start, end, title) in enumerate(tracks.chapters)
        ])  # fmt: skip


def side_data(frame: av.VideoFrame) -> dict[str, bytes]:
    """Return a frame's side data by name; empty when PyAV does not know one of their types (EXIF of Motion JPEG)."""
    try:
        data = cast(SideDataContainer, frame.side_data)  # PyAV's stub declares a dictionary
        return {item.type.name: bytes(item) for item in data}
    except ValueError:
        return {}


def _is_title(name: str) -> bool:
    return name.lower() not in TECHNICAL and not name.lower().startswith(("location-", "com.", "date-"))


def _chapter(chapter: Mapping[str, Any]) -> tuple[Fraction, Fraction, str]:
    tick = chapter["time_base"] or Fraction(1, av.time_base)
    return chapter["start"] * tick, chapter["end"] * tick, chapter["metadata"].get("title", "")


def _other_streams(container: av.container.InputContainer, video: av.VideoStream, chapters: int) -> Iterator[str]:
    for stream in container.streams:
        if stream.type == "video" and stream.index != video.index:
            cover = stream.disposition & av.stream.Disposition.attached_pic
            yield "a cover picture" if cover else "another video stream"
        elif stream.type == "subtitle":
            yield f"subtitles ({stream.language or 'language unknown'})"
        elif stream.type == "attachment":
            yield f"attachment {stream.metadata.get('filename', '')}".strip()
        elif stream.type == "data":
            if chapters and stream.frames == chapters:
                continue  # QuickTime's way of storing the chapters
            yield "timecode" if "timecode" in stream.metadata else "a data stream"


def _hdr(data: dict[str, bytes]) -> str:
    """Return mastering display (SMPTE ST 2086) and content light level (CTA-861.3) as x264's parameters."""
    parts = []
    if len(mastering := data.get("MASTERING_DISPLAY_METADATA", b"")) >= 88:
        # AVMasteringDisplayMetadata: x and y of R, G, B and white, least and greatest luminance; all as fractions
        values = np.frombuffer(mastering[:80], np.int32).reshape(10, 2)
        has_primaries, has_luminance = np.frombuffer(mastering[80:88], np.int32)
        if has_primaries and has_luminance and (values[:, 1] > 0).all():
            red, green, blue, white = (values[:8, 0] / values[:8, 1] * 50_000).round().astype(int).reshape(4, 2)
            least, most = (values[8:, 0] / values[8:, 1] * 10_000).round().astype(int)
            named = zip("GBR", (green, blue, red), strict=True)
            colours = "".join(f"{name}({x},{y})" for name, (x, y) in named)
            parts.append(f"mastering-display={colours}WP({white[0]},{white[1]})L({most},{least})")
    if len(light := data.get("CONTENT_LIGHT_LEVEL", b"")) >= 8:
        most, mean = np.frombuffer(light[:8], np.uint32)
        parts.append(f"cll={most},{mean}")
    return ":".join(parts)
