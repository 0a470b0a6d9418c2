"""Losses of the study, one function per equation, and those of its stronger arms.

Images are RGB in [0, 1]. Adversarial losses take raw scores (logits, any real number, (B, 1)): sigmoid and logarithm
are joined in one numerically safe function, so a discriminator that is sure of itself gives a large loss, never an
infinite one. Within a family every function has the same signature, and an arm chooses one by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.errors import InputError

Range = tuple[float, float]


# Fidelity: (output, target) -> scalar


def pixel_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of two equally shaped images or videos: Equation (1), L_G = ||G_t - GT_t||_1."""
    return (output - target).abs().mean()


def charbonnier_loss(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(difference^2 + epsilon^2), a smooth L1 (Lai et al., LapSRN, CVPR 2017)."""
    return ((output - target) ** 2 + epsilon**2).sqrt().mean()


def squared_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference: the fidelity term of iSeeBetter (Chadha et al., 2020)."""
    return ((output - target) ** 2).mean()


def perceptual_loss(output: Tensor, target: Tensor, features: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean squared difference of deep features: Equation (2), L_P = ||VGG(G_t) - VGG(GT_t)||_2.

    Images (B, 3, H, W); `features` maps them to (B, C, h, w), see `models.vgg.VGGFeatures`. The mean of squares is
    what the study's code computes for the norm in its report. No gradient is kept for the target's features.
    """
    with torch.no_grad():
        wanted = features(target)
    return ((features(output) - wanted) ** 2).mean()


def lpips_loss(output: Tensor, target: Tensor, network: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the mean LPIPS of images (B, 3, H, W) as a loss (Zhang et al., CVPR 2018): many layers, weighted as people see.

    `network` takes two batches in [-1, 1] and returns their distances, as the authors' package does. What is trained on
    it scores better by LPIPS than it looks, even when another backbone measures: compare DISTS as well.
    """
    return network(2 * output - 1, 2 * target - 1).mean()


def temporal_lpips_loss(output: Tensor, target: Tensor, network: nn.Module) -> Tensor:
    """Return how far the perceived change from frame to frame is from the truth's, at each place: tLP as a loss.

    tLP (Chu et al., TecoGAN, SIGGRAPH 2020) takes the LPIPS of adjacent frames, of the output and of the truth, and
    compares these two numbers: flicker in one place makes up for stiffness in another. Here they are compared before
    they are averaged, in every layer. Videos (B, T, 3, H, W), T at least 2; `network`: LPIPS of the authors' package,
    as in `lpips_loss`.
    """
    with torch.no_grad():
        wanted = _perceived_changes(target, network)
    made = _perceived_changes(output, network)
    return torch.stack([pixel_loss(*layers) for layers in zip(made, wanted, strict=True)]).sum()


def _perceived_changes(video: Tensor, network: nn.Module) -> list[Tensor]:
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


def draw_labels(scores: Tensor, bounds: Range, generator: torch.Generator | None = None) -> Tensor:
    """Return labels U(low, high) of the shape of `scores`, drawn on the generator's device (the CPU without one)."""
    low, high = bounds
    if low == high:
        return torch.full_like(scores, low)
    device = generator.device if generator is not None else "cpu"
    uniform = torch.rand(scores.shape, generator=generator, device=device)
    return (low + (high - low) * uniform).to(scores)


def _cross_entropy(scores: Tensor, bounds: Range, generator: torch.Generator | None) -> Tensor:
    scores = scores.float()
    return F.binary_cross_entropy_with_logits(scores, draw_labels(scores, bounds, generator))


def _refuse_labels(labels: Labels) -> None:
    if labels != HARD_LABELS:
        raise InputError("the hinge loss has no labels to soften: use hard labels or the bce or relativistic loss")


# Adversarial, discriminator's side: (real_scores, fake_scores, labels, generator) -> scalar


def bce_discriminator_loss(
    real_scores: Tensor, fake_scores: Tensor, labels: Labels = HARD_LABELS, generator: torch.Generator | None = None
) -> Tensor:
    """Return -log D(real) - log(1 - D(fake)), D the sigmoid of the score, by its cross-entropy with the labels."""
    return _cross_entropy(real_scores, labels.real, generator) + _cross_entropy(fake_scores, labels.fake, generator)


def hinge_discriminator_loss(
    real_scores: Tensor, fake_scores: Tensor, labels: Labels = HARD_LABELS, generator: torch.Generator | None = None
) -> Tensor:
    """Return max(0, 1 - real) + max(0, 1 + fake), meaned over the batch (Lim and Ye, Geometric GAN, 2017)."""
    _refuse_labels(labels)
    return F.relu(1 - real_scores.float()).mean() + F.relu(1 + fake_scores.float()).mean()


def relativistic_discriminator_loss(
    real_scores: Tensor, fake_scores: Tensor, labels: Labels = HARD_LABELS, generator: torch.Generator | None = None
) -> Tensor:
    """Return the cross-entropy of "more real than the mean fake" (relativistic average, Jolicoeur-Martineau, 2018).

    Means are those of the batch of this process.
    """
    real_scores, fake_scores = real_scores.float(), fake_scores.float()
    return bce_discriminator_loss(real_scores - fake_scores.mean(), fake_scores - real_scores.mean(), labels, generator)


# Adversarial, generator's side: (fake_scores, real_scores, labels, generator) -> scalar


def bce_generator_loss(
    fake_scores: Tensor,
    real_scores: Tensor | None = None,
    labels: Labels = HARD_LABELS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return -log D(fake), the loss that does not saturate (Goodfellow et al., 2014); `real_scores` are not read."""
    return _cross_entropy(fake_scores, labels.real, generator)


def hinge_generator_loss(
    fake_scores: Tensor,
    real_scores: Tensor | None = None,
    labels: Labels = HARD_LABELS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the negative mean score (Lim and Ye, 2017); `real_scores` are not read."""
    _refuse_labels(labels)
    return -fake_scores.float().mean()


def relativistic_generator_loss(
    fake_scores: Tensor,
    real_scores: Tensor | None = None,
    labels: Labels = HARD_LABELS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the relativistic average loss with the roles exchanged: fakes shall look more real than the mean real.

    Raises:
        InputError: `real_scores` are not given.
    """
    if real_scores is None:
        raise InputError("the relativistic loss of the generator compares with real scores: pass real_scores")
    return relativistic_discriminator_loss(fake_scores, real_scores, labels, generator)


DISCRIMINATOR_LOSSES = {
    "bce": bce_discriminator_loss,
    "hinge": hinge_discriminator_loss,
    "relativistic": relativistic_discriminator_loss,
}


GENERATOR_LOSSES = {
    "bce": bce_generator_loss,
    "hinge": hinge_generator_loss,
    "relativistic": relativistic_generator_loss,
}


def _choose(family: dict[str, Callable], kind: str) -> Callable:
    if kind not in family:
        raise InputError(f"adversarial loss {kind!r} is unknown: choose from {', '.join(family)}")
    return family[kind]


def discriminator_loss(
    real_scores: Tensor,
    fake_scores: Tensor,
    *,
    kind: str = "bce",
    labels: Labels = HARD_LABELS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return what the discriminator minimises, a scalar, from raw scores (B, 1) of real and of fake samples.

    `kind`: bce, hinge or relativistic. `labels` soften bce and relativistic; `generator` seeds their draw.

    Raises:
        InputError: `kind` is unknown, or labels are softened for hinge.
    """
    return _choose(DISCRIMINATOR_LOSSES, kind)(real_scores, fake_scores, labels, generator)


def generator_loss(
    fake_scores: Tensor,
    real_scores: Tensor | None = None,
    *,
    kind: str = "bce",
    labels: Labels = HARD_LABELS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return what the generator minimises, a scalar, from raw scores (B, 1) of its outputs; fakes get the real labels.

    `real_scores` are needed by the relativistic kind only. The rest as in `discriminator_loss`.

    Raises:
        InputError: `kind` is unknown, labels are softened for hinge, or real scores are missing.
    """
    return _choose(GENERATOR_LOSSES, kind)(fake_scores, real_scores, labels, generator)


def frame_discrimination_loss(
    real_scores: Tensor,
    fake_scores: Tensor,
    *,
    kind: str = "bce",
    labels: Labels = HARD_LABELS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return D's loss on frames: Equation (3), -log(1 - D(G_t, Py(GT))) - log D(GT_t, Py(GT)).

    Scores are those of `forward`, raw; the rest as in `discriminator_loss`, whose defaults give the equation.
    """
    return discriminator_loss(real_scores, fake_scores, kind=kind, labels=labels, generator=generator)


def frame_adversarial_loss(
    fake_scores: Tensor,
    real_scores: Tensor | None = None,
    *,
    kind: str = "bce",
    labels: Labels = HARD_LABELS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return G's loss on frames: Equation (3), -log D(G_t); the rest as in `generator_loss`."""
    return generator_loss(fake_scores, real_scores, kind=kind, labels=labels, generator=generator)


def flow_discrimination_loss(
    real_scores: Tensor,
    fake_scores: Tensor,
    *,
    kind: str = "bce",
    labels: Labels = HARD_LABELS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return D's loss on flows: Equation (4), -log(1 - D(F(G_{t+k}, G_t))) - log D(F(GT_{t+k}, GT_t)).

    Scores are those of `forward_flow`, raw; the rest as in `discriminator_loss`.
    """
    return discriminator_loss(real_scores, fake_scores, kind=kind, labels=labels, generator=generator)


def flow_adversarial_loss(
    fake_scores: Tensor,
    real_scores: Tensor | None = None,
    *,
    kind: str = "bce",
    labels: Labels = HARD_LABELS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return G's loss on flows: Equation (4), -log D(F(G_{t+k}, G_t)); it trains the flow network F as well."""
    return generator_loss(fake_scores, real_scores, kind=kind, labels=labels, generator=generator)


# Steadying and coherence


def r1_penalty(scores: Tensor, inputs: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the mean over the batch of |d score / d input|^2 (Mescheder, Geiger and Nowozin, ICML 2018), differentiable.

    `scores` (B, 1) raw, of real samples; `inputs` (B, ...), one or several, that require gradients and from which the
    scores were computed. The paper weighs it with gamma / 2. Batch norm would mix the samples' gradients: use another.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    gradients = torch.autograd.grad(scores.float().sum(), inputs, create_graph=True)
    return sum(gradient.float().flatten(1).pow(2).sum(1) for gradient in gradients).mean()


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
