"""The import packages lie in two folders and must both be there however they are installed."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("streamkit", "streamkit_jax")
IMPORT_BOTH = """
import streamkit, streamkit_jax
print(streamkit.__file__, streamkit_jax.__file__, sep="\\n")
print(streamkit.Loader.__name__, streamkit_jax.DeviceFeed.__name__)
"""


def run(*command, cwd, **env):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT),
        cwd=folder,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_every_module_of_both_packages_and_nothing_else(wheel):
    assert wheel.name.startswith("streamkit_loader-")
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if not n.endswith("/")}
    metadata = {n for n in names if n.split("/")[0].endswith(".dist-info")}
    sources = {
        f"{package}/{path.relative_to(folder / package).as_posix()}"
        for package, folder in zip(PACKAGES, (ROOT, ROOT / "adapters"), strict=True)
        for path in (folder / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names - metadata == sources
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert any(n.endswith("/licenses/LICENSE") for n in metadata)


def test_the_wheel_s_metadata_names_the_licence_and_the_extras(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    for extra in ("jax", "image", "text", "demo", "bench", "dev"):
        assert f"Provides-Extra: {extra}\n" in metadata


def test_both_packages_import_from_an_installed_wheel(wheel, tmp_path):
    target = tmp_path / "site"
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
        *("--target", target, wheel),
        cwd=tmp_path,
    )
    out = run(sys.executable, "-c", IMPORT_BOTH, cwd=tmp_path, PYTHONPATH=str(target))
    core, adapter, names = out.splitlines()
    assert core == str(target / "streamkit" / "__init__.py")
    assert adapter == str(target / "streamkit_jax" / "__init__.py")
    assert names == "Loader DeviceFeed"


def test_both_packages_import_from_an_editable_install(tmp_path):
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    # Dependencies come from this environment by path; its own .pth files, which make the checkout
    # importable here, are not read there.
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    missing = subprocess.run([python, "-c", "import streamkit"], cwd=tmp_path, capture_output=True)
    assert b"No module named 'streamkit'" in missing.stderr
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"),
        *("--no-index", "--no-build-isolation", "--editable", ROOT),
        cwd=tmp_path,
    )
    core, adapter, names = run(python, "-c", IMPORT_BOTH, cwd=tmp_path).splitlines()
    assert core == str(ROOT / "streamkit" / "__init__.py")
    assert adapter == str(ROOT / "adapters" / "streamkit_jax" / "__init__.py")
    assert names == "Loader DeviceFeed"
