# SPDX-License-Identifier: GPL-2.0-only
"""(h) A device under a program: its configuration space, a mapped BAR, and an NVMe drive.

A read of the drive is two intercepted writes (the doorbells), three pieces of DMA (the command,
4 KiB of data, the completion), and what the model does. The first two are measured by themselves;
the model has the rest.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile

from benchmarks.compile import program
from benchmarks.intercept import C, meter
from benchmarks.machines import assignable
from benchmarks.measure import Finding, Meter, compare, in_batches, take_turns
from benchmarks.programs import Program, supervised
from kvm_vfio.errors import KvmVfioError
from kvm_vfio.guest import initrd
from kvm_vfio.guest.packages import GuestKernel, prepared
from kvm_vfio.supervisor.memory import AddressSpace

PARTS = ("interception", "copies", "the model")
LINUX = "6.1"
BATCHES = 10
_READS = 16  # in each
MODEL = ("--kvm", "model")
NVME = ("/dev/vfio/2", "0000:00:11.0")  # of the machine `devices`
_COMMAND, _PAGE, _COMPLETION = 64, 4096, 16


def findings(rounds: int) -> Iterator[Finding]:
    yield from _config_and_bar(rounds)
    yield from _nvme(rounds)


def _config_and_bar(rounds: int) -> Iterator[Finding]:
    group, address = assignable()
    caller = program("caller")
    with ExitStack() as stack:
        ours = stack.enter_context(
            Program(supervised(caller, "vfio", f"/dev/vfio/{group}", address, options=MODEL))
        )
        theirs = stack.enter_context(Program([program("supervisor"), caller, "files"]))
        meters = {"ours": meter(ours, "config", 0), C: meter(theirs, "config", 0)}
        yield compare("h", "config read", take_turns(rounds, meters), "ours", C, 1.5)
        meters = {"ours": meter(ours, "bar", 0), "memory": meter(ours, "memory", 0)}
        samples = take_turns(rounds, meters)
        yield compare("h", "1000 reads of a mapped BAR", samples, "ours", "memory", 1.1)


def _nvme(rounds: int) -> Iterator[Finding]:
    command = supervised(program("nvme"), *NVME, options=(*MODEL, "--machine", "devices"))
    with Program(command) as drive:
        samples = take_turns(
            rounds,
            {
                "a read": _asked(drive, "one"),
                "one of eight": _asked(drive, "eight"),
                "interception": _twice(_asked(drive, "write")),
                "copies": _copies(),
            },
        )
    samples["the model"] = [
        max(whole - intercepted - copied, 0.0)
        for whole, intercepted, copied in zip(
            samples["a read"], samples["interception"], samples["copies"], strict=True
        )
    ]
    for part in PARTS:
        yield compare("h", f"NVMe, read of 4 KiB: {part}", samples, part, "a read")
    yield compare("h", "NVMe, eight reads at a doorbell, each", samples, "one of eight", "a read")
    fast, slow = (median(samples[name]) for name in ("one of eight", "a read"))
    yield (
        f"(h) NVMe, random reads of 4 KiB: {1 / slow:,.0f} a second one by one,"
        f" {1 / fast:,.0f} eight at a time"
    )
    yield _through_a_guest({name: median(samples[name]) for name in PARTS})


def _through_a_guest(parts: Mapping[str, float]) -> str:
    """The same reads by a guest's own driver, and how much of the time they are."""
    kernel = prepared(LINUX)
    if kernel is None or not kernel.drivers:
        return f"(h) NVMe through a guest needs a kernel: kvm-vfio guest prepare {LINUX}"
    seconds = _guest_reads(kernel)
    shares = ", ".join(f"{part} {of / seconds:.0%}" for part, of in parts.items())
    return (
        f"(h) NVMe through a guest (Linux {kernel.release}, QEMU's TCG): {1 / seconds:,.0f} reads a"
        f" second; of {seconds * 1e6:.0f} us each, {shares}, the rest is QEMU and the guest"
    )


def _guest_reads(kernel: GuestKernel) -> float:
    """Seconds for one read. KvmVfioError."""
    content = {
        f"modules/{number:02d}-{name}": (kernel.directory / name).read_bytes()
        for number, name in enumerate(kernel.drivers)
    }
    content["init"] = Path(program("guest")).read_bytes()
    with NamedTemporaryFile() as archive:
        archive.write(initrd.cpio(content, ["modules"]))
        archive.flush()
        qemu = [
            *("qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-m", "256"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"),
            *("-kernel", str(kernel.image), "-initrd", archive.name),
            *("-append", "console=ttyS0 panic=-1 quiet no_timer_check"),
            *("-device", f"vfio-pci,host={NVME[1]}"),
        ]
        command = supervised(*qemu, options=(*MODEL, "--machine", "devices"))
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    found = re.search(r"reads \d+ ([\d.]+)", done.stdout)
    if found is None:
        raise KvmVfioError(f"`{' '.join(command[:3])}` with QEMU said {done.stdout[-200:]!r}")
    return float(found[1]) / 1e9


def _asked(drive: Program, operation: str) -> Meter:
    def once() -> float:
        (nanoseconds,) = drive.ask(f"{operation} {BATCHES}")
        return float(nanoseconds) / 1e9

    return once


def _twice(meter: Meter) -> Meter:
    return lambda: 2 * meter()


def _copies() -> Meter:
    """The DMA of one read, into memory of this process."""
    mm = AddressSpace(os.getpid(), lambda: None)
    memory = mmap.mmap(-1, _PAGE)
    view = (ctypes.c_char * _PAGE).from_buffer(memory)
    page, entry = bytes(_PAGE), bytes(_COMPLETION)

    def copy() -> None:
        address = ctypes.addressof(view)  # which keeps the memory where it is
        mm.read_pinned(address, _COMMAND)
        mm.write_pinned(address, page)
        mm.write_pinned(address, entry)

    meter = in_batches(copy, _READS)
    return lambda: median(meter() for _ in range(BATCHES))
