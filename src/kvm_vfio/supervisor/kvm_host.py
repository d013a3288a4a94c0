# SPDX-License-Identifier: GPL-2.0-only
"""Which VM a number means, for programs that keep this computer's own /dev/kvm.

Rule of this file: only the KVM-VFIO device is ours; the VM is Linux's, and lives as Linux has it.

A VM can be used only by the process that made it, so the program makes VMs itself and we meet one
when it is to get a KVM-VFIO device. We then keep a number of our own for it exactly as long as the
model's VM is held by that device: it is the reference which the real device would hold. It also
says later which VM is meant, since kcmp(2) compares open files. kcmp orders them as well, so one VM
among thousands is found by bisection.

A device that outlives its fd (Linux 5.10) ends with its VM, which our number would keep alive for
ever. While there is such a device, each call first looks whether any process still has the VM.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EIO

from kvm_vfio.errors import Unsupported
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.vm import Vm, VmFile
from kvm_vfio.kernel.task import Mm
from kvm_vfio.supervisor.events import duplicate
from kvm_vfio.supervisor.libc import kcmp
from kvm_vfio.supervisor.processes import Thread
from kvm_vfio.uapi.kvm import KVM_CREATE_DEVICE
from kvm_vfio.uapi.seccomp import KCMP_FILE

VM_LINK = VmFile.link.encode()
_VCPU_LINK = b"anon_inode:kvm-vcpu"
_EQUAL, _LESS = 0, 1


class HostVm(Vm):
    """A VM of this computer; `fd` is our number for it. The model holds one reference more."""

    __slots__ = ("_vms", "fd")

    def __init__(self, kernel: Kernel, mm: Mm, fd: int, vms: HostVms) -> None:
        super().__init__(kernel, mm)
        self.fd = fd
        self._vms = vms

    def put(self) -> None:
        """When nothing but our own reference is left, look whether the VM is still needed."""
        super().put()
        if self.references == 1:
            self._vms.unused(self)


class HostVms:
    """The VMs that have a KVM-VFIO device, in kcmp's order, and those that nothing else holds."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._vms: list[HostVm] = []
        self.orphans: list[HostVm] = []

    def create_device(self, thread: Thread, fd: int, arg: int) -> int:
        """KVM_CREATE_DEVICE on the VM behind `fd`. EIO: its process never made one; `VmFile`."""
        if not thread.mm.makes_vms:
            raise KernelError(EIO, "the VM belongs to the process that made it")
        vm = self._vm(thread, fd)
        vm.get()  # for as long as the call takes
        if vm in self.orphans:
            self.orphans.remove(vm)
        try:
            return VmFile(vm).ioctl(thread.task, KVM_CREATE_DEVICE, arg)
        finally:
            vm.put()

    def _vm(self, thread: Thread, fd: int) -> HostVm:
        low, high = 0, len(self._vms)
        while low < high:
            middle = (low + high) // 2
            order = kcmp(thread.tgid, os.getpid(), KCMP_FILE, fd, self._vms[middle].fd)
            if order == _EQUAL:
                return self._vms[middle]
            low, high = (low, middle) if order == _LESS else (middle + 1, high)
        vm = HostVm(self._kernel, thread.mm, duplicate(thread.tgid, fd), self)
        self._vms.insert(low, vm)
        return vm

    def unused(self, vm: HostVm) -> None:
        """Only we hold `vm`. With a device that outlived its fd we wait, else we let go."""
        if vm.devices:
            self.orphans.append(vm)
        else:
            self._let_go(vm)

    def _let_go(self, vm: HostVm) -> None:
        self._vms.remove(vm)
        os.close(vm.fd)
        vm.put()

    def settle(self) -> None:
        """Let go of every orphan that no process has any more."""
        for vm in list(self.orphans):
            if not any(
                _has(pid, vm) for pid in map(int, filter(str.isdecimal, os.listdir("/proc")))
            ):
                self.orphans.remove(vm)
                self._let_go(vm)


def _has(pid: int, vm: HostVm) -> bool:
    """Whether process `pid` has the VM open, or is its maker and has a vCPU of some VM open."""
    if pid == os.getpid():
        return False
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            link = os.readlink(f"/proc/{pid}/fd/{name}".encode())
            if link == VM_LINK and kcmp(pid, os.getpid(), KCMP_FILE, int(name), vm.fd) == _EQUAL:
                return True
            if link.startswith(_VCPU_LINK) and pid == vm.mm.tgid:  # type: ignore[attr-defined]
                return True
    return False


def require_kcmp() -> None:
    """Unsupported: this kernel cannot compare open files."""
    try:
        kcmp(os.getpid(), os.getpid(), KCMP_FILE, 0, 0)
    except OSError as error:
        raise Unsupported(
            "this kernel has no kcmp(2), by which VMs are told apart; use --kvm model"
        ) from error
