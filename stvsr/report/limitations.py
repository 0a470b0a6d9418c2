"""Limitations of a run, derived from its manifest, scores and steps."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from stvsr.arms import ARMS
from stvsr.evaluation.bootstrap import FEWEST_CLIPS
from stvsr.evaluation.comparison import has_discriminator
from stvsr.evaluation.dose import NAME
from stvsr.report import labels
from stvsr.report.findings import failed_arms, not_learnt
from stvsr.report.labels import duration
from stvsr.report.run import Run

VID4 = ("calendar", "city", "foliage", "walk")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One question that the run cannot answer, and why."""

    title: str
    why: str


def cannot_say(run: Run) -> list[Limit]:
    """Return the limits that follow from the manifest, the scores and the steps, most important first."""
    return [
        *_limit_failures(run),
        *_limit_attribution(run),
        *_limit_clips(run),
        *_limit_seeds(run),
        *_limit_budget(run),
        *_limit_data(run),
        *_limit_rest(run),
    ]


def _limit_failures(run: Run) -> Iterator[Limit]:
    for step in run.steps:
        if step["status"] == "failed":
            yield Limit(title=f"Anything about {step['name']}", why=f"The step failed: {step['why']}")
    present = {*run.arms, *failed_arms(run)}
    judged = [name for name in ARMS if has_discriminator(name) and labels.arm(name).kind != "ladder"]
    absent = [labels.arm(name).label for name in judged if name not in present and not NAME.fullmatch(name)]
    if absent and not run.metrics.empty:
        yield Limit(title="How the other arms of the study would do", why=f"Not part of this run: {', '.join(absent)}.")


def _limit_attribution(run: Run) -> Iterator[Limit]:
    with_twin = set(run.comparisons.loc[run.comparisons["is_twin"].astype(bool), "arm"])
    judged = [name for name in run.arms if has_discriminator(name) and labels.arm(name).kind != "ladder"]
    if alone := [labels.arm(name).label for name in judged if name not in with_twin]:
        yield Limit(
            title=f"What the discriminator changes in {labels.listed(alone)}",
            why="The twin (the same losses and steps without the discriminator) was not measured in this run. A"
            " difference from any other arm is the effect of all its losses.",
        )
    if shown := [labels.arm(name).label for name in run.demonstrations if name in run.arms]:
        yield Limit(
            title=f"What {labels.listed(shown)} can do",
            why="Demonstrations: trained for a few steps in this run to show the study at work. Their scores do not"
            " compare with those of arms that were trained for longer.",
        )
    for name, apart in not_learnt(run).items():
        yield Limit(
            title=f"What the discriminator of {labels.arm(name).label} would do if it learnt",
            why=f"It did not learn in this run: {apart}.",
        )


def _limit_clips(run: Run) -> Iterator[Limit]:
    clips = sorted(run.metrics["clip"].dropna().unique())
    frames = run.metrics.drop_duplicates(["clip", "frame"]).groupby("clip").size()
    if len(clips) == 1:
        yield Limit(
            title="Whether it holds for other scenes",
            why=f"Every score comes from one clip ({clips[0]}, {frames.iloc[0]} frames). The intervals show how scores"
            " vary between parts of that clip, not between clips.",
        )
    elif 1 < len(clips) < FEWEST_CLIPS:
        yield Limit(
            title="Whether it holds for other scenes",
            why=f"{len(clips)} test clips are too few to represent others: the intervals are about more frames of these"
            " clips. \u201cNo difference detected\u201d does not mean \u201cequal\u201d.",
        )
    elif FEWEST_CLIPS <= len(clips) < 2 * FEWEST_CLIPS:
        yield Limit(
            title="Small differences between arms",
            why=f"{len(clips)} test clips are few: intervals over so few scenes are wide, and"
            " \u201cno difference detected\u201d does not mean \u201cequal\u201d.",
        )


def _limit_seeds(run: Run) -> Iterator[Limit]:
    trained = run.metrics[run.metrics["method"].astype(str).str.contains("@", regex=False)]
    trained = trained[~trained["arm"].isin(run.demonstrations)]
    if trained.empty:
        return
    seeds = int(trained.groupby("arm")["method"].nunique().min())
    if seeds == 1:
        yield Limit(
            title="How much depends on the random seed",
            why="Each arm was trained once. Training the same arm again with another seed gives other scores;"
            " no interval here includes that spread.",
        )
    elif seeds < 5:
        yield Limit(
            title="How much depends on the random seed",
            why=f"{seeds} seeds per arm measure the spread between trainings only roughly.",
        )


def _limit_budget(run: Run) -> Iterator[Limit]:
    if any(name in run.arms for name in run.demonstrations):
        yield Limit(
            title="What longer training would do",
            why="Arms that were not trained in this run were trained for as many steps as their model cards state, a"
            " small part of the 2019 study's 14 epochs of 70% of Vimeo-90k's 91,701 septuplets.",
        )
        return
    steps = [int(log["step"].max()) for name, log in run.logs.items() if name != "rbpn@pretrain"]
    steps = steps or [int(log["step"].max()) for log in run.logs.values()]
    seconds = float(run.manifest["seconds"] or sum(float(step.get("seconds") or 0) for step in run.steps))
    if steps:
        length = f"{min(steps):,}" if min(steps) == max(steps) else f"{min(steps):,} to {max(steps):,}"
        yield Limit(
            title="What longer training would do",
            why=f"Training took {length} steps per arm, the whole run {duration(seconds)}. The 2019 study reports 14"
            " epochs of 70% of Vimeo-90k's 91,701 septuplets.",
        )


def _limit_data(run: Run) -> Iterator[Limit]:
    tested = {str(clip).lower() for clip in run.metrics["clip"].dropna()}
    if tested and not tested & set(VID4):
        yield Limit(
            title="How these scores compare with published ones",
            why="Published scores are for Vid4 and Vimeo-90k. This run is scored on other clips, and scores depend on"
            " the clip more than on the method: compare only differences between arms with published differences.",
        )
    data = run.manifest["data"] or []
    scored = {str(clip) for clip in run.metrics["clip"].dropna()}
    if seen := sorted(scored & {str(clip.get("clip")).replace("/", "-") for clip in data if not clip.get("split")}):
        yield Limit(
            title="How it does on clips it has not seen",
            why=f"The networks were trained on the very clip they are scored on ({', '.join(seen)}).",
        )
    films = [
        {film for clip in data if bool(clip.get("split")) == tested and (film := _film(str(clip.get("clip"))))}
        for tested in (0, 1)
    ]
    if shared := sorted(films[0] & films[1]):
        yield Limit(
            title="How it does on film of another kind",
            why=f"Other shots of the same film were trained on ({', '.join(shared)}): the same camera, grain and"
            " compression.",
        )
    kinds = sorted({str(clip.get("degradation")).upper() for clip in data if clip.get("degradation")})
    if len(kinds) == 1:
        yield Limit(
            title="What happens on real low-resolution video",
            why=f"Input was made by one degradation ({kinds[0]}) without noise or compression. Cameras and streams"
            " degrade video differently.",
        )


def _film(clip: str) -> str:
    """Return the film that a shot (`film-02` or `film/02`) is from, nothing for a clip that is not a shot."""
    shot = re.fullmatch(r"(.+)[-/]\d+", clip)
    return shot[1] if shot else ""


def _limit_rest(run: Run) -> Iterator[Limit]:
    if not run.metrics.empty:
        yield Limit(
            title="What people would prefer",
            why="No viewers were asked. LPIPS and the temporal metrics replace them and sometimes disagree with them.",
        )
    if (run.manifest["git"] or {}).get("dirty"):
        yield Limit(
            title="Which code exactly ran",
            why="The source tree had uncommitted changes: the commit in the provenance does not describe all of it.",
        )
