# SPDX-License-Identifier: GPL-2.0-only
"""The machine of the recordings as a QEMU command line.

Rule of this file: every device stands where it stood when the recordings were made, since the
addresses decide the group numbers. What host and guest need of each other (shared memory, serial
lines) adds no PCI device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvm_vfio.guest.plan import ANSWER_BYTES, CHANNEL_ADDRESS, REQUEST_BYTES

MEMORY_BYTES = 512 << 20
CHANNEL_BYTES = 4096 + REQUEST_BYTES + ANSWER_BYTES

_DEVICES = (
    "edu,addr=10.0",
    "pci-testdev,addr=11.0",
    "edu,addr=12.0",
    "e1000e,netdev=net,addr=13.0,romfile=",
    "edu,addr=14.0,multifunction=on",
    "pci-serial,addr=14.1,chardev=nothing",
)


class Files(NamedTuple):
    """Paths that QEMU opens: its memory, where the console goes, and what it boots."""

    memory: str
    console: str
    kernel: str
    initrd: str


def command(files: Files, *, snoop: bool) -> Sequence[str]:
    """QEMU on standard input and output as the guest's second serial line.

    `snoop` is VT-d's snoop control. TCG's "max" is an AMD processor with SVM, so that KVM works
    inside; one processor, since SVM under TCG is not reliable with two.
    """
    unit = f"intel-iommu,intremap=on,snoop-control={'on' if snoop else 'off'}"
    return [
        "qemu-system-x86_64",
        *("-accel", "tcg", "-cpu", "max", "-smp", "1"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-object", _memory(files.memory)),
        *("-machine", "q35,memory-backend=memory", "-m", f"{MEMORY_BYTES >> 20}"),
        *("-chardev", f"file,id=console,path={files.console}", "-serial", "chardev:console"),
        *("-chardev", "stdio,id=line,signal=off", "-serial", "chardev:line"),
        *("-chardev", "null,id=nothing", "-netdev", "user,id=net,restrict=on"),
        *("-device", unit),
        *(word for device in _DEVICES for word in ("-device", device)),
        *("-kernel", files.kernel, "-initrd", files.initrd, "-append", _kernel_command_line()),
    ]


def _memory(path: str) -> str:
    return f"memory-backend-file,id=memory,size={MEMORY_BYTES},mem-path={path},share=on"


def _kernel_command_line() -> str:
    """A kernel that warns goes on; one that oopses ends at once, so that the host hears of it.

    Without debugfs no VM makes dozens of files there. On a busy computer the kernel would find that
    its timer does not work, and panic.
    """
    size = -(-CHANNEL_BYTES // (1 << 20))
    return (
        f"console=ttyS0 quiet panic=-1 oops=panic intel_iommu=on debugfs=off no_timer_check "
        f"memmap={size}M${CHANNEL_ADDRESS >> 20}M"
    )
