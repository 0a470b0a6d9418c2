"""Sample preparation against the loader of 2019, which estimated 6 LR and 6 HR variational flows per sample."""

from collections.abc import Iterator

from benchmarks.harness import Result, Settings, compare
from stvsr import flow
from stvsr.data.clips import load_clips
from stvsr.data.septuplets import SampleConfig, SeptupletDataset
from stvsr.degradation import degrade

PATCH, SCALE = 64, 4  # LR pixels, as in 2019


def measure(settings: Settings) -> Iterator[Result]:
    patch = 24 if settings.quick else PATCH
    clips = [clip for clip in load_clips(("samples",), "train") if min(clip.height, clip.width) >= patch * SCALE]
    dataset = SeptupletDataset(clips, SampleConfig(patch=patch, targets=3, hr_flow=True), seed=0, length=1_000_000)
    wide = SampleConfig(patch=patch, targets=3, flow="none")
    samples = SeptupletDataset(clips, wide, seed=0, length=1_000_000)
    index = iter(range(1_000_000))
    variational = flow.estimator("tvl1")

    def plain() -> None:
        """One LR and one HR flow, of the 12 that a sample takes: the estimator takes all the time."""
        sample = samples[next(index)]
        hr = (255 * sample["hr"]).round().byte().movedim(1, -1).numpy()
        lr = degrade(hr, "bi", SCALE)
        variational(hr[0], hr[1])
        variational(lr[0], lr[1])

    count = 4

    def ours() -> None:
        for _ in range(count):
            _ = dataset[next(index)]

    yield compare(
        "samples", f"training sample of 7 frames, {patch}x{patch} LR", plain=plain, ours=ours, unit="sample", per=count,
        plain_per=1 / 6, plain_name="12 variational flows (2019's loader)", settings=settings,
        note="2019's Brox flow is stood in for by scikit-image's TV-L1; a sixth of its flows is timed",
    )  # fmt: skip
