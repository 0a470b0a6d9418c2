"""Losses of the study, one function per equation, and those of its stronger arms.

Images are RGB in [0, 1], videos (B, T, 3, H, W). Adversarial losses take raw scores (logits) of shape (B, 1): sigmoid
and logarithm are one function, so that the loss stays finite when the discriminator saturates. Within a family every
function has the same signature, and an arm chooses one by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.errors import InputError

Range = tuple[float, float]


# Pixel: (output, truth) -> scalar


def pixel_loss(output: Tensor, truth: Tensor) -> Tensor:
    """Return the mean absolute difference of two images or videos: Equation (1), L_G = ||G_t - GT_t||_1."""
    return (output - truth).abs().mean()


def charbonnier_loss(output: Tensor, truth: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(difference^2 + epsilon^2), a smooth L1 (Lai et al., LapSRN, CVPR 2017)."""
    return ((output - truth) ** 2 + epsilon**2).sqrt().mean()


def squared_loss(output: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared difference: the fidelity term of iSeeBetter (Chadha et al., 2020)."""
    return ((output - truth) ** 2).mean()


PIXEL_LOSSES = {"l1": pixel_loss, "charbonnier": charbonnier_loss, "squared": squared_loss}


# Perceptual: deep features of images (B, 3, H, W)


def perceptual_loss(output: Tensor, truth: Tensor, features: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean squared difference of deep features: Equation (2), L_P = ||VGG(G_t) - VGG(GT_t)||_2.

    Images (B, 3, H, W); `features` maps them to (B, C, h, w), see `models.vgg.VGGFeatures`. The mean of squares is
    what the study's code computes for the norm in its report. No gradient is kept for the truth's features.
    """
    with torch.no_grad():
        expected = features(truth)
    return ((features(output) - expected) ** 2).mean()


def lpips_loss(output: Tensor, truth: Tensor, network: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the mean LPIPS of images (B, 3, H, W) as a loss (Zhang et al., CVPR 2018).

    `network` takes two batches in [-1, 1] and returns their distances, as the authors' package does. What is trained on
    it scores better by LPIPS than it looks, even when another backbone measures: compare DISTS as well.
    """
    return network(2 * output - 1, 2 * truth - 1).mean()


def temporal_lpips_loss(output: Tensor, truth: Tensor, network: Any) -> Tensor:
    """Return how far the perceived change from frame to frame is from the truth's, at each place: tLP as a loss.

    tLP (Chu et al., TecoGAN, SIGGRAPH 2020) takes the LPIPS of adjacent frames, of the output and of the truth, and
    compares these two numbers: flicker in one place makes up for stiffness in another. Here they are compared before
    they are averaged, in every layer. Videos (B, T, 3, H, W), T at least 2; `network`: LPIPS of the authors' package,
    as in `lpips_loss`.
    """
    with torch.no_grad():
        expected = _perceived_changes(truth, network)
    generated = _perceived_changes(output, network)
    return torch.stack([pixel_loss(*layers) for layers in zip(generated, expected, strict=True)]).sum()


def _perceived_changes(video: Tensor, network: Any) -> list[Tensor]:
    """Return, per layer of LPIPS, its map of distances between adjacent frames, (B (T - 1), 1, h, w)."""
    layers = network.net(network.scaling_layer(2 * video.flatten(0, 1) - 1))
    unit = [F.normalize(layer, dim=1, eps=1e-10).unflatten(0, video.shape[:2]) for layer in layers]
    return [linear(layer.diff(dim=1).square().flatten(0, 1)) for linear, layer in zip(network.lins, unit, strict=True)]


def total_variation(image: Tensor) -> Tensor:
    """Return twice the sum of the mean squared vertical and horizontal differences of `image` (B, C, H, W).

    Squares, means and the factor 2 are those of the SRGAN code that iSeeBetter builds on: its weight 2e-8 refers to
    them.
    """
    down = (image[..., 1:, :] - image[..., :-1, :]) ** 2
    right = (image[..., :, 1:] - image[..., :, :-1]) ** 2
    return 2 * (down.mean() + right.mean())


# Adversarial: labels


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Ranges from which the labels of a cross-entropy are drawn, one label per score; equal ends are a fixed label.

    A label is a probability. The 2019 code drew real labels from U(0.7, 1.2): above 1 the cross-entropy has no lower
    bound, since its second term -(1 - y) log(1 - D) turns negative, and PyTorch refuses it.

    Raises:
        InputError: a range leaves [0, 1] or is upside down.
    """

    real: Range = (1.0, 1.0)
    fake: Range = (0.0, 0.0)

    def __post_init__(self):
        for name in ("real", "fake"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise InputError(
                    f"{name} labels range from {low} to {high}: a cross-entropy needs 0 <= low <= high <= 1"
                )


HARD_LABELS = Labels()
SOFT_LABELS = Labels(real=(0.7, 1.0), fake=(0.0, 0.3))  # the published ranges, cut at 1


class SharedDraws(torch.Generator):
    """A seeded generator of which each process takes its share of the numbers that a single process would draw.

    index, processes: of this process, and how many there are.
    """

    index, processes = 0, 1


def draw_share(draw: Callable[[int], Tensor], count: int, generator: torch.Generator | None) -> Tensor:
    """Return this process's `count` rows of `draw(rows)`, which draws for all processes from `generator`."""
    index, processes = getattr(generator, "index", 0), getattr(generator, "processes", 1)
    return draw(count * processes)[index * count : (index + 1) * count]


def draw_labels(scores: Tensor, bounds: Range, generator: torch.Generator | None = None) -> Tensor:
    """Return labels U(low, high) of the shape of `scores`, drawn on the generator's device (the CPU without one)."""
    low, high = bounds
    if low == high:
        return torch.full_like(scores, low)
    device = generator.device if generator is not None else "cpu"
    uniform = draw_share(
        lambda rows: torch.rand((rows, *scores.shape[1:]), generator=generator, device=device), len(scores), generator
    )
    return (low + (high - low) * uniform).to(scores)


def _cross_entropy(scores: Tensor, bounds: Range, generator: torch.Generator | None) -> Tensor:
    scores = scores.float()
    return F.binary_cross_entropy_with_logits(scores, draw_labels(scores, bounds, generator))


# Adversarial, discriminator: (real_scores, fake_scores, labels, generator) -> scalar


def bce_discriminator_loss(
    real_scores: Tensor, fake_scores: Tensor, labels: Labels = HARD_LABELS, generator: torch.Generator | None = None
) -> Tensor:
    """Return -log D(real) - log(1 - D(fake)), D the sigmoid of the score, as a cross-entropy with the labels.

    Equation (3) on frames, -log(1 - D(G_t, Py(GT))) - log D(GT_t, Py(GT)), and Equation (4) on flows,
    -log(1 - D(F(G_{t+k}, G_t))) - log D(F(GT_{t+k}, GT_t)): one formula on two kinds of scores.

    Args:
        real_scores: raw scores (B, 1) of true samples.
        fake_scores: raw scores (B', 1) of generated samples.
        labels: ranges from which the labels are drawn.
        generator: seeds the draw.
    """
    return _cross_entropy(real_scores, labels.real, generator) + _cross_entropy(fake_scores, labels.fake, generator)


def hinge_discriminator_loss(
    real_scores: Tensor, fake_scores: Tensor, labels: Labels = HARD_LABELS, generator: torch.Generator | None = None
) -> Tensor:
    """Return the batch mean of max(0, 1 - real) + max(0, 1 + fake) (Lim and Ye, Geometric GAN, 2017).

    Arguments as in `bce_discriminator_loss`.

    Raises:
        InputError: labels are softened, which this loss does not have.
    """
    _refuse_labels(labels)
    return F.relu(1 - real_scores.float()).mean() + F.relu(1 + fake_scores.float()).mean()


DISCRIMINATOR_LOSSES = {"bce": bce_discriminator_loss, "hinge": hinge_discriminator_loss}


# Adversarial, generator: (fake_scores, labels, generator) -> scalar


def bce_generator_loss(
    fake_scores: Tensor, labels: Labels = HARD_LABELS, generator: torch.Generator | None = None
) -> Tensor:
    """Return -log D(fake), the form that does not saturate (Goodfellow et al., 2014): fakes get the real labels.

    Equation (3) on frames, -log D(G_t), and Equation (4) on flows, -log D(F(G_{t+k}, G_t)), where it also trains the
    flow network F. `fake_scores` (B, 1) raw; the rest as in `bce_discriminator_loss`.
    """
    return _cross_entropy(fake_scores, labels.real, generator)


def hinge_generator_loss(
    fake_scores: Tensor, labels: Labels = HARD_LABELS, generator: torch.Generator | None = None
) -> Tensor:
    """Return the negative mean score (Lim and Ye, 2017); arguments and errors as in `hinge_discriminator_loss`."""
    _refuse_labels(labels)
    return -fake_scores.float().mean()


GENERATOR_LOSSES = {"bce": bce_generator_loss, "hinge": hinge_generator_loss}


def _refuse_labels(labels: Labels) -> None:
    if labels != HARD_LABELS:
        raise InputError("the hinge loss has no labels to soften: use hard labels or the bce loss")


# Stabilisation and coherence


def r1_penalty(scores: Tensor, inputs: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the batch mean of |d score / d input|^2 (Mescheder, Geiger and Nowozin, ICML 2018), differentiable.

    `scores` (B, 1) raw, of real samples; `inputs` (B, ...), one or several, that require gradients and from which the
    scores were computed. The paper weighs it with gamma / 2. Batch norm would mix the samples' gradients: use another.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    gradients = torch.autograd.grad(scores.float().sum(), inputs, create_graph=True)
    squares = [gradient.float().flatten(1).pow(2).sum(1) for gradient in gradients]  # per input (B,)
    return sum(squares[1:], squares[0]).mean()


def feature_matching_loss(fake_features: Sequence[Tensor], real_features: Sequence[Tensor]) -> Tensor:
    """Return the mean absolute difference of a discriminator's activations, averaged over its layers.

    Layer by layer equal shapes (Wang et al., pix2pixHD, CVPR 2018). The real side is a fixed goal: it gets no gradient.
    """
    pairs = zip(fake_features, real_features, strict=True)
    return torch.stack([(fake - real.detach()).abs().mean() for fake, real in pairs]).mean()


def ping_pong_loss(outputs: Tensor, outputs_reversed: Tensor) -> Tensor:
    """Return the mean squared difference of the same frames, made once forwards and once backwards in time.

    An adaptation of TecoGAN's ping-pong loss (Chu et al., SIGGRAPH 2020), which runs a recurrent generator through a
    clip and back, so that details which drift with time differ between the two passes. A window generator carries
    nothing from frame to frame, but RBPN reads the neighbours of its window one after the other: here the second pass
    reads them, and their flows, in reverse. What remains is the part of the output that depends on time's direction.
    `outputs`, `outputs_reversed`: (B, 3, H, W) or (B, T, 3, H, W), frame t at the same place in both.
    """
    return ((outputs - outputs_reversed) ** 2).mean()
