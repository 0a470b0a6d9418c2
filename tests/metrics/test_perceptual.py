"""LPIPS and DISTS: against the authors' packages and recorded scores."""

from pathlib import Path

import lpips as package
import numpy as np
import pytest
import torch
from metric_clips import blurred, recorded, texture
from torchvision.models.vgg import cfgs, make_layers

from stvsr import assets
from stvsr.errors import InputError
from stvsr.metrics import perceptual
from stvsr.metrics.perceptual import dists, lpips
from stvsr.models.lpips import LPIPS
from stvsr.runs.hashes import digest


def image(frame: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    frame = texture(64, 71, seed=3)
    return blurred(frame[None])[0], frame


@pytest.mark.slow
def test_recorded_lpips_is_reproduced():
    truth, bicubic, scores = recorded()
    values = [lpips(result, target) for result, target in zip(bicubic, truth, strict=True)]
    assert np.mean(values) == pytest.approx(scores["lpips_alex_full_frame"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("net", "name"), [("alex", "lpips"), ("vgg", "lpips_vgg")])
def test_lpips_from_features_is_that_of_the_package(net, name, pair):
    network = perceptual.network(name, "cpu").network
    with torch.inference_mode():
        whole = network(*map(image, pair), normalize=True).item()
    assert lpips(*pair, net=net) == pytest.approx(whole, abs=1e-6)


@pytest.mark.slow
def test_dists_is_that_of_the_published_package(monkeypatch, pair):
    from DISTS_pytorch import DISTS_pt

    backbone = torch.nn.Module()
    backbone.features = make_layers(cfgs["D"])
    convolutions = [layer for layer in backbone.features if isinstance(layer, torch.nn.Conv2d)]
    ours = perceptual.network("dists", "cpu")
    for layer, (weight, bias) in zip(convolutions, ours.convolutions, strict=True):
        layer.load_state_dict({"weight": weight, "bias": bias})
    monkeypatch.setattr(DISTS_pt.models, "vgg16", lambda pretrained: backbone)
    theirs = DISTS_pt.DISTS(load_weights=False)
    channel = torch.load(assets.locate("dists"), weights_only=True)
    theirs.alpha.data, theirs.beta.data = channel["alpha"], channel["beta"]
    assert dists(*pair) == pytest.approx(theirs(*map(image, pair)).item(), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("metric", [lpips, dists, lambda result, target: lpips(result, target, net="vgg")])
def test_equal_frames_are_at_distance_zero_and_blur_is_not(metric, pair):
    result, target = pair
    assert metric(target, target) == pytest.approx(0, abs=1e-6)
    assert metric(result, target) > 0.05


def test_a_batch_gives_the_features_of_single_frames(pair):
    network = perceptual.network("lpips", "cpu")
    together = network.features(list(pair))
    for frame, features in zip(pair, together, strict=True):
        for alone, batched in zip(network.features([frame])[0], features, strict=True):
            torch.testing.assert_close(alone, batched, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_loading_a_network_leaves_the_random_state_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    LPIPS("alex")
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_linear_layers_come_from_the_package_and_are_hashed():
    linear = Path(package.__file__).parent / "weights/v0.1/alex.pth"
    assert perceptual.weights("lpips") == {
        "alexnet": digest(assets.locate("alexnet")),
        "lpips-alex-0.1": digest(linear),
    }


def test_small_frames_and_unknown_nets_are_refused():
    small = np.zeros((31, 64, 3), np.uint8)
    with pytest.raises(InputError, match="at least 32x32"):
        lpips(small, small)
    with pytest.raises(InputError, match="net 'squeeze' is unknown"):
        lpips(small, small, net="squeeze")
    with pytest.raises(InputError, match="network 'fid' is unknown"):
        perceptual.network("fid")
