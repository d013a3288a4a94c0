# SPDX-License-Identifier: GPL-2.0-only
"""The module `force.c`, built for one kernel from that kernel's headers.

Rule of this file: what kbuild would do for a single file, with the headers where they were unpacked
and the compiler that is here. A kernel whose headers Debian no longer has goes without.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

from kvm_vfio.errors import Unsupported

PARAMETER = "/sys/module/kvm_vfio_force/parameters/force"
FILE = "kvm_vfio_force.ko"

_SYMBOLS = (
    *("module_layout", "fget", "fput", "sscanf"),
    *("param_ops_bool", "register_kretprobe", "unregister_kretprobe"),
)
_FLAGS = (
    *("-std=gnu11", "-fms-extensions", "-O2", "-w", "-fno-strict-aliasing", "-fshort-wchar"),
    *("-m64", "-mcmodel=kernel", "-mno-red-zone", "-fno-PIE", "-fno-stack-protector"),
    *("-mno-80387", "-mno-mmx", "-mno-sse", "-mno-sse2", "-mno-3dnow", "-mno-avx"),
    *("-fcf-protection=none", "-fno-jump-tables", "-fno-asynchronous-unwind-tables"),
    *("-D__KERNEL__", "-DMODULE", "-DCC_USING_FENTRY"),
    *('-DKBUILD_BASENAME="force"', '-DKBUILD_MODFILE="force"'),
    *('-DKBUILD_MODNAME="kvm_vfio_force"', "-D__KBUILD_MODNAME=kmod_kvm_vfio_force"),
)
# What modpost adds to every module: who it is, and which kernel it was made for.
_IDENTITY = """\
#define INCLUDE_VERMAGIC
#include <linux/module.h>
#include <linux/vermagic.h>
MODULE_INFO(vermagic, VERMAGIC_STRING);
MODULE_INFO(name, KBUILD_MODNAME);
MODULE_INFO(depends, "");
MODULE_INFO(retpoline, "Y");
struct module __this_module __attribute__((section(".gnu.linkonce.this_module"))) = {{
	.name = KBUILD_MODNAME, .init = init_module, .exit = cleanup_module, .arch = MODULE_ARCH_INIT,
}};
#ifdef CONFIG_MODVERSIONS
static const struct modversion_info versions[]
	__attribute__((used, section("__versions"))) = {{ {versions} }};
#endif
"""


def build(arch: Path, common: Path, scratch: Path) -> bytes:
    """The module. `arch` and `common` are Debian's two directories of headers. Unsupported."""
    source = files("kvm_vfio.guest").joinpath("force.c").read_text()
    versions = ", ".join(_versions((arch / "Module.symvers").read_text().splitlines()))
    flags = [*_FLAGS, *_includes(arch, common)]
    objects = []
    for name, text in (("force", source), ("mod", _IDENTITY.format(versions=versions))):
        object_ = scratch / f"{name}.o"
        _run(["gcc", *flags, "-x", "c", "-c", "-o", str(object_), "-"], text)
        objects.append(str(object_))
    module = scratch / FILE
    _run(["ld", "-r", "-m", "elf_x86_64", "--build-id=none", "-o", str(module), *objects])
    return module.read_bytes()


def _versions(symvers: Iterable[str]) -> Iterator[str]:
    """The checksum of every symbol that the module uses, as far as the kernel has checksums."""
    for line in symvers:
        checksum, symbol, *_ = line.split("\t")
        if symbol in _SYMBOLS and int(checksum, 16):
            yield f'{{ {checksum}, "{symbol}" }}'


def _includes(arch: Path, common: Path) -> Iterator[str]:
    yield from ("-nostdinc", "-isystem", _run(["gcc", "-print-file-name=include"]).strip())
    for kind in ("", "/uapi"):
        yield f"-I{common}/arch/x86/include{kind}"
        yield f"-I{arch}/arch/x86/include/generated{kind}"
        yield f"-I{common}/include{kind}"
        yield f"-I{arch}/include{'/generated' if kind else ''}{kind}"
    for name in ("compiler-version", "kconfig", "compiler_types"):
        header = common / "include" / "linux" / f"{name}.h"
        if header.exists():
            yield from ("-include", str(header))


def _run(command: list[str], text: str = "") -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unsupported(f"{command[0]} is not here; as root: apt-get install gcc") from None
    if done.returncode != 0:
        reason = next(iter(done.stderr.strip().splitlines()), f"status {done.returncode}")
        raise Unsupported(f"{command[0]} could not build the module force: {reason}")
    return done.stdout
