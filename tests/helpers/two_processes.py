"""Checks in two processes, run under torchrun by test_training: `two_processes.py FOLDER DATA [ARM ...]`.

With arms, each is only fine-tuned, in `FOLDER/ARM`.

Each check prints one JSON line from process 0.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch
from tiny import finetuning

from stvsr.models import spynet
from stvsr.runs.files import load_tensors
from stvsr.training import distributed
from stvsr.training import finetuning as loop


def say(name: str, value: object) -> None:
    """Print what every process found, so that the test sees both."""
    found = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, value)
    if torch.distributed.get_rank() == 0:
        print(json.dumps({name: found}), flush=True)


def fingerprint(module: torch.nn.Module) -> str:
    """Return a hash of the learned parameters; statistics of batch norm are each process's own."""
    return hashlib.sha256(b"".join(value.detach().numpy().tobytes() for value in module.parameters())).hexdigest()


def main(folder: Path, data: Path, *arms: str) -> None:
    torch.set_num_threads(1)
    rank = distributed.current("cpu")
    for arm in arms:
        loop.finetune(finetuning(data, arm, steps=2, batch=4), folder / arm)
    if arms:
        distributed.leave()
        return
    say("any", [rank.any(rank.index == 1), rank.any(False)])
    say("mean", rank.mean(float(rank.index)))

    loop.finetune(finetuning(data, "modern", steps=3), folder / "modern")

    players = []  # the flow network is in no DistributedDataParallel: its gradients are averaged by hand
    build, loop.build_networks = loop.build_networks, lambda *given: players.append(build(*given)) or players[-1]
    loop.finetune(finetuning(data, "recurrent-d-flow", steps=2, more={"flow_learning_rate": 1e-4}), folder / "flow")
    before = fingerprint(spynet.load_spynet("cpu"))
    say("players", {name: fingerprint(module) for name, module in players[-1].named_children()} | {"untrained": before})

    if rank.index == 1:  # time is up here only: both stop, after the same step
        os.environ["STVSR_DEADLINE"] = "1"
    finished = loop.finetune(finetuning(data, "recurrent-d", steps=50), folder / "stopped")
    say("finished", finished)
    say("stopped at", load_tensors(folder / "stopped" / "checkpoint.safetensors")[1]["step"])
    distributed.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
