"""Published numbers (reports/published/*.csv) next to those of the run, each under its own protocol."""

import math
from pathlib import Path

import pandas as pd

from stvsr.evaluation.comparison import clip_means
from stvsr.report import labels, tables
from stvsr.report.labels import signed
from stvsr.report.limitations import VID4
from stvsr.report.run import Run
from stvsr.report.tables import EMPTY, Cell, Table, number_cell, text_cell

FOLDER = (
    Path(__file__).resolve().parents[2] / "reports" / "published"
)  # in a checkout; an installed package has no copy
REPORT_ARMS = ("rbpn", "recurrent-d", "recurrent-d-flow")
CONTRASTS = ("seed-faithful", "original-faithful", "recurrent-d", "recurrent-d-flow")


def published(name: str) -> pd.DataFrame:
    """Return one table of published numbers, empty where the checkout's folder is not there."""
    path = FOLDER / name
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def comparison(run: Run) -> list[Table]:
    """Return the 2019 report's table, the same contrasts in this run, and the literature's tables."""
    found = [report_2019(run), contrasts(run), literature(run), tecogan(run)]
    return [table for table in found if table is not None]


def _own_means(run: Run, protocol: str) -> dict[tuple[str, str, str], float]:
    """Return {(clip, arm, metric): mean} of one protocol, clips in lower case."""
    rows = clip_means(run.metrics[run.metrics["protocol"] == protocol])
    columns = (rows["clip"].astype(str).str.lower(), rows["arm"], rows["metric"])
    return dict(zip(zip(*columns, strict=True), rows["mean"], strict=True))


def report_2019(run: Run) -> Table | None:
    """Return the 2019 report's results per clip, differences from its RBPN, and this run's PSNR on the same clips."""
    data = published("report-2019.csv")
    if data.empty:
        return None
    own = _own_means(run, "literature-y")
    wide = data.pivot(index="clip", columns="method", values=["psnr", "ssim"]).loc[data["clip"].unique()]
    here = any((clip, arm, "psnr") in own for clip in wide.index for arm in REPORT_ARMS)
    body = []
    for clip, row in wide.iterrows():
        base = row["psnr", "rbpn"]
        cells = [text_cell(str(clip).capitalize())]
        for arm in REPORT_ARMS:
            value = row["psnr", arm]
            note = f"SSIM {row['ssim', arm]:.2f}" + ("" if arm == "rbpn" else f", {signed(value - base, 2)} dB")
            cells.append(Cell(text=f"{value:.2f}", note=note, sort=repr(float(value))))
        if here:
            cells += [number_cell(own.get((str(clip), arm, "psnr"), math.nan), 2) for arm in REPORT_ARMS]
        body.append(cells)
    names = [labels.arm(name).label for name in REPORT_ARMS]
    return Table(
        key="published-2019",
        caption="Results of the 2019 report: PSNR in dB, below it SSIM and the difference from its RBPN. It names no"
        " protocol and gives one run per row, no interval; in its published code no adversarial gradient reaches the"
        " generator." + (" Columns \u201chere\u201d are this run's, protocol literature-y." if here else ""),
        columns=["Clip", *names, *(f"{name}, here" for name in names if here)],
        rows=body,
        data=data,
    )


def contrasts(run: Run) -> Table | None:
    """Return the 2019 report's mean differences next to those of this run's matching arms, with intervals."""
    data = published("report-2019.csv")
    rows = run.compared("literature-y", twins=False)
    rows = rows[rows["arm"].isin(CONTRASTS)]
    if rows.empty or data.empty:
        return None
    theirs = _mean_gaps(data[data["dataset"] == "Vid4"])
    body, lines = [], []
    for arm in sorted(rows["arm"].unique(), key=labels.arm_order):
        shown = labels.arm(arm)
        of_arm = {row.metric: row for row in rows[rows["arm"] == arm].itertuples()}
        cells = [text_cell(shown.label, shown.what)]
        for name in ("psnr", "ssim"):
            digits = labels.metric(name).digits
            gap = theirs.get((arm, name), math.nan)
            cells.append(
                EMPTY
                if math.isnan(gap)
                else Cell(text=signed(gap, 2), sort=repr(gap), note="mean of 4 clips, no interval")
            )
            cells.append(tables.difference_cell(of_arm[name], digits) if name in of_arm else EMPTY)
            if name in of_arm:
                ours = of_arm[name]
                lines.append(
                    {
                        "arm": arm,
                        "metric": name,
                        "published_difference": gap,
                        "difference": ours.difference,
                        "low": ours.low,
                        "high": ours.high,
                    }
                )
        body.append(cells)
    return Table(
        key="contrasts",
        caption="The same differences in this run. Theirs: from RBPN that was not trained further, Vid4. Here: from"
        f" {labels.arm(run.control).label}, this run's clips, with 95% intervals."
        f" {tables.protocol_words(run.metrics, 'literature-y')}",
        columns=["Arm", "PSNR, 2019 report", "PSNR, here", "SSIM, 2019 report", "SSIM, here"],
        rows=body,
        data=pd.DataFrame(lines),
    )


def _mean_gaps(data: pd.DataFrame) -> dict[tuple[str, str], float]:
    gaps = {}
    for name in ("psnr", "ssim"):
        wide = data.pivot(index="clip", columns="method", values=name)
        for arm in REPORT_ARMS[1:]:
            gaps[arm, name] = float((wide[arm] - wide["rbpn"]).mean())
    return gaps


def _runs_vid4(run: Run, degradation: str) -> bool:
    """Return whether the run was scored on all four clips of Vid4 and nothing else, with this degradation."""
    clips = {str(clip).lower() for clip in run.metrics["clip"].dropna()}
    made = {str(value).lower() for value in run.metrics["degradation"].dropna()}
    return clips == set(VID4) and made == {degradation}


def literature(run: Run) -> Table | None:
    """Return published Vid4 scores under `literature-y`, this run's rows among them when it is scored on Vid4."""
    data = published("vid4-literature-y.csv")
    return (
        None
        if data.empty
        else _with_own(run, data.assign(degradation="BI"), "literature-y", ("psnr", "ssim"), "published-vid4")
    )


def tecogan(run: Run) -> Table | None:
    """Return published Vid4 scores by TecoGAN's definitions, this run's rows among them when it is scored on Vid4."""
    data = published("vid4-tecogan.csv")
    return (
        None if data.empty else _with_own(run, data, "tecogan", ("psnr", "lpips", "tof", "tlp100"), "published-tecogan")
    )


def _with_own(run: Run, data: pd.DataFrame, protocol: str, names: tuple[str, ...], key: str) -> Table:
    own = _own_rows(run, protocol, names) if _runs_vid4(run, "bi") else pd.DataFrame()
    rows = pd.concat([data, own], ignore_index=True)
    winners = {
        name: tables.best_of(rows.loc[rows["degradation"] == "BI", name], labels.metric(name).direction)
        for name in names
    }
    body = [
        [text_cell(row["method"]), text_cell(row["degradation"])]
        + [number_cell(row[name], labels.metric(name).digits, best=place in winners[name]) for name in names]
        + [text_cell(row["source"])]
        for place, row in rows.iterrows()
    ]
    alongside = (
        "This run's rows are among them."
        if len(own)
        else "This run was not scored on these four clips, so its numbers do not belong here."
    )
    return Table(
        key=key,
        caption=f"Published scores on Vid4, \u00d74, protocol {protocol}; the best under bicubic degradation (BI) is"
        f" marked. {alongside}",
        columns=["Method", "Degradation", *(labels.metric(name).title for name in names), "Source"],
        rows=body,
        data=rows,
        notes=tables.directions(labels.metric(name) for name in names),
    )


def _own_rows(run: Run, protocol: str, names: tuple[str, ...]) -> pd.DataFrame:
    means = run.summary
    wide = means[(means["protocol"] == protocol) & means["arm"].isin(run.arms)].pivot(
        index="arm", columns="metric", values="mean"
    )
    wide = wide.reindex(columns=list(names)).loc[sorted(wide.index, key=labels.arm_order)]
    return wide.assign(
        method=[f"{labels.arm(arm).label} (this run)" for arm in wide.index], degradation="BI", source="this run"
    ).reset_index(drop=True)
