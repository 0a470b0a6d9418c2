"""The recipes in docs/clusters.md: shell and YAML without syntax errors, commands and options that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from stvsr import cli

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
MANIFESTS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("script", SCRIPTS, ids=["one-machine", "dask", "nodes"])
def test_shell_recipes_have_no_syntax_error(script):
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, capture_output=True)
    options = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in options)
    assert script.startswith("#!/bin/bash\n#SBATCH")  # Slurm stops reading options at the first command


def test_the_kubernetes_recipe_is_a_job_with_gpus_and_shared_memory():
    (manifest,) = MANIFESTS
    job = yaml.safe_load(manifest)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert any(mount["mountPath"] == "/dev/shm" for mount in container["volumeMounts"])


def commands() -> list[list[str]]:
    """Return every `stvsr` command of the page, without what the shell adds to it."""
    shell = [line.split(" || ")[0].removesuffix(" &") for script in SCRIPTS for line in script.splitlines()]
    found = [shlex.split(line) for line in shell if line.startswith("stvsr ")]
    found += [
        yaml.safe_load(manifest)["spec"]["template"]["spec"]["containers"][0]["command"] for manifest in MANIFESTS
    ]
    found += [shlex.split(line) for line in re.findall(r"`(stvsr [^`]+)`", TEXT)]
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_exist_with_these_options(words, monkeypatch):
    called = []
    monkeypatch.setattr("stvsr.cli._reproduce", lambda parsed: called.append(parsed) or 0)
    monkeypatch.setattr("stvsr.cli._check", lambda parsed: called.append(parsed) or 0)
    assert cli.main(words[1:]) == 0
    assert called
