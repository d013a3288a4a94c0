# SPDX-License-Identifier: GPL-2.0-only
"""A vCPU: how it comes, its memory, how long it lives (virt/kvm/kvm_main.c, arch/x86/kvm/x86.c).

Rule of this file: a vCPU's file holds the VM, and the VM keeps the vCPU until it ends itself; a
vCPU whose fd was closed is still there, and its number is taken.

No guest code is ever run. KVM_RUN says so with an exit that no hardware gives (`NO_GUEST_CODE`).
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import EEXIST, EINTR, EINVAL, EIO
from typing import TYPE_CHECKING, ClassVar

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File, Mapping
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row
from kvm_vfio.kernel.kvm.recorded import recorded
from kvm_vfio.kernel.x86.cpuid import Cpuid
from kvm_vfio.kernel.x86.events import Events
from kvm_vfio.kernel.x86.fpu import Fpu
from kvm_vfio.kernel.x86.lapic import BSP, ENABLE, X2APIC_ENABLE, Lapic, valid_base
from kvm_vfio.kernel.x86.msr import Msrs
from kvm_vfio.kernel.x86.registers import (
    CR0_PE,
    CR0_PG,
    CR4_PAE,
    EFER_LMA,
    RFLAGS_IF_SHIFT,
    cr4_reserved,
    pdptrs_at,
)
from kvm_vfio.kernel.x86.requests import X86_ROWS
from kvm_vfio.profiles.profile import Profile
from kvm_vfio.uapi.kvm import KVM_CAP_MAX_VCPU_ID, KVM_CAP_MAX_VCPUS
from kvm_vfio.uapi.kvm_x86 import (
    KVM_DEBUGREGS,
    KVM_EXIT_FAIL_ENTRY,
    KVM_GUESTDBG_SINGLESTEP,
    KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_UNINITIALIZED,
    KVM_REGS,
    KVM_RUN,
    KVM_RUN_LAYOUT,
    KVM_SEGMENT,
    KVM_SREGS,
    kvm_cpuid_entry2,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.task import Task

# hardware_entry_failure_reason: "kvm-vfio" as a number, which VMMs print in hexadecimal.
NO_GUEST_CODE = int.from_bytes(b"kvm-vfio", "big")

_ID_MASK = 0xFFFF_FFFF  # what older kernels look at
_QUIRK_MISC_ENABLE_NO_MWAIT = 1 << 4
_RESET_IP, _RESET_SELECTOR, _RESET_BASE = 0xFFF0, 0xF000, 0xFFFF_0000


class Vcpu:
    """struct kvm_vcpu. `run` is the memory that a program maps."""

    def __init__(self, vm: Vm, vcpu_id: int) -> None:
        """kvm_arch_vcpu_create, and the state after kvm_vcpu_reset."""
        words = recorded(vm.kernel)
        self.vm = vm
        self.profile: Profile = vm.kernel.profile
        self.vcpu_id = vcpu_id
        self.index = len(vm.vcpus)  # vcpu_idx: the place in the order of creation
        self.is_bsp: bool = vcpu_id == vm.boot_cpu_id
        self.run: bytearray | memoryview = bytearray(words.vcpu_mmap_size)
        self.regs = KVM_REGS.unpack(words.fresh("regs"))
        sregs = KVM_SREGS.unpack(words.fresh("sregs"))
        base = sregs.apic_base & ~BSP | (BSP if self.is_bsp else 0)
        self.sregs = sregs._replace(apic_base=base)
        self.debugregs = KVM_DEBUGREGS.unpack(words.fresh("debugregs"))
        self.pdptrs = bytes(32)
        self.xcr0 = 1  # x87 is always there
        self.guest_debug = 0
        self.gif = True
        self.tpr_access_reporting = False
        self.signal_mask: bytes | None = None
        self.tsc_khz = vm.tsc_khz or words.tsc_khz
        self.host_tsc_khz = words.tsc_khz
        self.tsc_offset = 0
        self.events: Events = Events(self)
        self.cpuid: Cpuid = Cpuid(self, words.supported_cpuid)
        self.msrs: Msrs = Msrs(self, words)
        self.fpu: Fpu = Fpu(self, words.fresh("xsave"), words.supported_cpuid)
        self._cr8 = 0
        self.apic: Lapic | None = None
        self.mp_state = KVM_MP_STATE_RUNNABLE
        if vm.irqchip_in_kernel:
            self.apic = Lapic(self, words.fresh("lapic"))
            if not self.is_bsp:
                self.mp_state = KVM_MP_STATE_UNINITIALIZED

    # -- what the parts need of each other ---------------------------------------------------------

    @property
    def cr8(self) -> int:
        """The task priority."""
        return self._cr8 if self.apic is None else self.apic.cr8

    @cr8.setter
    def cr8(self, value: int) -> None:
        if self.apic is None:
            self._cr8 = value
        else:
            self.apic.cr8 = value

    @property
    def cr4_reserved(self) -> int:
        """The bits of CR4 that cannot be set: KVM's own, and those of the guest's processor."""
        reserved = cr4_reserved(self.cpuid.kvm_has)
        if self.cpuid.set_once or self.profile.cpuid_counts_before_it_is_set:
            reserved |= cr4_reserved(self.cpuid.has)
        return reserved

    @property
    def mwait_follows_misc_enable(self) -> bool:
        """Whether the VM has disabled KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT."""
        return bool(self.vm.disabled_quirks & _QUIRK_MISC_ENABLE_NO_MWAIT)

    @property
    def debugger_steps(self) -> bool:
        """Whether the trap flag is the debugger's."""
        return bool(self.guest_debug & KVM_GUESTDBG_SINGLESTEP)

    @property
    def paging(self) -> bool:
        """is_paging."""
        return bool(self.sregs.cr0 & CR0_PG)

    @property
    def pae_paging(self) -> bool:
        """is_pae_paging: with three levels, whose first is four registers."""
        pae = self.sregs.cr4 & CR4_PAE and not self.sregs.efer & EFER_LMA
        return self.paging and bool(pae)

    def load_pdptrs(self) -> None:
        """load_pdptrs: from guest memory; where there is none, they stay."""
        at = pdptrs_at(self.sregs.cr3)
        if self.vm.has_guest_memory(at, 32):
            raise NotModelled("page tables in guest memory are not read")

    def set_cpuid(self, entries: Sequence[kvm_cpuid_entry2]) -> None:
        """kvm_set_cpuid. EINVAL."""
        self.cpuid.set(entries)
        if self.apic is not None:
            self.apic.set_version()

    def set_apic_base(self, base: int) -> bool:
        """kvm_set_apic_base by the VMM. False: refused."""
        if not valid_base(self, base):
            return False
        if self.apic is None and self.profile.apic_base_gains_bsp:
            base |= BSP
        changed = self.sregs.apic_base ^ base
        self.sregs = self.sregs._replace(apic_base=base)
        if changed & ENABLE:
            self.cpuid.update_runtime()
        if self.apic is not None:
            if changed & X2APIC_ENABLE and base & X2APIC_ENABLE:
                raise NotModelled("a local APIC in x2APIC mode is not modelled")
            if changed & ENABLE and base & ENABLE:
                self.apic.reset_id()
        return True

    def wake_on_reset(self) -> None:
        """What old VMMs rely on: the registers of a reset make the first vCPU run."""
        cs = KVM_SEGMENT.unpack(self.sregs.cs)
        if (
            self.is_bsp
            and self.regs.rip == _RESET_IP
            and (cs.selector, cs.base) == (_RESET_SELECTOR, _RESET_BASE)
            and not self.sregs.cr0 & CR0_PE
        ):
            self.mp_state = KVM_MP_STATE_RUNNABLE


def create_vcpu(vm: Vm, task: Task, arg: int) -> int:
    """KVM_CREATE_VCPU: the fd of a new vCPU (kvm_vm_ioctl_create_vcpu).

    EINVAL: a number that no vCPU can have, or all vCPUs that a VM can have; ENOMEM; EEXIST: the
    number is taken; EMFILE.
    """
    wide = vm.kernel.profile.vcpu_id_is_long
    number, known = arg if wide else arg & _ID_MASK, recorded(vm.kernel).extensions
    most_ids = known.get(KVM_CAP_MAX_VCPU_ID, 0)
    if number >= most_ids:
        raise KernelError(EINVAL, f"vCPUs are numbered from 0 to {most_ids - 1}")
    with vm.lock:
        if len(vm.vcpus) >= known[KVM_CAP_MAX_VCPUS]:
            raise KernelError(EINVAL, f"the VM has {len(vm.vcpus)} vCPUs, and no more are possible")
        if number >= (vm.max_vcpu_ids or most_ids):
            raise KernelError(EINVAL, f"the VM's vCPUs are numbered up to {vm.max_vcpu_ids - 1}")
        vm.max_vcpu_ids = vm.max_vcpu_ids or most_ids
    vm.kernel.allocate("kvm_vcpu")
    with vm.lock:
        if number in vm.vcpus:
            raise KernelError(EEXIST, f"the VM has a vCPU {number}")
        vcpu = vm.vcpus[number] = Vcpu(vm, number)
    vm.get()
    try:
        return task.files.install(VcpuFile(vcpu))
    except KernelError:
        del vm.vcpus[number]
        raise


class VcpuFile(File):
    """The file of a vCPU. It holds the VM."""

    __slots__ = ("vcpu",)
    kind = "a vCPU"
    ioctl_errnos = (EIO, EINVAL)

    def __init__(self, vcpu: Vcpu) -> None:
        super().__init__()
        self.vcpu = vcpu

    @property
    def name(self) -> str:
        """Which one it is."""
        return f"vCPU {self.vcpu.vcpu_id} of VM {self.vcpu.vm.number}"

    def release(self) -> None:
        """kvm_vcpu_release."""
        self.vcpu.vm.put()

    def lseek(self, offset: int) -> int:
        """lseek(2): any, and it stays at 0."""
        return 0

    def mmap(
        self,
        task: Task,
        size: int,
        offset: int,
        *,
        writable: bool,
        executable: bool = False,
    ) -> Mapping:
        """mmap(2): the run structure and what follows it. Whatever lies behind is SIGBUS."""
        run = memoryview(self.vcpu.run)
        if offset + size > len(run):
            raise NotModelled("memory behind a vCPU's, which is SIGBUS to touch, is not modelled")
        return run[offset : offset + size]

    def unlocked_ioctl(self, task: Task, request: int, arg: int) -> int:
        """EIO from another mm than the VM creator's, before anything else; EINVAL."""
        if task.mm is not self.vcpu.vm.mm:
            raise KernelError(EIO, "the VM belongs to the process that made it")
        handler = self.ioctls.handlers.get(request)
        if handler is None:
            raise KernelError(EINVAL, f"a vCPU has no ioctl {request:#010x}")
        return handler(self, task, arg)

    def run(self, task: Task, arg: int) -> int:
        """KVM_RUN. EINVAL for an argument; EINTR: the program has asked for an immediate exit.

        Else it returns at once, with KVM_EXIT_FAIL_ENTRY and the reason `NO_GUEST_CODE`.
        """
        if arg:
            raise KernelError(EINVAL, "the argument must be 0")
        vcpu, size = self.vcpu, KVM_RUN_LAYOUT.size
        run = KVM_RUN_LAYOUT.unpack(bytes(vcpu.run[:size]))
        run = run._replace(  # post_kvm_run_save
            exit_reason=0,
            if_flag=vcpu.regs.rflags >> RFLAGS_IF_SHIFT & 1,
            flags=int(vcpu.events.smm),
            cr8=vcpu.cr8,
            apic_base=vcpu.sregs.apic_base,
        )
        if run.immediate_exit:
            vcpu.run[:size] = KVM_RUN_LAYOUT.pack(run)
            raise KernelError(EINTR, "immediate_exit is set")
        vcpu.vm.kernel.observer.guest_code_wanted(vcpu)
        run = run._replace(
            exit_reason=KVM_EXIT_FAIL_ENTRY,
            fail_entry_hardware_entry_failure_reason=NO_GUEST_CODE,
            fail_entry_cpu=0,
        )
        vcpu.run[:size] = KVM_RUN_LAYOUT.pack(run)
        return 0

    ioctls: ClassVar[IoctlTable] = IoctlTable(
        Row(KVM_RUN, run, Argument.VALUE, errnos=(EINVAL, EINTR)),
        *X86_ROWS,
    )
