# SPDX-License-Identifier: GPL-2.0-only
"""Builds KVM selftests from Debian's linux-source-6.1, unmodified and static, into a cache.

From the repository's root::

    python -m tools.kvm_selftests.build

prints where each program is. Nothing of the source is kept, neither here nor in the cache.

Rule of this file: apt is used as `kvm_vfio.guest.packages` uses it, in a directory of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest.packages import SUITES, Apt, cache_directory

PACKAGE = "linux-source-6.1"
PROGRAMS = (
    "kvm_create_max_vcpus",
    "x86_64/get_msr_index_features",
    "kvm_binary_stats_test",
    "x86_64/max_vcpuid_cap_test",
)
"""Those that need no guest code."""

PARTS = {"set_memory_region_test": ("test_add_max_memory_regions",)}
"""Of one whose other functions run guest code: those of its functions that do not.

The source is unmodified here too. A file of ours includes it, and has a main of its own.
"""

_KVM = "tools/testing/selftests/kvm"
_NEEDED = (
    _KVM,
    "tools/testing/selftests/rseq",
    "tools/testing/selftests/kselftest.h",
    "tools/testing/selftests/kselftest_harness.h",
    "tools/include",
    "tools/arch/x86/include",
    "tools/lib/rbtree.c",
)
_INCLUDE = ("../../../include", "../../../arch/x86/include", "include", "..", "../rseq")
_COMPILE = (
    *("gcc", "-O2", "-std=gnu99", "-U_FORTIFY_SOURCE", "-static", "-w", "-no-pie", "-fno-PIE"),
    "-fno-stack-protector",
)
_TOOLS = {"gcc": "gcc libc6-dev", "xz": "xz-utils", "dpkg-deb": "dpkg", "tar": "tar"}


def programs() -> dict[str, Path]:
    """The programs by name, built when they are not in the cache. Unsupported."""
    into = cache_directory() / "kvm-selftests" / PACKAGE
    names = {program: into / Path(program).name for program in (*PROGRAMS, *PARTS)}
    if not all(path.exists() for path in names.values()):
        _build(into)
    return {path.name: path for path in names.values()}


def _build(into: Path) -> None:
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            raise Unsupported(f"{tool} is not here; as root: apt-get install {package}")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        kvm = _source(Path(scratch)) / _KVM
        override = Path(scratch, "override.o")
        flags = [*_COMPILE, *(f"-I{directory}" for directory in (*_INCLUDE, "include/x86_64"))]
        # The library's own memcpy must not be made into a call of memcpy.
        freestanding = ["-ffreestanding", "-c", "lib/string_override.c", "-o", str(override)]
        _run([*flags, *freestanding], kvm)
        sources = [*kvm.glob("lib/*.c"), *kvm.glob("lib/x86_64/*.[cS]")]
        library = [str(path) for path in sources if path.name != "string_override.c"]
        rest = [str(override), "-lpthread"]
        for program in PROGRAMS:
            made = Path(scratch, Path(program).name)
            directory = f"-I{Path(program).parent}"
            files = [f"{program}.c", *library, *rest]
            _run([*flags, directory, "-o", str(made), *files], kvm)
            os.replace(made, into / made.name)
        for program, functions in PARTS.items():
            made, source = Path(scratch, program), Path(scratch, "part.c")
            source.write_text(_part(program, functions))
            _run([*flags, "-I.", "-o", str(made), str(source), *library, *rest], kvm)
            os.replace(made, into / made.name)


def _part(program: str, functions: Iterable[str]) -> str:
    """A program that calls only these functions of another."""
    calls = "".join(f"\t{function}();\n" for function in functions)
    whole = f'#define main whole_main\n#include "{program}.c"\n#undef main\n'
    return f"{whole}\nint main(void)\n{{\n{calls}\treturn 0;\n}}\n"


def _source(scratch: Path) -> Path:
    """The part of the kernel's source that is needed."""
    root = scratch / "apt"
    root.mkdir()
    apt = Apt(root, SUITES["6.1"])
    apt.update()
    (deb,) = apt.download([PACKAGE])
    archive = scratch / "source.tar.xz"
    with archive.open("wb") as file:
        member = f"./usr/src/{PACKAGE}.tar.xz"
        unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-xO", member], stdin=unpacked.stdout, stdout=file, check=True)
        unpacked.wait()
    deb.unlink()
    wanted = [f"{PACKAGE}/{path}" for path in _NEEDED]
    _run(["tar", "-xJf", str(archive), *wanted], scratch)
    return scratch / PACKAGE


def _run(command: list[str], where: Path) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unsupported(f"{command[0]} failed: {done.stderr.strip().splitlines()[:1]}")


if __name__ == "__main__":
    for name, path in programs().items():
        print(name, path)
