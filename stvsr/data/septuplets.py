"""Training samples: cut, augment, degrade, estimate flow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stvsr import flow
from stvsr.data import augmentation
from stvsr.data.clips import Clip
from stvsr.data.windows import reflect
from stvsr.degradation import DEGRADATIONS, crop_to_multiple, to_float, to_uint8
from stvsr.errors import InputError, unknown

DRAWS = 100  # of one sample, before a data set counts as damaged all over


def require_window(clips: Sequence[Clip], num_frames: int) -> None:
    """Raise InputError for the first clip that is shorter than the generator's window."""
    for clip in clips:
        if len(clip) < num_frames:
            raise InputError(
                f"clip {clip.name} has {len(clip)} frames, the window needs {num_frames}: "
                "lower num_frames or drop the clip"
            )


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """What one training sample holds.

    num_frames: the generator's window T. targets: consecutive frames to generate, an odd number. patch: LR patch side.
    scale: upscaling factor. degradation: bi or bd. flow: estimator's name, or none. augment: dihedral and time
    reversal. four_states: only the four states that the 2019 code drew. hr_flow: with the flow of the true frames, for
    three targets.
    """

    num_frames: int = 7
    targets: int = 1
    patch: int = 64
    scale: int = 4
    degradation: str = "bi"
    flow: str = "dis"
    augment: bool = True
    four_states: bool = False
    hr_flow: bool = False

    def __post_init__(self):
        if self.num_frames < 3 or self.num_frames % 2 == 0:
            raise InputError(f"num_frames is {self.num_frames}: it must be odd and at least 3")
        if self.targets < 1 or self.targets % 2 == 0:
            raise InputError(f"targets is {self.targets}: it must be odd, 3 for losses over time")
        if self.scale < 1:
            raise InputError(f"scale is {self.scale}: at least 1")
        if self.patch < 8:
            raise InputError(f"patch is {self.patch} LR pixels: at least 8")
        if self.degradation not in DEGRADATIONS:
            raise unknown("degradation", self.degradation, DEGRADATIONS)
        if self.flow != "none":
            flow.estimator(self.flow)

    @property
    def length(self) -> int:
        """Frames read per sample: the windows of all targets together."""
        return self.num_frames + self.targets - 1


class SeptupletDataset(Dataset):
    """Endless, seeded septuplets: sample i is the same in every run, so a resumed run sees what it would have seen.

    Item: `lr` (N, 3, h, w) with N = num_frames + targets - 1, `hr` (targets, 3, s*h, s*w), unless flow is none `flows`
    (targets, T-1, 2, h, w) from each target to its neighbours, LR pixels, and if asked for `hr_flows` (2, 2, s*h, s*w)
    from the middle target to the others, HR pixels. RGB in [0, 1].

    With `skip_damaged`, a sample with a frame that cannot be read is drawn again, by its own index only, so that the
    samples do not depend on how many processes read them.
    """

    def __init__(
        self, clips: Sequence[Clip], config: SampleConfig, *, seed: int, length: int, skip_damaged: bool = False
    ):
        require_window(clips, config.num_frames)
        side = config.patch * config.scale
        for clip in clips:
            if min(clip.height, clip.width) < side:
                raise InputError(
                    f"clip {clip.name} is {clip.width}x{clip.height}, a patch needs {side}: lower the patch size"
                )
        self.clips, self.config, self.seed, self.length = list(clips), config, seed, length
        self.skip_damaged = skip_damaged
        frames = np.array([len(clip) for clip in clips], dtype=float)
        self.weights = frames / frames.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.whole_sample(index)[0]

    def whole_sample(self, index: int) -> tuple[dict[str, Tensor], list[str]]:
        """Return a sample, and why draws before it were left out: one line each, which names the damaged frame.

        Raises:
            InputError: a frame cannot be read; with `skip_damaged`, so it is in each of `DRAWS` draws.
        """
        damage: list[str] = []
        while True:
            rng = np.random.default_rng([self.seed, index, len(damage)] if damage else [self.seed, index])
            clip = self.clips[rng.choice(len(self.clips), p=self.weights)]
            drawn = draw_sample(rng, clip, self.config)
            try:
                return make_sample(clip, drawn, self.config), damage
            except (InputError, OSError) as error:
                if not self.skip_damaged:
                    raise
                damage.append(str(error).partition("\n")[0])
            if len(damage) == DRAWS:
                raise InputError(f"{DRAWS} draws of one sample met damaged frames, the last {damage[-1]}")


def draw_sample(rng: np.random.Generator, clip: Clip, config: SampleConfig) -> augmentation.Draw:
    """Draw where one sample of a clip is cut, its dihedral state and its direction of time."""
    return augmentation.draw(
        rng,
        (len(clip), clip.height // config.scale, clip.width // config.scale),
        length=config.length,
        patch=config.patch,
        augment=config.augment,
        four_states=config.four_states,
    )


def make_sample(clip: Clip, drawn: augmentation.Draw, config: SampleConfig) -> dict[str, Tensor]:
    """Cut, augment, degrade and estimate flow, in that order, for one draw from one clip."""
    indices = [reflect(drawn.start + k, len(clip)) for k in range(config.length)]
    hr, margins = augmentation.apply(drawn, clip.frames(indices), patch=config.patch, scale=config.scale)
    lr = to_uint8(DEGRADATIONS[config.degradation](to_float(crop_to_multiple(hr, config.scale)), config.scale))
    lr = _trim(lr, margins, 1)
    middle = slice(config.num_frames // 2, config.num_frames // 2 + config.targets)
    truth = _trim(hr, margins, config.scale)[middle]
    sample = {"lr": to_float(lr), "hr": to_float(truth)}
    if config.hr_flow:
        sample["hr_flows"] = flow.window_flows(truth, flow.estimator("dis"))
    if config.flow != "none":
        estimate = flow.estimator(config.flow)
        windows = [lr[k : k + config.num_frames] for k in range(config.targets)]
        sample["flows"] = torch.stack([flow.window_flows(window, estimate) for window in windows])
    return sample


def _trim(frames: np.ndarray, margins: tuple[int, int, int, int], scale: int) -> np.ndarray:
    """Cut the margins (top, bottom, left, right; LR pixels) off frames (T, H, W, 3)."""
    top, bottom, left, right = (margin * scale for margin in margins)
    return frames[:, top : frames.shape[1] - bottom, left : frames.shape[2] - right]
