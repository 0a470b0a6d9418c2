"""Which steps of a study run, and why."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from stvsr.errors import InputError
from stvsr.runs.hashes import hash_of
from stvsr.runs.stamp import damage, read_stamp
from stvsr.study.keys import key_parts
from stvsr.study.study_file import Step, Study


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done with a step, and why. `key` identifies its inputs, `parts` what the key is made of."""

    step: Step
    run: bool
    reason: str
    key: str
    parts: dict


def make_plans(study: Study, only: str = "") -> dict[str, Plan]:
    """Decide for every step (or `only` and what it needs) whether it runs, and say why.

    Raises:
        InputError: `only` is no step of the study.
    """
    wanted = _upstream(study, only) if only else set(study.steps)
    plans: dict[str, Plan] = {}
    for step in study.steps.values():
        if step.name in wanted:
            plans[step.name] = _plan_step(step, study.out, plans)
    return plans


def _plan_step(step: Step, out: Path, plans: dict[str, Plan]) -> Plan:
    """Decide about one step; `plans` has those of the steps that it needs."""
    parts = key_parts(step, {name: plans[name].key for name in step.needs})
    key = hash_of(parts)
    folder = out / "steps" / step.name
    before = read_stamp(folder / "step.json")
    if not (folder / "step.json").is_file():
        reason = "never run"
    elif not {"status", "key", "parts"} <= before.keys():
        reason = "step.json is damaged"
    elif before["status"] != "done":
        reason = f"{before['status']} last time"
    elif before["key"] != key:
        reason = _difference(before["parts"], parts)
    elif any(plans[name].run for name in step.needs):
        reason = "a step it needs runs again"
    elif lost := damage(before, folder):
        reason = lost
    else:
        return Plan(step=step, run=False, reason="unchanged", key=key, parts=parts)
    return Plan(step=step, run=True, reason=reason, key=key, parts=parts)


def _difference(before: dict, now: dict) -> str:
    if before["parameters"] != now["parameters"]:
        names = sorted(name for name in now["parameters"] if before["parameters"].get(name) != now["parameters"][name])
        return f"parameter {', '.join(names)} changed"
    if before["modules"] != now["modules"]:
        names = sorted(name for name in now["modules"] if before["modules"].get(name) != now["modules"][name])
        return f"code of {', '.join(names)} changed"
    return "notebook code changed" if before["cells"] != now["cells"] else "an input changed"


def _upstream(study: Study, name: str) -> set[str]:
    if name not in study.steps:
        near = difflib.get_close_matches(name, study.steps, n=1)
        raise InputError(
            f"step {name!r} is unknown" + (f": did you mean {near[0]}?" if near else f": {', '.join(study.steps)}")
        )
    return {name}.union(*(_upstream(study, needed) for needed in study.steps[name].needs))
