# SPDX-License-Identifier: GPL-2.0-only
"""(b) The model in this process against the real /dev/kvm, through the same client.

Both sides run the same Python: what differs is the `Syscalls` below. Where there is no VFIO group,
the real KVM-VFIO device can only be asked, or refuse; the model must refuse with the same errno.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from errno import EBADF, EFAULT, EINVAL, ENODEV, ENOENT, ENXIO, EPERM, errorcode
from functools import partial
from typing import NamedTuple

from benchmarks.measure import Call, Finding, compare, in_batches, take_turns
from kvm_vfio.client import Kvm, KvmVfio, Vm, model
from kvm_vfio.host import HostSyscalls
from kvm_vfio.syscalls import Syscalls
from kvm_vfio.uapi.kvm import KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_ADD

LIMIT = 1.5
REAL = "the real /dev/kvm"
CLOSED = 1000  # a number that no file has
NO_ADDRESS = 8  # in the page that nobody maps
NO_TYPE = 999


class Side(NamedTuple):
    """What the calls are made on. `null` is an fd of a file that is no VFIO group."""

    kvm: Kvm
    vm: Vm
    device: KvmVfio
    null: int


def side(syscalls: Syscalls, stack: ExitStack) -> Side:
    kvm = stack.enter_context(Kvm(syscalls))
    vm = stack.enter_context(kvm.create_vm())
    device = stack.enter_context(vm.create_kvm_vfio())
    null = syscalls.open("/dev/null", os.O_RDWR)
    stack.callback(syscalls.close, null)
    return Side(kvm, vm, device, null)


def create(kvm: Kvm) -> None:
    with kvm.create_vm() as vm, vm.create_kvm_vfio():
        pass


ADD = KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_ADD

Case = tuple[str, Callable[[Side], Call], int, int]
"""What is called, how, the errno of the answer, and how many calls make a batch."""

CASES: tuple[Case, ...] = (
    ("HAS_ATTR", lambda s: partial(s.device.has_attr, *ADD), 0, 100),
    ("HAS_ATTR of none", lambda s: partial(s.device.has_attr, 9, 9), 0, 100),
    ("SET_ATTR of none", lambda s: partial(s.device.set_attr, 9, 9, NO_ADDRESS), ENXIO, 100),
    ("ADD, nothing to read", lambda s: partial(s.device.set_attr, *ADD, NO_ADDRESS), EFAULT, 100),
    ("ADD, a closed fd", lambda s: partial(s.device.add, CLOSED), EBADF, 100),
    ("ADD, /dev/null", lambda s: partial(s.device.add, s.null), EINVAL, 100),
    ("DEL, /dev/null", lambda s: partial(s.device.delete, s.null), ENOENT, 100),
    ("GET_ATTR", lambda s: partial(s.device.get_attr, *ADD, NO_ADDRESS), EPERM, 100),
    ("CREATE_DEVICE, TEST", lambda s: s.vm.has_kvm_vfio, 0, 100),
    ("CREATE_DEVICE of none", lambda s: partial(s.vm.create_device, NO_TYPE), ENODEV, 100),
    ("VM and device, made and closed", lambda s: partial(create, s.kvm), 0, 1),
)


def findings(rounds: int, *, kvm: bool) -> Iterator[Finding]:
    """`kvm`: /dev/kvm opens."""
    if not kvm:
        yield "(b) /dev/kvm does not open, so there is nothing real to compare the model with"
        return
    with ExitStack() as stack:
        ours, real = side(model(), stack), side(HostSyscalls(), stack)
        for case, call, errno, calls in CASES:
            meters = {
                "ours": in_batches(call(ours), calls, errno),
                REAL: in_batches(call(real), calls, errno),
            }
            name = f"{case}: {errorcode[errno]}" if errno else case
            yield compare("b", name, take_turns(rounds, meters), "ours", REAL, LIMIT)
