"""Which steps of a study run, and why."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stvsr.errors import InputError
from stvsr.runs.hashes import hash_of
from stvsr.runs.stamp import damage, differences, read_stamp
from stvsr.study.keys import files_read, key_parts
from stvsr.study.study_file import Step, Study


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done with a step, and why.

    key: identifies its inputs. parts: what the key is made of. forced: its old result is not used, whatever it is.
    """

    step: Step
    run: bool
    reason: str
    key: str
    parts: dict
    forced: bool = False


def make_plans(study: Study, only: str = "", force: Iterable[str] = ()) -> dict[str, Plan]:
    """Decide for every step (or `only` and what it needs) whether it runs, and say why; those of `force` do.

    Raises:
        InputError: `only` or a name in `force` is not a step of the study, or `only` leaves out a forced step.
    """
    for name in (*([only] if only else []), *force):
        _require_step(study, name)
    wanted = _upstream(study, only) if only else set(study.steps)
    if left_out := sorted(set(force) - wanted):
        raise InputError(f"step {left_out[0]} is forced, but {only} does not need it: drop --only or --force")
    plans: dict[str, Plan] = {}
    for step in study.steps.values():
        if step.name in wanted:
            plans[step.name] = _plan_step(step, study.out, plans, forced=step.name in force)
    return plans


def _plan_step(step: Step, out: Path, plans: dict[str, Plan], *, forced: bool = False) -> Plan:
    """Decide about one step; `plans` has those of the steps that it needs."""
    parts = key_parts(step, {name: plans[name].key for name in step.needs})
    key = hash_of(parts)
    folder = out / "steps" / step.name
    before = read_stamp(folder / "step.json")
    if not (folder / "step.json").is_file():
        reason = "never run"
    elif forced:
        reason = "forced"
    elif not {"status", "key", "parts"} <= before.keys():
        reason = "step.json is damaged"
    elif before["status"] != "done":
        reason = f"{before['status']} last time"
    elif before["key"] != key:
        reason = _difference(before["parts"], parts)
    elif any(plans[name].run for name in step.needs):
        reason = "a step it needs runs again"
    elif replaced := list(differences(before["read"], files_read(step, out)) if "read" in before else ()):
        reason = ", ".join(replaced)
    elif lost := damage(before, folder):
        reason = lost
    else:
        return Plan(step=step, run=False, reason="unchanged", key=key, parts=parts)
    return Plan(step=step, run=True, reason=reason, key=key, parts=parts, forced=forced)


def _difference(before: dict, now: dict) -> str:
    if before["parameters"] != now["parameters"]:
        names = sorted(name for name in now["parameters"] if before["parameters"].get(name) != now["parameters"][name])
        return f"parameter {', '.join(names)} changed"
    if before["modules"] != now["modules"]:
        names = sorted(name for name in now["modules"] if before["modules"].get(name) != now["modules"][name])
        return f"code of {', '.join(names)} changed"
    return "notebook code changed" if before["cells"] != now["cells"] else "an input changed"


def _require_step(study: Study, name: str) -> None:
    if name not in study.steps:
        near = difflib.get_close_matches(name, study.steps, n=1)
        raise InputError(
            f"step {name!r} is unknown" + (f": did you mean {near[0]}?" if near else f": {', '.join(study.steps)}")
        )


def _upstream(study: Study, name: str) -> set[str]:
    return {name}.union(*(_upstream(study, needed) for needed in study.steps[name].needs))
