"""Generator inference against plain forward passes: 2019's loop over neighbours, and BasicSR's module."""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import Result, Settings, compare, count_flops, largest_difference
from stvsr.degradation import bicubic_up
from stvsr.models.basicvsr import BasicVSR
from stvsr.models.generators import build_generator, load_generator
from stvsr.models.rbpn import RBPN
from stvsr.runs.device import has_bfloat16


def plain_rbpn(network: RBPN, target: Tensor, neighbours: Tensor, flows: Tensor) -> Tensor:
    """Return the frame by the published forward pass: neighbour after neighbour, and a last L_k that nobody reads."""
    low = network.feat0(target)
    pairs = [
        network.feat1(torch.cat([target, neighbours[:, k], flows[:, k]], dim=1)) for k in range(neighbours.shape[1])
    ]
    highs = []
    for pair in pairs:
        single, multi = network.DBPN(low), network.res_feat1(pair)
        highs.append(single + network.res_feat2(single - multi))
        low = network.res_feat3(highs[-1])
    output = network.output(torch.cat(highs, dim=1))
    return output + bicubic_up(target, network.config.scale) if network.config.residual else output


def plain_basicvsr(network: BasicVSR, clip: Tensor) -> Tensor:
    """Return the frames by BasicSR's module: all flows in one batch, then frame by frame in both directions."""
    batch, length, _, height, width = clip.shape
    first, second = clip[:, :-1].reshape(-1, 3, height, width), clip[:, 1:].reshape(-1, 3, height, width)
    backward = network.spynet(first, second).view(batch, length - 1, 2, height, width)
    forward = network.spynet(second, first).view(batch, length - 1, 2, height, width)
    later, features = [], clip.new_zeros(batch, network.config.features, height, width)
    for t in range(length - 1, -1, -1):
        if t < length - 1:
            features = plain_warp(features, backward[:, t].permute(0, 2, 3, 1))
        features = network.backward_trunk.main(torch.cat([clip[:, t], features], dim=1))
        later.insert(0, features)
    outputs, features = [], torch.zeros_like(features)
    for t in range(length):
        if t > 0:
            features = plain_warp(features, forward[:, t - 1].permute(0, 2, 3, 1))
        features = network.forward_trunk.main(torch.cat([clip[:, t], features], dim=1))
        out = F.leaky_relu(network.fusion(torch.cat([later[t], features], dim=1)), 0.1)
        out = F.leaky_relu(F.pixel_shuffle(network.upconv1(out), 2), 0.1)
        out = F.leaky_relu(F.pixel_shuffle(network.upconv2(out), 2), 0.1)
        out = network.conv_last(F.leaky_relu(network.conv_hr(out), 0.1))
        outputs.append(out + F.interpolate(clip[:, t], scale_factor=4, mode="bilinear", align_corners=False))
    return torch.stack(outputs, dim=1)


def plain_warp(features: Tensor, flow: Tensor) -> Tensor:
    _, _, height, width = features.shape
    y, x = torch.meshgrid(
        torch.arange(height, dtype=flow.dtype, device=flow.device),
        torch.arange(width, dtype=flow.dtype, device=flow.device), indexing="ij",
    )  # fmt: skip
    grid = torch.stack((x, y), 2) + flow
    scaled = torch.stack((2 * grid[..., 0] / (width - 1) - 1, 2 * grid[..., 1] / (height - 1) - 1), dim=3)
    return F.grid_sample(features, scaled, mode="bilinear", padding_mode="zeros", align_corners=True)


def measure(settings: Settings) -> Iterator[Result]:
    device = torch.device(settings.device)
    torch.manual_seed(0)
    side = 24 if settings.quick else 64
    published = build_generator("rbpn").eval().to(device)
    yield from _rbpn(published, f"RBPN, published size, {side}x{side} LR", (side, side), "2019's loop", settings)
    small, _ = load_generator("rbpn-small")
    height, width = (36, 44) if settings.quick else (144, 180)
    yield from _rbpn(small.to(device), f"rbpn-small, {width}x{height} LR", (height, width), "the same loop", settings)
    network = load_generator("basicvsr-bi")[0].to(device)
    clip = _smooth(3 if settings.quick else 5, height, width, device)
    yield from _both(
        network, f"BasicVSR, {width}x{height} LR", "BasicSR's module", settings, clip.shape[1],
        plain=lambda net: plain_basicvsr(net, clip), ours=lambda net: net(clip),
    )  # fmt: skip


def _rbpn(network: RBPN, what: str, size: tuple[int, int], plain_name: str, settings: Settings) -> Iterator[Result]:
    count, device = network.config.num_frames - 1, torch.device(settings.device)
    frames = _smooth(count + 1, *size, device)
    target, neighbours = frames[:, 0], frames[:, 1:]
    flows = torch.zeros(1, count, 2, *size, device=device)
    yield from _both(
        network, what, plain_name, settings, 1, plain=lambda net: plain_rbpn(net, target, neighbours, flows),
        ours=lambda net: net(target, neighbours, flows),
    )  # fmt: skip


def _both(
    network: nn.Module, what: str, plain_name: str, settings: Settings, frames: int, *,
    plain: Callable[[nn.Module], Tensor], ours: Callable[[nn.Module], Tensor],
) -> Iterator[Result]:  # fmt: skip
    """Compare in float32, and in 16 bits where the processor has instructions for them."""
    fast = copy.deepcopy(network).to(memory_format=torch.channels_last)

    def run(function: Callable[[nn.Module], Tensor], net: nn.Module, dtype: torch.dtype | None) -> Callable[[], Tensor]:
        def work() -> Tensor:
            with torch.inference_mode(), torch.autocast(settings.device, dtype or torch.bfloat16, enabled=bool(dtype)):
                return function(net)

        return work

    flops = count_flops(run(plain, network, None))
    half = torch.float16 if settings.device == "cuda" else torch.bfloat16
    for name, dtype in (("float32", None), ("16 bits", half)):
        if dtype and not has_bfloat16(torch.device(settings.device)):
            continue
        yield compare(
            "generators", f"{what}, {name}", plain=run(plain, network, None), ours=run(ours, fast, dtype), unit="frame",
            per=frames, plain_name=plain_name, settings=settings, difference=largest_difference,
            tolerance="largest relative difference", flops=flops,
        )  # fmt: skip


def _smooth(frames: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return a texture that moves by a pixel per frame, (1, frames, 3, h, w)."""
    noise = torch.rand(1, 3, height // 4 + 1, (width + frames) // 4 + 1, generator=torch.Generator().manual_seed(0))
    wide = F.interpolate(noise, size=(height, width + frames), mode="bilinear")
    return torch.stack([wide[..., k : k + width] for k in range(frames)], dim=1).to(device)
