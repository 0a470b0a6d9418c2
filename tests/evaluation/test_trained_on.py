"""Scores on training clips are marked in every table of an evaluation."""

import pandas as pd
import tiny

from stvsr.data.clips import load_clips
from stvsr.data.seen import trained_on
from stvsr.evaluation.held_out import EvaluationConfig, mark_trained, prepare_clips, table_of
from stvsr.models.generators import build_generator, save_generator
from stvsr.runs.files import read_json


def test_scores_on_training_clips_are_marked(tmp_path):
    root = tiny.write_clips(tmp_path / "clips", 2)
    weights, blank = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_generator(weights, build_generator("rbpn-tiny"), trained_on=trained_on(load_clips(str(root / "clip1")), ""))
    save_generator(blank, build_generator("rbpn-tiny"))
    config = EvaluationConfig(generators=(f"arm@0={weights}", f"other@0={blank}"), data=(str(root),), split="all")
    prepare_clips(config, tmp_path / "out")
    entries = read_json(tmp_path / "out" / "data.json", list)
    assert [entry["trained_on_by"] for entry in entries] == [[], ["arm@0"]]
    rows = [(arm, "literature-y", "psnr", 30.0) for arm in ("bicubic", "arm", "other")]
    summary = mark_trained(pd.DataFrame(rows, columns=["arm", "protocol", "metric", "mean"]), tmp_path / "out")
    assert summary["trained_on"].tolist() == [0, 1, 0]
    table = table_of(summary, "literature-y")
    assert list(table.index) == ["bicubic", "arm (trained on these clips)", "other"]
