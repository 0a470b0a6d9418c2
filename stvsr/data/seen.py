"""The clips that a generator was trained on, so that scores on one of them are not taken for held-out results."""

import json
from collections.abc import Iterable, Sequence

from safetensors import safe_open

from stvsr.data.clips import Clip
from stvsr.errors import InputError
from stvsr.models.basicvsr import PUBLISHED
from stvsr.models.generators import weights_file

VIMEO_TRAIN = "vimeo-90k official training list"  # what the published BasicVSR weights were trained on


def trained_on(clips: Iterable[Clip], start: str) -> list[str]:
    """Return the identities (`Clip.identity`) of a training's clips and of its start's, sorted."""
    return sorted({clip.identity() for clip in clips} | set(known_by(start)))


def known_by(weights: str) -> list[str]:
    """Return what a generator was trained on, as its file records; empty where nothing is recorded."""
    if weights in PUBLISHED:
        return [VIMEO_TRAIN]
    file = weights_file(weights) if weights else None
    if not file or file.suffix != ".safetensors":
        return []
    with safe_open(file, framework="pt") as content:
        meta = json.loads((content.metadata() or {}).get("stvsr", "{}"))
    inherited = [VIMEO_TRAIN] if meta.get("base") in PUBLISHED or meta.get("start") in PUBLISHED else []
    return [*meta.get("trained_on", ()), *inherited]


def require_unseen(validation: Sequence[Clip], training: Iterable[Clip]) -> None:
    """Raise InputError for the first validation clip that a training also sees."""
    known = {clip.identity() for clip in training}
    for clip in validation:
        if clip.identity() in known:
            raise InputError(f"clip {clip.name} validates and is trained on: name other sources in validation")


def seen(weights: str, clips: Sequence[Clip]) -> list[str]:
    """Return the names of those clips that a generator was trained on."""
    known = set(known_by(weights))
    return [clip.name for clip in clips if clip.identity() in known or (clip.part == "train" and VIMEO_TRAIN in known)]
