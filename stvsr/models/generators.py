"""Generators by name, and their checkpoints: safetensors files that contain their configuration."""

import dataclasses
import re
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from stvsr import assets
from stvsr.errors import InputError, unknown
from stvsr.models.basicvsr import PUBLISHED, BasicVSR, BasicVSRConfig, load_basicvsr
from stvsr.models.quantised import ZERO, pack, unpack
from stvsr.models.rbpn import RBPN, RBPNConfig
from stvsr.models.spynet import load_spynet
from stvsr.models.state_dicts import load_state, read_state, refuse_text, without_prefix
from stvsr.models.widening import widen as widened
from stvsr.runs.files import load_tensors, save_tensors
from stvsr.runs.hashes import digest

Generator = RBPN | BasicVSR
MMAGIC_NAMES = {  # regular expression of MMagic's name -> the name here, as in BasicSR
    r"^backward_resblocks\.": "backward_trunk.",
    r"^forward_resblocks\.": "forward_trunk.",
    r"^upsample([12])\.upsample_conv\.": r"upconv\1.",
}
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
PUBLISHED_WINDOW = 50  # frames that published BasicVSR should see together: it gains from every one of them
KINDS = {"rbpn": (RBPN, RBPNConfig), "basicvsr": (BasicVSR, BasicVSRConfig)}
PRESETS: dict[str, RBPNConfig | BasicVSRConfig] = {
    "rbpn": RBPNConfig(),
    # five frames, so that a septuplet holds three whole windows: losses over time need three targets
    "rbpn-small": RBPNConfig(base_filter=64, feat=16, num_stages=1, n_resblock=1, num_frames=5, residual=True),
    "rbpn-tiny": RBPNConfig(base_filter=8, feat=4, num_stages=1, n_resblock=1, num_frames=5, residual=True),
    "basicvsr": BasicVSRConfig(),
    "basicvsr-fast": BasicVSRConfig(features=32, blocks=7, upsampled=16, flow_shrink=2),
}


def build_generator(preset: str) -> Generator:
    """Return a new generator of a preset's size: `rbpn` and `basicvsr` are the published ones."""
    if preset not in PRESETS:
        raise unknown("generator", preset, PRESETS)
    config = PRESETS[preset]
    return RBPN(config) if isinstance(config, RBPNConfig) else BasicVSR(config)


def same_size(generator: Generator, preset: str) -> bool:
    """Return whether a generator has the size of the preset; whether it adds bicubic (`residual`) does not count."""
    config = PRESETS[preset]
    if isinstance(config, RBPNConfig) and isinstance(generator, RBPN):
        config = dataclasses.replace(config, residual=generator.config.residual)
    return generator.config == config


def generate(generator: nn.Module, lr: Tensor, flows: Tensor | None, targets: int = 1) -> Tensor:
    """Return the middle `targets` frames of a run of LR frames, upscaled: (B, targets, 3, s*h, s*w).

    Args:
        generator: RBPN or BasicVSR.
        lr: LR frames (B, N, 3, h, w), RGB in [0, 1].
        flows: from each target to its neighbours, (B, targets, T-1, 2, h, w), for a generator with a window of T frames
            (N = T + targets - 1); None for one that reads the whole run (BasicVSR).
        targets: number of frames to return.
    """
    if flows is None:
        first = (lr.shape[1] - targets) // 2
        return generator(lr)[:, first : first + targets]
    batch, targets, neighbours = flows.shape[:3]
    windows = torch.stack([lr[:, k : k + neighbours + 1] for k in range(targets)], dim=1).flatten(0, 1)
    middle = neighbours // 2
    others = torch.cat([windows[:, :middle], windows[:, middle + 1 :]], dim=1)
    return generator(windows[:, middle], others, flows.flatten(0, 1)).unflatten(0, (batch, targets))


def save_generator(
    path: Path, generator: Generator, *, dtype: torch.dtype | None = None, base: str = "", **meta: object
) -> None:
    """Write a generator's weights, its configuration and `meta` (JSON values) as one safetensors file.

    With `base` (published or shipped weights), write 8-bit differences from these weights; with `zero`, the weights
    themselves in 8 bits (`models.quantised`).
    """
    state = {name: tensor.to(dtype) if dtype else tensor for name, tensor in generator.state_dict().items()}
    kind = "rbpn" if isinstance(generator, RBPN) else "basicvsr"
    described = {"model": kind, "config": dataclasses.asdict(generator.config), **meta}
    if base:
        state, described["base"] = pack(state, _base_state(base, generator)), base
    save_tensors(path, state, described)


def load_generator(name_or_path: str | Path) -> tuple[Generator, dict]:
    """Return a generator in eval mode and its description.

    Accepts a name of `shipped_weights()`, `basicvsr-bi`, `basicvsr-bd`, a checkpoint that `save_generator` wrote, or
    the tensors of an RBPN or a BasicVSR (BasicSR's and MMagic's names) as .pth or .safetensors, whose size is read from
    their shapes.

    Raises:
        InputError: unknown name, missing file, or tensors that do not fit; never a silent start from random weights.
    """
    name = str(name_or_path)
    if name in PUBLISHED:
        known = {"model": "basicvsr", "name": name, "sha256": assets.ASSETS[name].sha256, "window": PUBLISHED_WINDOW}
        return load_basicvsr(name).eval(), known
    path = weights_file(name)
    if not path:
        names = ", ".join(known_weights())
        raise InputError(f"generator {name} is neither a file nor a known name: choose from {names}")
    refuse_text(path)
    state, meta = load_tensors(path) if path.suffix == ".safetensors" else (read_state(path), {})
    state = with_own_names(without_prefix(state))
    generator = _empty_generator(state, meta, path)
    if meta.get("base"):
        state = unpack(state, _base_state(meta["base"], generator), path)
    load_state(generator, state, f"checkpoint {path}")
    return generator.float().eval(), {**meta, "name": path.stem, "sha256": digest(path)}


def weights_file(name_or_path: str | Path) -> Path | None:
    """Return the file behind what `load_generator` takes, None when there is none."""
    name = str(name_or_path)
    if name in PUBLISHED:
        return assets.locate(name)
    path = WEIGHTS / f"{name}.safetensors" if name in shipped_weights() else Path(name)
    return path if path.is_file() else None


def shipped_weights() -> list[str]:
    """Return the names of the weights that come with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def known_weights() -> list[str]:
    """Return the names that stand for weights: shipped with the package, then published ones from pinned packages."""
    return [*shipped_weights(), *PUBLISHED]


def _base_state(base: str, generator: nn.Module) -> dict[str, Tensor]:
    """Return what 8-bit differences are from: published or shipped weights, or nothing."""
    if base == ZERO:
        return {name: torch.zeros_like(tensor) for name, tensor in generator.state_dict().items()}
    if base not in (known := known_weights()):
        raise unknown("base", base, [*known, ZERO])
    return load_generator(base)[0].state_dict()


def with_own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a BasicVSR's state dict under BasicSR's names, which are used here; any other is returned as it is."""
    if not any(name.startswith("backward_resblocks.") for name in state):
        return state
    renamed = {}
    for name, tensor in state.items():
        for theirs, ours in MMAGIC_NAMES.items():
            name = re.sub(theirs, ours, name)
        # MMagic numbers the convolutions of a SPyNet level, BasicSR the layers between which the ReLUs are
        name = re.sub(
            r"(spynet\.basic_module\.\d\.basic_module)\.(\d)\.conv", lambda m: f"{m[1]}.{2 * int(m[2])}", name
        )
        renamed[name] = tensor
    renamed.pop("step_counter", None)
    return renamed


def _empty_generator(state: dict[str, Tensor], meta: dict, path: Path) -> Generator:
    if "model" not in meta:
        if any(name.startswith("backward_trunk.") for name in state):
            return BasicVSR(_basicvsr_config(state, path))
        return RBPN(_with_residual(infer_config(state, path), path))
    try:
        network, config = KINDS[meta["model"]]
        return network(config(**meta["config"]))
    except (TypeError, KeyError, InputError) as error:
        raise InputError(f"checkpoint {path} describes no generator known here: {error}") from None


def _basicvsr_config(state: dict[str, Tensor], path: Path) -> BasicVSRConfig:
    try:
        blocks = {name.split(".")[3] for name in state if name.startswith("backward_trunk.main.2.")}
        sizes = {"features": state["fusion.weight"].shape[0], "upsampled": state["conv_hr.weight"].shape[0]}
        known = [
            config for config in PRESETS.values() if isinstance(config, BasicVSRConfig)
        ]  # tensors show no shrinking
        shrinks = [config.flow_shrink for config in known if sizes.items() <= vars(config).items()]
        return BasicVSRConfig(**sizes, blocks=len(blocks), flow_shrink=max(shrinks, default=1))
    except (KeyError, IndexError, InputError) as error:
        raise InputError(f"checkpoint {path} is of no generator known here: {error} is missing") from None


def _with_residual(config: RBPNConfig, path: Path) -> RBPNConfig:
    """Decide whether an RBPN without a description adds bicubic to its output, which its tensors do not show.

    The sizes of presets that do are of this project only; the published size does not.
    """
    residual = dataclasses.replace(config, residual=True)
    if residual in PRESETS.values():
        return residual
    if config != RBPNConfig(scale=config.scale, num_frames=config.num_frames):
        print(
            f"note: checkpoint {path} has no description: it is read as an RBPN that adds no bicubic to its output",
            file=sys.stderr,
        )
    return config


def infer_config(state: dict[str, Tensor], source: object) -> RBPNConfig:
    """Read an RBPN's size off the shapes of its state dict; InputError when they are not those of an RBPN."""
    try:
        base_filter, feat = state["feat0.conv.weight"].shape[0], state["DBPN.feat1.conv.weight"].shape[0]
        kernel = state["DBPN.up1.up_conv1.deconv.weight"].shape[-1]
        return RBPNConfig(
            base_filter=base_filter,
            feat=feat,
            num_stages=state["DBPN.output.conv.weight"].shape[1] // feat,
            n_resblock=len({name.split(".")[1] for name in state if name.startswith("res_feat1.")}) - 1,
            num_frames=state["output.conv.weight"].shape[1] // feat + 1,
            scale={6: 2, 8: 4, 12: 8}.get(kernel, 0),
        )
    except KeyError as error:
        raise InputError(f"checkpoint {source} is of no generator known here: {error} is missing") from None
    except (IndexError, InputError) as error:
        raise InputError(f"checkpoint {source} is of no generator known here: {error}") from None


def start_generator(preset: str, start: str, *, widen: bool = False) -> Generator:
    """Return a generator of the preset's size in train mode, with the weights of `start` if given.

    Without `start`, weights are random, but for the flow network of a BasicVSR, which is the published one.
    With `widen`, `start` is a smaller RBPN, from which the larger one is initialised (`models.widening`).

    Raises:
        InputError: the checkpoint has another size than the preset, or cannot be widened to it.
    """
    if widen and not start:
        raise InputError("widen needs weights to start from: name a smaller RBPN as initial_weights")
    if not start:
        generator = build_generator(preset)
        if isinstance(generator, BasicVSR):  # as its authors do
            generator.spynet.load_state_dict(load_spynet().state_dict())
        return _to_train(generator)
    generator, _ = load_generator(start)
    if widen:
        config = PRESETS[preset]
        if not (isinstance(generator, RBPN) and isinstance(config, RBPNConfig)):
            raise InputError(f"checkpoint {start} cannot be widened to {preset}: only an RBPN can, to an RBPN")
        return _to_train(widened(generator, config))
    if not same_size(generator, preset):
        raise InputError(
            f"checkpoint {start} is {generator.config}, the preset {preset} is {PRESETS[preset]}: choose its preset"
        )
    return _to_train(generator)


def _to_train(generator: Generator) -> Generator:
    """Return a generator in train mode; the flow network of a BasicVSR is frozen, so that no loss distorts motion."""
    if isinstance(generator, BasicVSR):
        generator.spynet.requires_grad_(False)
    return generator.train()
