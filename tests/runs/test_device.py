"""Rules that choose precision and compilation for a device."""

import pytest
import torch

from stvsr.runs import device
from stvsr.runs.device import Precision, choose_compile, choose_precision, has_bfloat16, has_compiler

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("flag", device.BFLOAT16_FLAGS)
def test_a_cpu_needs_instructions_for_bfloat16(monkeypatch, flag):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, flag: True}, raising=False)
    assert has_bfloat16(CPU)
    assert choose_precision(CPU) == "bfloat16"
    assert Precision("auto", CPU).enabled
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, flag: False}, raising=False)
    assert not has_bfloat16(CPU)
    assert choose_precision(CPU) == "full"
    assert not Precision("auto", CPU).enabled
    assert Precision("bfloat16", CPU).enabled


def test_a_gpu_must_have_bfloat16_without_emulation(monkeypatch):
    for native, chosen in ((True, "bfloat16"), (False, "full")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert choose_precision(GPU) == chosen


def test_compilation_must_pay_twice_over(monkeypatch):
    monkeypatch.setattr(device, "has_compiler", lambda: True)
    break_even = device.COMPILE_SECONDS / (device.COMPILE_GAIN * device.STEP_SECONDS)
    for kind in (CPU, GPU):
        assert not choose_compile(kind, 0)
        assert not choose_compile(kind, round(1.9 * break_even))
        assert choose_compile(kind, round(2.1 * break_even))
        assert choose_compile(kind, round(break_even), step_seconds=2.1 * device.STEP_SECONDS)
    assert not choose_compile(torch.device("meta"), 10**6)


def test_nothing_is_compiled_without_a_compiler(monkeypatch):
    monkeypatch.setattr(device, "has_compiler", lambda: False)
    assert not choose_compile(CPU, 10**6)


def test_the_compiler_is_the_named_one_or_a_usual_one(monkeypatch):
    found = {"g++": "/usr/bin/g++"}
    monkeypatch.setattr(device.shutil, "which", found.get)
    monkeypatch.delenv("CXX", raising=False)
    assert has_compiler()
    monkeypatch.setenv("CXX", "icpx")
    assert not has_compiler()
    found["icpx"] = "/opt/icpx"
    assert has_compiler()
