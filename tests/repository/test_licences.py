"""Licences and pins of the installed packages."""

from importlib.metadata import PathDistribution

import licences
import pytest


def package(folder, name, version, metadata, files=("code.py",)):
    """Return an installed package of these metadata."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in (*files, f"{info.name}/METADATA")))
    return PathDistribution(info)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: MIT\nLicense: long\n", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License\n", "BSD License"),
        ("License: Apache 2.0\n", "Apache 2.0"),
        ("License: UNKNOWN\n", ""),
        ("Classifier: License :: OSI Approved\n", ""),
        ("", ""),
    ],
)
def test_a_licence_is_found_where_packages_write_it(tmp_path, metadata, expected):
    assert licences.licence(package(tmp_path, "a", "1", metadata)) == expected


def test_what_has_no_pin_another_version_or_no_licence_is_a_fault(tmp_path):
    pinned = licences.pins(
        "Good_One==1.0 \\\n    --hash=sha256:0\nold==1.0 ; python_version < '3.12'\nbare==3\nmeta==1\n"
    )
    assert pinned == {"good-one": {"1.0"}, "old": {"1.0"}, "bare": {"3"}, "meta": {"1"}}
    packages = [
        package(tmp_path, "good.one", "1.0+cpu", "License: MIT\n"),
        package(tmp_path, "old", "2.0", "License: MIT\n"),
        package(tmp_path, "bare", "3", ""),
        package(tmp_path, "meta", "1", "", files=()),
        package(tmp_path, "extra", "4", "License: MIT\n"),
        package(tmp_path, "stvsr", "0.1", ""),
    ]
    rows, faults = licences.table(packages, pinned)
    assert len(rows) == 5
    assert faults == [
        "bare names no licence in its metadata",
        "extra 4 is not pinned (pins: none)",
        "old 2.0 is not pinned (pins: 1.0)",
    ]


def test_every_line_of_the_requirements_is_a_pin():
    texts = [(licences.ROOT / name).read_text() for name in ("requirements.txt", "assets.txt")]
    lines = [line for text in texts for line in text.splitlines() if line and line[0] not in " #"]
    assert len(licences.pins(*texts)) > 100
    assert all("==" in line for line in lines)
