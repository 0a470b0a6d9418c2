"""run.json: everything needed to repeat a run."""

import json
import sys
import time

from stvsr.runs.environment import environment
from stvsr.runs.files import read_json, write_json
from stvsr.runs.stamp import read_stamp
from stvsr.study.plan import Plan
from stvsr.study.study_file import Study


def write_manifest(study: Study, plans: dict[str, Plan], started: float) -> None:
    """Write run.json: everything that is needed to repeat the run."""
    stored = {name: read_stamp(study.out / "steps" / name / "step.json") for name in study.steps}
    records = {name: record for name, record in stored.items() if "status" in record}
    steps = [
        {"name": name, "notebook": record["notebook"], "parameters": record["parameters"], "seconds": record["seconds"],
         "status": record["status"], "key": record["key"], "error": record["error"],
         "reason": plans[name].reason if name in plans else "not asked for"}
        for name, record in records.items()
    ]  # fmt: skip
    parameters = [record["parameters"] for record in records.values()]
    write_json(
        study.out / "run.json",
        {
            "study": study.name,
            "title": study.title,
            "question": study.question,
            "command": " ".join(["stvsr", *sys.argv[1:]]),
            "started": started,
            "finished": time.time(),
            "seconds": round(sum(step["seconds"] for step in steps), 1),
            **environment(),
            "seeds": sorted({values["seed"] for values in parameters if "seed" in values}),
            "data": _gather(study, "data.json"),
            "weights": _gather(study, "weights.json"),
            "steps": steps,
        },
    )


def _gather(study: Study, name: str) -> list[dict]:
    """Return the union of the lists that steps wrote under a name, each entry once."""
    found = [
        entry
        for step in study.steps
        if (path := study.out / "steps" / step / name).is_file()
        for entry in read_json(path, list)
    ]
    return list({json.dumps(entry, sort_keys=True): entry for entry in found}.values())
