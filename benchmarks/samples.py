"""Sample preparation against the loader of 2019, which estimated 6 LR and 6 HR variational flows per sample."""

from collections.abc import Iterator

from benchmarks.harness import Result, Settings, compare
from stvsr import flow
from stvsr.data.clips import load_clips
from stvsr.data.septuplets import SampleConfig, SeptupletDataset
from stvsr.degradation import degrade

PATCH, SCALE = 64, 4  # LR pixels, as in 2019
SAMPLES = 4  # per repetition
LENGTH = 1_000_000  # of the data sets: never exhausted


def measure(settings: Settings) -> Iterator[Result]:
    patch = 24 if settings.quick else PATCH
    clips = [clip for clip in load_clips(("samples",), "train") if min(clip.height, clip.width) >= patch * SCALE]
    frames = SeptupletDataset(clips, SampleConfig(patch=patch, targets=3, flow="none"), seed=0, length=LENGTH)
    variational = flow.estimator("tvl1")
    index = iter(range(LENGTH))

    def plain() -> None:
        """Estimate one LR and one HR flow, of the 12 that a sample takes; they take nearly all of its time."""
        hr = (255 * frames[next(index)]["hr"]).round().byte().movedim(1, -1).numpy()
        lr = degrade(hr, "bi", SCALE)
        variational(hr[0], hr[1])
        variational(lr[0], lr[1])

    for what, targets in (("one target, as in 2019", 1), ("three targets and HR flow, for losses over time", 3)):
        config = SampleConfig(patch=patch, targets=targets, hr_flow=targets == 3)
        dataset = SeptupletDataset(clips, config, seed=0, length=LENGTH)

        def ours(dataset: SeptupletDataset = dataset) -> None:
            for _ in range(SAMPLES):
                _ = dataset[next(index)]

        yield compare(
            "samples", f"training sample of 7 frames, {patch}x{patch} LR, {what}", plain=plain, ours=ours,
            unit="sample", per=SAMPLES, plain_per=1 / 6, plain_name="12 variational flows (2019's loader)",
            settings=settings, note="TV-L1 of scikit-image stands in for 2019's flow; a sixth of its flows is timed",
        )  # fmt: skip
