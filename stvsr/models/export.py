"""Export of BasicVSR to ONNX, checked in ONNX Runtime before the file gets its name."""

import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from stvsr.errors import InputError
from stvsr.models.basicvsr import SCALE, BasicVSR
from stvsr.models.generators import load_generator

TOLERANCE = 1e-3  # of the range [0, 1]: a quarter of an 8-bit level
TRACED, CHECKED = (1, 64, 64), ((1, 64, 64), (2, 50, 83))  # batch, height, width
OPSET = 17


def export_onnx(model: str | Path, path: Path, *, frames: int = 7, overwrite: bool = False) -> float:
    """Write a BasicVSR as an ONNX file and return its largest difference from PyTorch.

    The file's input `clip` is float32 (B, frames, 3, h, w) RGB in [0, 1], its output `upscaled` (B, frames, 3, 4h, 4w),
    not clamped. B, h and w are dynamic; the number of frames is fixed.

    Args:
        model: what `load_generator` takes.
        path: the .onnx file to write.
        frames: length of the clips that the file takes.
        overwrite: replace an existing file.

    Raises:
        InputError: the model is not a BasicVSR, the path cannot be written, a package of the extra `export` is missing,
            or ONNX Runtime disagrees by more than 1e-3; nothing is written then.
    """
    path = Path(path)
    _check(path, frames, overwrite=overwrite)
    network, meta = load_generator(model)
    if not isinstance(network, BasicVSR):
        raise InputError(f"{model} is not a BasicVSR: an RBPN reads flow from outside the network, which ONNX has not")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        temporary = Path(folder) / path.name
        _write(network, temporary, frames)
        _describe(temporary, {"name": meta["name"], "sha256": meta["sha256"], "scale": SCALE, "frames": frames})
        error = max(_difference(network, temporary, frames, shape) for shape in CHECKED)
        if not error <= TOLERANCE:
            raise InputError(
                f"{path} differs from PyTorch by {error:.1e} in ONNX Runtime, more than {TOLERANCE}: update onnxruntime"
            )
        temporary.replace(path)
    return error


def _check(path: Path, frames: int, *, overwrite: bool) -> None:
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(f"export needs {' and '.join(missing)}: pip install stvsr[export]")
    if path.suffix != ".onnx":
        raise InputError(f"{path} is not named .onnx: give the output that suffix")
    if not path.parent.is_dir():
        raise InputError(f"folder {path.parent} does not exist: create it first")
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path} exists: give another name or --overwrite")
    if frames < 1:
        raise InputError(f"frames is {frames}: a clip has at least 1")


def _write(network: BasicVSR, path: Path, frames: int) -> None:
    sizes = {0: "batch", 3: "height", 4: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # values that the trace keeps constant; `_difference` looks at another size
        torch.onnx.export(
            network,
            (_moving_clip(TRACED, frames),),
            path,
            dynamo=False,  # the exporter that needs no further package
            opset_version=OPSET,
            input_names=["clip"],
            output_names=["upscaled"],
            dynamic_axes={"clip": sizes, "upscaled": {0: "batch", 3: "upscaled_height", 4: "upscaled_width"}},
        )


def _describe(path: Path, entries: dict[str, object]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: str(value) for key, value in entries.items()})
    onnx.save(model, path)


def _difference(network: BasicVSR, path: Path, frames: int, shape: tuple[int, int, int]) -> float:
    """Return the largest difference between ONNX Runtime and PyTorch on a moving clip of (batch, height, width)."""
    import onnxruntime

    clip = _moving_clip(shape, frames)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to others
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"clip": clip.numpy()})
    with torch.inference_mode():
        expected = network(clip).numpy()
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")


def _moving_clip(shape: tuple[int, int, int], frames: int) -> torch.Tensor:
    """Return a smooth texture that moves by a pixel per frame, (B, frames, 3, h, w) in [0, 1]."""
    batch, height, width = shape
    noise = torch.rand(batch, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    wide = F.interpolate(noise, size=(height, width + frames), mode="bilinear")
    return torch.stack([wide[..., k : k + width] for k in range(frames)], dim=1)
