# SPDX-License-Identifier: GPL-2.0-only
"""Linux's tools/testing/selftests/vfio, from Debian's source package, built static and unmodified.

Rule of this file: everything happens in the user's cache. apt fetches the package as it fetches the
kernels of guests; nothing is installed, and nothing of it comes into the repository.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest.packages import SUITES, Apt, cache_directory

LINUX = "7.3"
PACKAGE = f"linux-source-{LINUX}"
TESTS = (
    "vfio_pci_device_test",
    "vfio_dma_mapping_test",
    "vfio_dma_mapping_mmio_test",
    "vfio_pci_device_init_perf_test",
)

_TYPE1 = Path(__file__).with_name("type1.c")
_SELFTESTS = "tools/testing/selftests"
# What the tests are built from: their own directory, what it links to, and the exported headers.
_PARTS = (
    "Kbuild",
    "Makefile",
    "arch/x86",
    "drivers/dma",
    "drivers/net/ethernet/intel/igb",
    "include",
    "scripts",
    f"{_SELFTESTS}/kselftest.h",
    f"{_SELFTESTS}/kselftest_harness.h",
    f"{_SELFTESTS}/lib.mk",
    f"{_SELFTESTS}/vfio",
    "tools/arch",
    "tools/include",
    "tools/scripts",
    "usr/include",
)
_NEEDED = {"make": "make", "gcc": "gcc libc6-dev"}
_LIBUUID = ("/usr/lib/x86_64-linux-gnu/libuuid.a", "uuid-dev")


def built() -> Path:
    """The directory with the programs, made if it is not there. Unsupported, with the remedy."""
    directory = cache_directory() / "selftests" / PACKAGE
    if not directory.exists():
        _require_tools()
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".build-") as name:
            scratch = Path(name)
            source = _source(scratch)
            (scratch / "out").mkdir()
            _make(source, scratch / "out")
            kept = scratch / "kept"
            kept.mkdir()
            for test in TESTS:
                shutil.move(scratch / "out" / test, kept / test)
            kept.rename(directory)
    return directory


def _require_tools() -> None:
    missing = [apt for program, apt in _NEEDED.items() if shutil.which(program) is None]
    missing += [_LIBUUID[1]] if not Path(_LIBUUID[0]).exists() else []
    if missing:
        raise Unsupported(
            f"the kernel's tests cannot be built; as root: apt-get install {' '.join(missing)}"
        )


def _source(scratch: Path) -> Path:
    """Fetch the package and unpack what is needed of the source in it."""
    apt = Apt(scratch / "apt", SUITES[LINUX])
    apt.update()
    (deb,) = apt.download([PACKAGE])
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking:
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as package:
            for member in package:
                if Path(member.name).name == f"{PACKAGE}.tar.xz":
                    packed = package.extractfile(member)
                    if packed is None:
                        break
                    with (
                        lzma.open(packed) as plain,
                        tarfile.open(fileobj=plain, mode="r|") as tree,
                    ):
                        tree.extractall(scratch, members=_wanted(tree), filter="data")
                    break
        unpacking.kill()
    if not (scratch / PACKAGE).is_dir():
        raise Unsupported(f"{deb.name} has no {PACKAGE}.tar.xz in it")
    return scratch / PACKAGE


def _wanted(tree: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    parts = tuple(f"{PACKAGE}/{part}" for part in _PARTS)
    for member in tree:
        if member.name.startswith(parts):
            yield member


def _make(source: Path, out: Path) -> None:
    type1 = out / "type1.o"
    _run(["gcc", "-c", "-o", str(type1), str(_TYPE1)], source)
    jobs = f"-j{os.cpu_count() or 1}"
    _run(["make", "-s", jobs, "headers"], source)
    variables = [
        f"OUTPUT={out}",
        f"KHDR_INCLUDES=-isystem {source}/usr/include",
        "LDFLAGS=-static",
        f"LDLIBS={type1} -luuid",
    ]
    _run(["make", "-s", jobs, "-C", f"{_SELFTESTS}/vfio", *variables], source)


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Unsupported(f"{' '.join(command[:4])} failed: {said[-1] if said else 'silently'}")
