"""VGG features against torchvision's networks with the same weights."""

import pytest
import torch
import torchvision
from torchvision.transforms.functional import normalize

from stvsr import losses
from stvsr.errors import InputError
from stvsr.models.vgg import VGGFeatures, layer_names


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def checkpoint19(tmp_path_factory):
    """Return a VGG19 of random weights without its dense layers, and the file that holds it."""
    torch.manual_seed(0)
    network = torchvision.models.VGG(
        torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"]), num_classes=1
    )
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save({name: value for name, value in network.state_dict().items() if name.startswith("features.")}, path)
    return network.features, path


def reference(features, images, count):
    return features[:count](normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def torchvision_vgg16():
    """Return torchvision's VGG16 convolutions filled by place, not by name, from the shipped weights."""
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    features.load_state_dict(dict(zip(features.state_dict(), VGGFeatures("pool5").state_dict().values(), strict=True)))
    return features


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "count"), [("relu1_1", 2), ("relu3_1", 12), ("relu4_3", 23), ("pool5", 31)])
def test_vgg16_equals_torchvisions_layers(images, layer, count):
    with torch.no_grad():
        torch.testing.assert_close(VGGFeatures(layer)(images), reference(torchvision_vgg16(), images, count))


def test_shipped_weights_are_those_of_torchvisions_vgg16():
    """The first numbers of torchvision's vgg16-397923af.pth, and the orientation of its kernels."""
    first = VGGFeatures("conv1_1").layers.conv1_1
    torch.testing.assert_close(first.bias[:4], torch.tensor([0.4034, 0.3778, 0.4644, -0.3228]), atol=1e-4, rtol=0)
    torch.testing.assert_close(first.weight[0, 0, 0, :2], torch.tensor([-0.5537, 0.1427]), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "count"), [("relu3_1", 12), ("conv5_4", 35), ("pool5", 37)])
def test_vgg19_reads_torchvisions_checkpoint(images, checkpoint19, layer, count):
    features, path = checkpoint19
    with torch.no_grad():
        torch.testing.assert_close(VGGFeatures(layer, "vgg19", path)(images), reference(features, images, count))


def test_layer_names_stand_where_torchvision_has_them():
    for network, letter in (("vgg16", "D"), ("vgg19", "E")):
        modules = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs[letter])
        kinds = {"Conv2d": "conv", "ReLU": "relu", "MaxPool2d": "pool"}
        assert [kinds[type(module).__name__] for module in modules] == [name[:4] for name in layer_names(network)]


def test_weights_are_frozen_but_gradients_pass(images):
    features = VGGFeatures("relu2_1")
    output = images.clone().requires_grad_()
    losses.perceptual_loss(output, images.flip(3), features).backward()
    assert output.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in features.parameters())
    assert all(p.grad is None for p in features.parameters())


def test_features_tell_blur_from_a_small_shift_in_brightness(images):
    features = VGGFeatures("relu3_1")
    smooth = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    error = (smooth - images).abs().mean()
    assert losses.perceptual_loss(smooth, images, features) > 5 * losses.perceptual_loss(
        images + error, images, features
    )


@pytest.mark.slow
def test_mistakes_are_named(tmp_path, checkpoint19):
    with pytest.raises(InputError, match="vgg11"):
        VGGFeatures(network="vgg11")
    with pytest.raises(InputError, match="relu3_4"):
        VGGFeatures("relu3_4")
    with pytest.raises(InputError, match="weights=PATH"):
        VGGFeatures(network="vgg19")
    with pytest.raises(InputError, match="does not exist"):
        VGGFeatures(network="vgg19", weights=tmp_path / "none.pth")
    with pytest.raises(InputError, match="conv4_1"):
        VGGFeatures("relu4_1", "vgg16", checkpoint19[1])
