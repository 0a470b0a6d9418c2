"""The benchmarks' runner: what is measured, how it is printed, and what the README gets."""

import json
import sys
import time

import pytest
import torch

from benchmarks import __main__ as runner
from benchmarks import generators, harness
from benchmarks.harness import Peak, Result, Settings, compare, count_flops, largest_difference
from stvsr.errors import InputError
from stvsr.models.basicvsr import BasicVSR, BasicVSRConfig
from stvsr.models.generators import build_generator

RESULT = Result(
    case="samples", what="a sample", plain="a plain loader", unit="sample", seconds=0.5, plain_seconds=2.0,
    processor=0.25, plain_processor=1.5, repeats=3, difference=1e-6, tolerance="largest difference", memory=10.0,
    plain_memory=20.0, share=0.5,
)  # fmt: skip


def work(seconds: float) -> torch.Tensor:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return torch.full((2,), seconds)


@pytest.mark.slow
def test_both_sides_are_timed_and_compared():
    settings = Settings(repeats=2, peak=Peak(gflops=1.0, gigabytes=1.0, threads=1))
    result = compare(
        "case", "what", plain=lambda: work(0.06), ours=lambda: work(0.02), plain_name="plain", unit="call", per=2,
        settings=settings, difference=largest_difference, flops=1e6,
    )  # fmt: skip
    assert result.processor == pytest.approx(0.01, rel=0.3) and result.plain_processor == pytest.approx(0.03, rel=0.3)
    assert 2 < result.processor_ratio < 4.5
    assert result.difference == pytest.approx(0.04 / 0.06)
    assert result.share == pytest.approx(1e6 / 0.02 / 1e9, rel=0.3)


@pytest.mark.slow
def test_memory_is_the_peak_above_the_start():
    made, megabytes = harness.with_memory(lambda: torch.ones(32, 2**20).sum())
    assert made == 32 * 2**20
    assert 100 < megabytes < 400  # 128 MB of floats


@pytest.mark.slow
def test_flops_are_those_of_the_convolution():
    convolution, image = torch.nn.Conv2d(3, 8, 3, padding=1), torch.rand(1, 3, 10, 12)
    assert count_flops(lambda: convolution(image)) == 2 * 3 * 8 * 9 * 10 * 12


@pytest.mark.slow
def test_plain_forward_passes_give_the_same_frames():
    torch.manual_seed(0)
    for preset in ("rbpn-tiny", "rbpn-small"):
        network = build_generator(preset).eval()
        count = network.config.num_frames - 1
        inputs = torch.rand(1, 3, 8, 9), torch.rand(1, count, 3, 8, 9), torch.rand(1, count, 2, 8, 9)
        with torch.inference_mode():
            assert torch.allclose(generators.plain_rbpn(network, *inputs), network(*inputs), atol=1e-5)
    network, clip = BasicVSR(BasicVSRConfig(features=4, blocks=1)).eval(), torch.rand(1, 3, 3, 16, 20)
    with torch.inference_mode():
        assert torch.allclose(generators.plain_basicvsr(network, clip), network(clip), atol=1e-4)


def test_a_line_and_a_row_tell_the_comparison(tmp_path):
    assert "s/sample; against a plain loader: 4.00x by wall clock, 6.00x by processor" in runner.line(RESULT)
    assert "memory 20 -> 10 MB; 50% of peak" in runner.line(RESULT)
    content = {
        "results": [RESULT.as_dict()], "note": "A busy machine.",
        "peak": {"gflops": 80.0, "gigabytes": 9.0, "threads": 1},
        "hardware": {"cores": 2, "cpu": "a processor", "gpu": None},
    }  # fmt: skip
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- speed: made by `make bench` -->\nold\n<!-- /speed -->\nafter\n")
    runner.update_readme(readme, json.loads(json.dumps(content)))
    text = readme.read_text()
    assert text.startswith("before\n<!-- speed: made by `make bench` -->\n|") and text.endswith(
        "<!-- /speed -->\nafter\n"
    )
    assert "| a sample, per sample | a plain loader | 2 | 0.5 | 4.00 | 6.00x |" in text
    assert "no GPU: GPU cases not measured" in text and "A busy machine." in text and "old" not in text
    readme.write_text("no block")
    with pytest.raises(InputError, match="has no block for speed"):
        runner.update_readme(readme, content)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["nothing"], "case 'nothing' is unknown: choose from samples"), (["--repeats", "0"], "repeats is 0: at least 1"),
     (["--readme", "README.md"], "--readme needs --json")],
)  # fmt: skip
def test_wrong_arguments_are_named(monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    assert runner.main() == 2
    assert words in capsys.readouterr().err
