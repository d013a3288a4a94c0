# SPDX-License-Identifier: GPL-2.0-only
"""Records what a real kernel's KVM says of itself, as the data that the model answers from.

From the repository's root, for kernels that `kvm-vfio guest prepare` has fetched::

    python -m tools.record_kvm 6.1 6.12

writes `src/kvm_vfio/profiles/recorded/linux_6_1.py` and `linux_6_12.py`, whose texts
`kvm_vfio.profiles.recording` reads. The kernel runs under QEMU on an AMD processor (`-cpu max`).

Rule of this file: it asks and writes down, and knows of no answer. What differs from boot to boot
(a clock) is not written down; the model has to know it by name.
"""

from __future__ import annotations

import argparse
import errno
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kvm_vfio.guest import process
from kvm_vfio.guest.batch import Answer, Batch
from kvm_vfio.guest.packages import kernel
from kvm_vfio.guest.process import GuestSyscalls, boot
from kvm_vfio.uapi import kvm, kvm_vm
from kvm_vfio.uapi import kvm_x86 as x86
from kvm_vfio.uapi.fcntl import O_RDWR
from kvm_vfio.uapi.layout import Layout, Request

_INTO = Path(__file__).parents[1] / "src" / "kvm_vfio" / "profiles" / "recorded"
_CAPABILITIES = 320
_MOST_CPUID = 256
_MOST_MSRS = 1000
_ROOM = 16384

# Registers that no list names and that programs read or write all the same: x86's own numbers.
_MORE_MSRS = (
    *(0x1B, 0xC1, 0xE1, 0xE7, 0xE8, 0x122, 0x179, 0x186, 0x198, 0x199, 0x19A, 0x19C, 0x1C4, 0x1C5),
    *range(0x1D9, 0x1DF),
    *range(0x200, 0x211),
    *(0x280, 0x281, 0x29F, 0x250, 0x258, 0x259, *range(0x268, 0x270), 0x2FF),
    *range(0x400, 0x408),
    *range(0x47C, 0x480),
    *(0x480, 0x4E0, 0x560, 0x570, 0x60D, 0x6A0, 0x6A2, 0x6A4, 0x802, 0x808, 0x80E, 0x830, 0xDA0),
    *(0x17, 0x2A, 0x2C, 0x33, 0x79, 0xCD, 0xFE, 0x119, 0x12345, 0x40000118),
    *(0xC0000080, 0xC0000100, 0xC0000101, 0xC00000E7, 0xC0010010, 0xC001001B, 0xC001001F),
    *(0xC0010030, 0xC0010055, 0xC0010058, 0xC0010112, 0xC0010113, 0xC0010114, 0xC0010115),
    *(0xC0010130, 0xC0010131, 0xC0010140, 0xC0010141, 0xC0011020, 0xC0011022, 0xC0011023),
    *(0xC001102A, 0xC001102C, 0xC0011029),
    *range(0x400000B1, 0x400000B8),
)
_CLOCKS = {0x10, 0x3B, 0x40000010, 0x40000020, 0x40000022}

_FRESH: tuple[tuple[str, Request, Layout[Any]], ...] = (
    ("regs", x86.KVM_GET_REGS, x86.KVM_REGS),
    ("sregs", x86.KVM_GET_SREGS, x86.KVM_SREGS),
    ("fpu", x86.KVM_GET_FPU, x86.KVM_FPU),
    ("xsave", x86.KVM_GET_XSAVE, x86.KVM_XSAVE),
    ("xcrs", x86.KVM_GET_XCRS, x86.KVM_XCRS),
    ("debugregs", x86.KVM_GET_DEBUGREGS, x86.KVM_DEBUGREGS),
    ("vcpu_events", x86.KVM_GET_VCPU_EVENTS, x86.KVM_VCPU_EVENTS),
    ("mp_state", x86.KVM_GET_MP_STATE, x86.KVM_MP_STATE),
)


class Recorder:
    """The questions, on one kernel."""

    def __init__(self, linux: GuestSyscalls) -> None:
        self.linux = linux
        self.memory = linux.buffer(_ROOM)
        self.system = linux.open("/dev/kvm", O_RDWR)
        self.vm = self._vm()

    def _vm(self) -> int:
        return self.linux.ioctl(self.system, kvm.KVM_CREATE_VM)

    def _vcpu(self, vm: int, number: int = 0) -> int:
        return self.linux.ioctl(vm, kvm.KVM_CREATE_VCPU, number)

    def ask(self, fd: int, request: int, data: bytes = b"", size: int = 0) -> bytes:
        """What a request leaves in memory that held `data`; nothing when it fails."""
        self.memory.write(data + bytes(size - len(data)))
        try:
            self.linux.ioctl(fd, request, self.memory)
        except OSError as error:
            print(f"  {request!r}: {errno.errorcode[error.errno or 0]}", file=sys.stderr)
            return b""
        return self.memory.read(size)

    # -- the system --------------------------------------------------------------------------------

    def extensions(self, fd: int) -> dict[int, int]:
        """Every capability whose value is not 0."""
        batch = Batch()
        request = int(kvm.KVM_CHECK_EXTENSION)
        answers = [batch.call(process.IOCTL, fd, request, n) for n in range(_CAPABILITIES)]
        self.linux.guest.perform(batch)
        return {number: answer.raw for number, answer in enumerate(answers) if answer.raw > 0}

    def cpuid(self, request: Request) -> Iterator[str]:
        """A CPUID table, an entry a line."""
        size = x86.KVM_CPUID2.size + _MOST_CPUID * x86.KVM_CPUID_ENTRY2.size
        data = self.ask(self.system, request, struct.pack("<II", _MOST_CPUID, 0), size)
        count = struct.unpack_from("<I", data)[0] if data else 0
        for at in range(x86.KVM_CPUID2.size, x86.KVM_CPUID2.size + 40 * count, 40):
            yield " ".join(f"{word:x}" for word in struct.unpack_from("<7I", data, at))

    def supported(self) -> bytes:
        """KVM_GET_SUPPORTED_CPUID's answer as KVM_SET_CPUID2 takes it."""
        size = x86.KVM_CPUID2.size + _MOST_CPUID * x86.KVM_CPUID_ENTRY2.size
        head = struct.pack("<II", _MOST_CPUID, 0)
        return self.ask(self.system, x86.KVM_GET_SUPPORTED_CPUID, head, size)

    def indices(self, request: Request) -> list[int]:
        """A list of MSRs."""
        data = self.ask(self.system, request, struct.pack("<I", _MOST_MSRS), 4 + 4 * _MOST_MSRS)
        count = struct.unpack_from("<I", data)[0]
        return list(struct.unpack_from(f"<{count}I", data, 4))

    def feature(self, index: int) -> int:
        """A feature MSR of the system."""
        data = self.ask(self.system, x86.KVM_GET_MSRS, _one_msr(index), 24)
        return int(struct.unpack_from("<Q", data, 16)[0])

    def attributes(self) -> Iterator[str]:
        """The attributes of /dev/kvm: group, number, value."""
        for group in range(4):
            for number in range(64):
                attr = struct.pack("<IIQQ", 0, group, number, self.memory.address + 64)
                self.memory.write(attr)
                try:
                    self.linux.ioctl(self.system, kvm.KVM_GET_DEVICE_ATTR, self.memory)
                except OSError:
                    continue
                yield f"{group} {number} {struct.unpack('<Q', self.memory.read(8, 64))[0]:x}"

    # -- a vCPU ------------------------------------------------------------------------------------

    def msrs(self, indices: Sequence[int], *, with_cpuid: bool) -> Iterator[str]:
        """Each MSR of a fresh vCPU: its value, `0` if it takes 0, the bits taken, the bits kept.

        A register that reads the same whatever is written keeps none.
        """
        vcpu = self._vcpu(self._vm())
        if with_cpuid:
            self.ask(vcpu, x86.KVM_SET_CPUID2, self.supported(), _ROOM)
        for index in indices:
            yield f"{index:x} {self._msr(vcpu, index)}"

    def _msr(self, vcpu: int, index: int) -> str:
        at, batch = self.memory.address, Batch()
        first, value = self._get(batch, vcpu, index)
        zero = self._set(batch, vcpu, index, 0)
        _, after_zero = self._get(batch, vcpu, index)
        self.linux.guest.perform(batch)
        before = value.data
        batch = Batch()
        tried = [
            (1 << bit, self._set(batch, vcpu, index, 1 << bit), *self._get(batch, vcpu, index))
            for bit in range(64)
        ]
        self._set(batch, vcpu, index, int.from_bytes(before, "little"))
        batch.poke(at, bytes(24))
        self.linux.guest.perform(batch)
        accepted = [(bit, got.raw, data.data) for bit, put, got, data in tried if put.raw == 1]
        taken = sum(bit for bit, _, _ in accepted)
        read = (after_zero.data, *(data for _, _, data in accepted))
        changes = any(data != before for data in read)
        kept = sum(
            bit
            for bit, got, data in accepted
            if got == 1 and int.from_bytes(data, "little") == bit and changes
        )
        takes_zero = "0" if zero.raw == 1 else "-"
        if index in _CLOCKS:
            return f"clock {takes_zero} {taken:x} 0"
        text = f"{int.from_bytes(before, 'little'):x}" if first.raw == 1 else "-"
        return f"{text} {takes_zero} {taken:x} {kept:x}"

    def _get(self, batch: Batch, vcpu: int, index: int) -> tuple[Answer, Answer]:
        at = self.memory.address
        batch.poke(at, _one_msr(index))
        result = batch.call(process.IOCTL, vcpu, int(x86.KVM_GET_MSRS), at)
        return result, batch.peek(at + 16, 8)

    def _set(self, batch: Batch, vcpu: int, index: int, value: int) -> Answer:
        at = self.memory.address
        batch.poke(at, _one_msr(index, value))
        return batch.call(process.IOCTL, vcpu, int(x86.KVM_SET_MSRS), at)

    def lapic(self) -> bytes:
        """The local APIC of a fresh vCPU of a VM with an interrupt controller in the kernel."""
        vm = self._vm()
        self.linux.ioctl(vm, kvm_vm.KVM_CREATE_IRQCHIP)
        return self.ask(self._vcpu(vm), x86.KVM_GET_LAPIC, size=x86.KVM_LAPIC_STATE.size)

    def statistics(self, fd: int) -> Iterator[str]:
        """The descriptors of a statistics file: flags, exponent, size, offset, bucket, name."""
        try:
            stats = self.linux.ioctl(fd, kvm_vm.KVM_GET_STATS_FD)
        except OSError:
            return
        header = struct.unpack("<6I", self.linux.pread(stats, 24, 0))
        yield " ".join(map(str, header))
        name_size, count, at = header[1], header[2], header[4]
        step = 16 + name_size
        for number in range(count):
            entry = self.linux.pread(stats, step, at + number * step)
            words = struct.unpack_from("<IhHII", entry)
            yield f"{' '.join(map(str, words))} {entry[16:].split(bytes(1))[0].decode()}"

    # -- all of it ---------------------------------------------------------------------------------

    def sections(self) -> Iterator[tuple[str, Iterable[str]]]:
        """Every text, by the name of its constant."""
        system = self.extensions(self.system)
        of_vm = self.extensions(self.vm)
        yield "EXTENSIONS", (f"{n} {value}" for n, value in system.items())
        differing = {n for n in system | of_vm if system.get(n) != of_vm.get(n)}
        yield "VM_EXTENSIONS", (f"{n} {of_vm.get(n, 0)}" for n in sorted(differing))
        yield "SUPPORTED_CPUID", self.cpuid(x86.KVM_GET_SUPPORTED_CPUID)
        yield "EMULATED_CPUID", self.cpuid(x86.KVM_GET_EMULATED_CPUID)
        yield "SUPPORTED_HV_CPUID", self.cpuid(x86.KVM_GET_SUPPORTED_HV_CPUID)
        listed = self.indices(x86.KVM_GET_MSR_INDEX_LIST)
        features = self.indices(x86.KVM_GET_MSR_FEATURE_INDEX_LIST)
        yield "MSR_INDICES", (f"{index:x}" for index in listed)
        yield "FEATURE_MSRS", (f"{index:x} {self.feature(index):x}" for index in features)
        yield "TSC_KHZ", [str(self.linux.ioctl(self._vcpu(self._vm()), kvm_vm.KVM_GET_TSC_KHZ))]
        mce = self.ask(self.system, x86.KVM_X86_GET_MCE_CAP_SUPPORTED, size=8)
        yield "MCE_CAP", [f"{struct.unpack('<Q', mce)[0]:x}"]
        yield "ATTRIBUTES", self.attributes()
        yield "VCPU_MMAP_SIZE", [str(self.linux.ioctl(self.system, kvm.KVM_GET_VCPU_MMAP_SIZE))]
        indices = sorted({*listed, *features, *_MORE_MSRS})
        without = list(self.msrs(indices, with_cpuid=False))
        yield "MSRS", without
        known = set(without)
        yield (
            "MSRS_WITH_CPUID",
            (line for line in self.msrs(indices, with_cpuid=True) if line not in known),
        )
        vcpu = self._vcpu(self.vm)
        for name, request, layout in _FRESH:
            yield f"FRESH_{name.upper()}", _dump(self.ask(vcpu, request, size=layout.size))
        yield "FRESH_LAPIC", _dump(self.lapic())
        yield "VM_STATS", self.statistics(self.vm)
        yield "VCPU_STATS", self.statistics(vcpu)


def _one_msr(index: int, data: int = 0) -> bytes:
    return struct.pack("<IIIIQ", 1, 0, index, 0, data)


def _dump(data: bytes) -> Iterator[str]:
    """Offset and 16 bytes, without the rows that are all zero; the size at last."""
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        if any(row):
            yield f"{at:x} {row.hex()}"
    yield f"{len(data):x}"


def _module(linux: str, sections: Iterable[tuple[str, Iterable[str]]]) -> str:
    used = kernel(linux)
    packages = ",\n".join(f"{package.name} {package.version}" for package in used.packages)
    lines = [
        "# SPDX-License-Identifier: GPL-2.0-only",
        f'"""KVM of Linux {used.release} on QEMU\'s AMD processor.',
        "",
        "Written by tools/record_kvm.py from",
        packages,
        '"""',
        "",
        f'RELEASE = "{used.release}"',
    ]
    for name, content in sections:
        lines += [f'{name} = """', *content, '"""']
    return "\n".join([*lines, ""])


def main() -> None:
    """Record the kernels that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("linux", nargs="+", help="such as 6.1")
    for linux in parser.parse_args().linux:
        print(linux, file=sys.stderr)
        into = _INTO / f"linux_{linux.replace('.', '_')}.py"
        with boot(linux) as process_there:
            into.write_text(_module(linux, Recorder(process_there).sections()))
        subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(into)], check=True)


if __name__ == "__main__":
    main()
