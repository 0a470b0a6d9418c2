"""Parameters with which each notebook of the series runs in seconds."""

from pathlib import Path

TRAINING = {
    "generator": "rbpn-tiny",
    "initial_weights": "",
    "patch": 16,
    "batch": 1,
    "data": ["samples:carphone"],
    "split": "all",
    "validation": ["samples:bikes@validation"],
}
SMALL = {
    "00_sanity_check": {"steps": 60, "patch": 16},
    "01_data_augmentation": {"data": ["samples:carphone"], "patch": 16, "num_frames": 5, "draws": 2},
    "02_rbpn_pretraining": {**TRAINING, "steps": 3, "look": 16, "log_every": 1, "validate_every": 2},
    "03_adversarial_finetuning": {
        **TRAINING, "arm": "triplet-d", "steps": 2, "learn": 2, "discriminator_width": 4, "validate_every": 2,
        "crops_every": 1,
    },
    "04_ablation_evaluation": {"data": ["samples:carphone"], "split": "all", "clips": ["carphone"], "frames": 6},
    "05_upscale_your_video": {"model": "rbpn-small", "duration": 0.2},
    "06_motion": {"data": "samples:carphone", "clip": "carphone", "reach": 1},
    "07_metrics": {"frames": 2},
}  # fmt: skip


def small_parameters(name: str, folder: Path) -> dict[str, object]:
    """Return a notebook's small parameters; `folder` receives the weights of a tiny generator where one is compared."""
    if name != "04_ablation_evaluation":
        return dict(SMALL[name])
    from stvsr.models.generators import build_generator, save_generator

    weights = Path(folder) / "tiny.safetensors"
    save_generator(weights, build_generator("rbpn-tiny"))
    return SMALL[name] | {"generators": [f"tiny={weights}", "rbpn-small"], "control": "tiny"}
