# SPDX-License-Identifier: GPL-2.0-only
"""What the agent does before its first call, as the lines of its /plan.

Rule of this file: data. Every name of a kernel function, a device or a driver that a guest needs is
here.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvm_vfio.guest import force
from kvm_vfio.guest.packages import GuestKernel

REQUEST_BYTES = 1 << 20
ANSWER_BYTES = 2 << 20
CHANNEL_ADDRESS = 256 << 20
"""Where the channel is in the guest's physical memory: the kernel is told to leave it alone."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A function that is watched, under the names and arguments it has had, newest first.

    `event` is what a call of it means. What is recorded is said as a kprobe event says it; with
    `returns`, at the function's return. `bits` is how much of what is recorded counts.
    """

    event: str
    functions: tuple[tuple[str, str], ...]
    returns: bool = False
    bits: int = 64

    def definitions(self, number: int) -> list[str]:
        """Lines for kprobe_events; the first that the kernel takes counts."""
        kind = "r" if self.returns else "p"
        return [f"{kind}:x/p{number} {name} a={argument}" for name, argument in self.functions]


PROBES = (
    Probe("vmnew", (("kvm_arch_init_vm", "$arg1"),)),
    Probe("vmdel", (("kvm_arch_destroy_vm", "$arg1"),)),
    Probe("reg", (("kvm_arch_register_noncoherent_dma", "$arg1"),)),
    Probe("unreg", (("kvm_arch_unregister_noncoherent_dma", "$arg1"),)),
    Probe("asg", (("kvm_arch_start_assignment", "$arg1"),)),
    Probe("unasg", (("kvm_arch_end_assignment", "$arg1"),)),
    Probe("setkvm", (("vfio_file_set_kvm", "$arg2"), ("vfio_group_set_kvm", "$arg2"))),
    Probe(
        "coh",
        (
            ("vfio_file_enforced_coherent", "$retval:u8"),  # a bool in %al
            ("vfio_external_check_extension", "$retval:s64"),
        ),
        returns=True,
        bits=8,
    ),
    Probe("devrel", (("kvm_vfio_release", "$arg1"),)),
    Probe("devdtor", (("kvm_vfio_destroy", "$arg1"),)),
)

# Nothing a caller can see depends on these, and a VM ends ten times faster: no grace period of RCU
# is waited out at leisure, and no page table is torn down in the background.
_FASTER = {"/sys/kernel/rcu_expedited": "1"}
_PARAMETERS = {"kvm.ko": " tdp_mmu=0"}

DRIVERS = {
    "0000:00:10.0": "vfio-pci",
    "0000:00:11.0": "vfio-pci",
    "0000:00:12.0": "vfio-pci",
    "0000:00:13.0": "vfio-pci",
    "0000:00:14.0": "vfio-pci",
    "0000:00:14.1": "serial",
}


def text(kernel: GuestKernel) -> str:
    """The plan for a guest of this kernel."""
    lines = [f"channel {CHANNEL_ADDRESS:#x} {REQUEST_BYTES:#x} {ANSWER_BYTES:#x}"]
    lines += [f"write {path} {value}" for path, value in _FASTER.items()]
    lines += [f"module /modules/{name}{_PARAMETERS.get(name, '')}" for name in kernel.modules]
    if not kernel.no_force:  # before the probes, which then see what it answers
        lines.append(f"module /modules/{force.FILE}")
    lines += [f"bind {address} {driver}" for address, driver in DRIVERS.items()]
    for number, probe in enumerate(PROBES):
        lines += [f"probe {number} {definition}" for definition in probe.definitions(number)]
    return "\n".join(lines) + "\n"
