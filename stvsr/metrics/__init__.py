"""Metrics one can cite: fidelity, perception, time, and the named protocols that say exactly what was measured.

Frames are uint8 (H, W, 3) RGB. A metric of one frame takes `(result, target)` and returns a float; a metric of change
over time takes two clips and returns one value per pair of successive frames.
"""

from stvsr.metrics.fidelity import psnr, ssim
from stvsr.metrics.niqe import niqe
from stvsr.metrics.perceptual import dists, lpips
from stvsr.metrics.temporal import flicker, profile, tlp, tof, warping_error

__all__ = ["dists", "flicker", "lpips", "niqe", "profile", "psnr", "ssim", "tlp", "tof", "warping_error"]
