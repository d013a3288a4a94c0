# SPDX-License-Identifier: GPL-2.0-only
"""The state of a vCPU: as recorded when it is fresh; what is set reads back, or is refused."""

from __future__ import annotations

from errno import E2BIG, EBUSY, EEXIST, EFAULT, EINVAL
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.kernel.kvm.vcpu import Vcpu, VcpuFile
from kvm_vfio.kernel.x86.requests import STATES, State
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.profiles.recording import KvmRecording
from kvm_vfio.uapi import kvm_x86 as x86
from kvm_vfio.uapi.kvm import KVM_CREATE_VCPU
from kvm_vfio.uapi.kvm_vm import KVM_GET_TSC_KHZ, KVM_SET_TSC_KHZ
from kvm_vfio.uapi.layout import Layout
from tests.unit.kernel.program import Program, boot

Fields = TypeVar("Fields", bound=tuple[Any, ...])
RECORDED = {name: p for name, p in PROFILES.items() if p.kvm_recording is not None}
recorded_profiles = pytest.mark.parametrize("profile", RECORDED.values(), ids=RECORDED)
NAMES: dict[Layout[Any], str] = {
    # the states that were recorded, by the name of their structure
    x86.KVM_REGS: "regs",
    x86.KVM_SREGS: "sregs",
    x86.KVM_FPU: "fpu",
    x86.KVM_XSAVE: "xsave",
    x86.KVM_XCRS: "xcrs",
    x86.KVM_DEBUGREGS: "debugregs",
    x86.KVM_VCPU_EVENTS: "vcpu_events",
    x86.KVM_MP_STATE: "mp_state",
}


class Cpu:
    """A program with one vCPU."""

    def __init__(self, profile: Profile = DEFAULT) -> None:
        self.program: Program = boot(profile)
        self.vm = self.program.vm()
        self.fd = self.program.ioctl(self.vm, KVM_CREATE_VCPU)
        assert profile.kvm_recording is not None
        self.recorded: KvmRecording = profile.kvm_recording

    @property
    def vcpu(self) -> Vcpu:
        return self.program.file(self.fd, VcpuFile).vcpu

    def get(self, layout: Layout[Fields]) -> Fields:
        state = next(each for each in STATES if each.layout is layout)
        address = self.program.put(b"\xaa" * layout.size)
        assert self.program.ioctl(self.fd, state.get_request, address) == 0
        return layout.unpack(self.program.mm.read(address, layout.size))

    def set(self, layout: Layout[Fields], value: Fields) -> int:
        state = next(each for each in STATES if each.layout is layout)
        return self.program.ioctl(self.fd, state.set_request, self.program.put(layout.pack(value)))

    def change(self, layout: Layout[Any], **fields: Any) -> int:  # noqa: ANN401  # of any width
        return self.set(layout, self.get(layout)._replace(**fields))

    def call(self, request: int, data: bytes = b"") -> int:
        return self.program.ioctl(self.fd, request, self.program.put(data) if data else 0)

    def supported_cpuid(self) -> None:
        entries = self.recorded.supported_cpuid
        packed = b"".join(map(x86.KVM_CPUID_ENTRY2.pack, entries))
        head = x86.KVM_CPUID2.pack_fields(len(entries), 0)
        assert self.call(x86.KVM_SET_CPUID2, head + packed) == 0

    def msr(self, index: int, value: int | None = None) -> int | None:
        """The register's value, or what it was set to; None: refused."""
        entry = x86.KVM_MSRS.pack_fields(1, 0) + x86.KVM_MSR_ENTRY.pack_fields(index, 0, value or 0)
        address = self.program.put(entry)
        request = x86.KVM_GET_MSRS if value is None else x86.KVM_SET_MSRS
        if self.program.ioctl(self.fd, request, address) != 1:
            return None
        data = self.program.mm.read(address + 8, 16)
        return x86.KVM_MSR_ENTRY.unpack(data).data


# -- every state -----------------------------------------------------------------------------------


@recorded_profiles
@pytest.mark.parametrize("layout", NAMES, ids=NAMES.values())
def test_a_fresh_vcpu_is_as_recorded(layout: Layout[Any], profile: Profile) -> None:
    cpu = Cpu(profile)
    assert layout.pack(cpu.get(layout)) == cpu.recorded.fresh(NAMES[layout])


@recorded_profiles
@pytest.mark.parametrize(
    "state", [s for s in STATES if s.missing is None], ids=lambda s: s.layout.name
)
def test_what_was_read_can_be_set_and_changes_nothing(state: State, profile: Profile) -> None:
    cpu = Cpu(profile)
    before = {layout: cpu.get(layout) for layout in NAMES}
    assert cpu.set(state.layout, cpu.get(state.layout)) == 0
    assert {layout: cpu.get(layout) for layout in NAMES} == before


@given(st.binary(min_size=64, max_size=64), st.integers(0, 63))
def test_events_that_are_set_read_back_the_same_for_ever(data: bytes, flags: int) -> None:
    cpu = Cpu()
    events = x86.KVM_VCPU_EVENTS.unpack(data)._replace(flags=flags)
    if cpu.set(x86.KVM_VCPU_EVENTS, events) == 0:
        once = cpu.get(x86.KVM_VCPU_EVENTS)
        assert cpu.set(x86.KVM_VCPU_EVENTS, once._replace(nmi_pending=once.nmi_pending)) == 0
        assert cpu.get(x86.KVM_VCPU_EVENTS) == once


@given(st.binary(min_size=192, max_size=192))
def test_segments_that_are_set_read_back_the_same_for_ever(data: bytes) -> None:
    cpu = Cpu()
    sregs = x86.KVM_SREGS.pack(cpu.get(x86.KVM_SREGS))
    wanted = bytearray(data + sregs[192:])
    wanted[19] = 0  # CS.L
    assert cpu.set(x86.KVM_SREGS, x86.KVM_SREGS.unpack(bytes(wanted))) == 0
    once = cpu.get(x86.KVM_SREGS)
    assert cpu.set(x86.KVM_SREGS, once) == 0
    assert cpu.get(x86.KVM_SREGS) == once


# -- what is refused, and what follows -------------------------------------------------------------

PE, PG, PAE, LME, LMA = 1, 1 << 31, 1 << 5, 1 << 8, 1 << 10


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"cr0": PG}, -EINVAL),
        ({"cr0": PG | PE}, 0),
        ({"cr0": 1 << 29}, -EINVAL),
        ({"cr0": 3 << 29}, 0),
        ({"cr0": 1 << 32}, -EINVAL),
        ({"cr4": 1 << 13}, -EINVAL),
        ({"cr4": 1 << 17}, -EINVAL),
        ({"cr4": 1 << 20}, 0),
        ({"efer": LMA}, -EINVAL),
        ({"cr8": 1 << 63}, 0),
        ({"apic_base": 0xFEE00001}, -EINVAL),
        ({"apic_base": 0xFEE00400}, -EINVAL),
        ({"apic_base": 1 << 36}, -EINVAL),
        ({"apic_base": 1 << 35}, 0),
    ],
    ids=str,
)
def test_special_registers_that_do_not_fit(fields: dict[str, int], expected: int) -> None:
    cpu = Cpu()
    before = cpu.get(x86.KVM_SREGS)
    assert cpu.change(x86.KVM_SREGS, **fields) == expected
    if expected:
        assert cpu.get(x86.KVM_SREGS) == before


def test_long_mode_needs_all_of_it() -> None:
    cpu = Cpu()
    cpu.supported_cpuid()
    whole = {"cr0": PG | PE, "cr4": PAE, "efer": LME | LMA}
    assert cpu.change(x86.KVM_SREGS, **{**whole, "cr4": 0}) == -EINVAL
    assert cpu.change(x86.KVM_SREGS, **{**whole, "efer": LME}) == -EINVAL
    assert cpu.change(x86.KVM_SREGS, **whole, cr3=1 << 40) == -EINVAL
    assert cpu.change(x86.KVM_SREGS, **whole, cr3=1 << 39) == 0
    assert cpu.change(x86.KVM_SREGS2, cr0=PE) == -EINVAL


def test_pointers_are_for_pae_paging() -> None:
    cpu = Cpu()
    assert cpu.change(x86.KVM_SREGS2, flags=1) == -EINVAL
    assert cpu.change(x86.KVM_SREGS2, flags=2) == -EINVAL
    assert cpu.change(x86.KVM_SREGS2, cr0=PG | PE, cr4=PAE, flags=1, pdptrs=b"\x55" * 32) == 0
    assert cpu.get(x86.KVM_SREGS2).pdptrs == b"\x55" * 32
    assert cpu.get(x86.KVM_SREGS2).flags == 1


def test_an_interrupt_is_seen_in_both_structures() -> None:
    cpu = Cpu()
    assert cpu.change(x86.KVM_SREGS, interrupt_bitmap=bytes(4) + b"\x06" + bytes(27)) == 0
    events = cpu.get(x86.KVM_VCPU_EVENTS)
    assert (events.interrupt_injected, events.interrupt_nr) == (1, 33)
    assert cpu.get(x86.KVM_SREGS).interrupt_bitmap == bytes(4) + b"\x02" + bytes(27)
    assert cpu.call(x86.KVM_INTERRUPT, (7).to_bytes(4, "little")) == 0
    assert cpu.get(x86.KVM_VCPU_EVENTS).interrupt_nr == 7
    assert cpu.call(x86.KVM_INTERRUPT, (256).to_bytes(4, "little")) == -EINVAL


@pytest.mark.parametrize(
    "fields",
    [
        {"flags": 1 << 6},
        {"flags": x86.KVM_VCPUEVENT_VALID_PAYLOAD},
        {"exception_injected": 1, "exception_nr": 32},
        {"exception_injected": 1, "exception_nr": 2},
        {"flags": x86.KVM_VCPUEVENT_VALID_TRIPLE_FAULT},
    ],
    ids=str,
)
def test_events_that_cannot_be(fields: dict[str, int]) -> None:
    assert Cpu().change(x86.KVM_VCPU_EVENTS, **fields) == -EINVAL


def test_what_is_not_enabled_is_refused_only_after_the_rest_was_done() -> None:
    cpu = Cpu()
    flags = x86.KVM_VCPUEVENT_VALID_TRIPLE_FAULT
    assert cpu.change(x86.KVM_VCPU_EVENTS, flags=flags, interrupt_injected=1) == -EINVAL
    assert cpu.get(x86.KVM_VCPU_EVENTS).interrupt_injected == 1


def test_the_debugger_injects_one_exception_at_a_time() -> None:
    cpu = Cpu()
    debug = x86.KVM_GUEST_DEBUG.pack_fields(
        x86.KVM_GUESTDBG_ENABLE | x86.KVM_GUESTDBG_INJECT_DB, 0, bytes(64)
    )
    assert cpu.call(x86.KVM_SET_GUEST_DEBUG, debug) == 0
    assert cpu.get(x86.KVM_VCPU_EVENTS).exception_nr == 1
    assert cpu.call(x86.KVM_SET_GUEST_DEBUG, debug) == -EBUSY


def test_while_the_debugger_steps_the_trap_flag_is_its_own() -> None:
    cpu = Cpu()
    steps = x86.KVM_GUESTDBG_ENABLE | x86.KVM_GUESTDBG_SINGLESTEP
    assert (
        cpu.call(x86.KVM_SET_GUEST_DEBUG, x86.KVM_GUEST_DEBUG.pack_fields(steps, 0, bytes(64))) == 0
    )
    assert cpu.change(x86.KVM_REGS, rflags=0x100) == 0
    assert cpu.get(x86.KVM_REGS).rflags == 2


@pytest.mark.parametrize("fields", [{"flags": 1}, {"dr6": 1 << 32}, {"dr7": 1 << 32}], ids=str)
def test_debug_registers_that_cannot_be(fields: dict[str, int]) -> None:
    assert Cpu().change(x86.KVM_DEBUGREGS, **fields) == -EINVAL


@pytest.mark.parametrize("state", [1, 2, 3, 4, 5, 9, 10])
def test_without_a_local_apic_every_vcpu_is_runnable(state: int) -> None:
    assert Cpu().change(x86.KVM_MP_STATE, mp_state=state) == -EINVAL


# -- the FPU ---------------------------------------------------------------------------------------


def xsave(**parts: bytes) -> Any:  # noqa: ANN401  # a structure without fields
    """An area, from offsets such as at_512=b"..."."""
    area = bytearray(4096)
    for name, data in parts.items():
        at = int(name.removeprefix("at_"))
        area[at : at + len(data)] = data
    return x86.kvm_xsave(bytes(area))


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        (xsave(at_512=b"\x07"), 0),
        (xsave(at_512=b"\x08"), -EINVAL),
        (xsave(at_519=b"\x80"), -EINVAL),
        (xsave(at_520=b"\x01"), -EINVAL),
        (xsave(at_575=b"\x01"), -EINVAL),
        (xsave(at_512=b"\x02", at_26=b"\x01"), -EINVAL),
        (xsave(at_26=b"\x01"), 0),
    ],
)
def test_areas_that_can_be_and_that_cannot(area: Any, expected: int) -> None:  # noqa: ANN401
    assert Cpu().set(x86.KVM_XSAVE, area) == expected


def test_a_component_is_shown_where_cpuid_has_it() -> None:
    cpu = Cpu()
    area = xsave(at_512=b"\x07\x02", at_576=b"ymm", at_2688=b"pkruPADD")
    assert cpu.set(x86.KVM_XSAVE, area) == 0
    assert cpu.get(x86.KVM_XSAVE).region[512:576] == b"\x03" + bytes(63)
    cpu.supported_cpuid()
    region = cpu.get(x86.KVM_XSAVE).region
    assert region[512:520] == b"\x07\x02" + bytes(6)
    assert region[576:579] == b"ymm"
    assert region[2688:2696] == b"pkru" + bytes(4)


def test_both_ways_to_the_legacy_area() -> None:
    cpu = Cpu()
    assert cpu.set(x86.KVM_XSAVE, xsave(at_512=b"\x03", at_0=b"\x34\x12", at_160=b"xmm")) == 0
    fpu = cpu.get(x86.KVM_FPU)
    assert (fpu.fcw, fpu.xmm[:3]) == (0x1234, b"xmm")
    assert cpu.set(x86.KVM_FPU, fpu._replace(fcw=0x5678, last_ip=9)) == 0
    assert cpu.get(x86.KVM_XSAVE).region[:16] == b"\x78\x56" + bytes(6) + b"\x09" + bytes(7)


@pytest.mark.parametrize(
    ("xcr0", "expected"),
    [(0, -EINVAL), (1, 0), (2, -EINVAL), (3, 0), (5, -EINVAL), (7, 0), (0x207, 0), (9, -EINVAL)],
)
def test_values_of_xcr0(xcr0: int, expected: int) -> None:
    cpu = Cpu()
    one = x86.KVM_XCR.pack_fields(0, 0, xcr0).ljust(256, b"\0")
    bare = 0 if xcr0 == 1 else -EINVAL
    assert cpu.change(x86.KVM_XCRS, xcrs=one) == bare
    cpu.supported_cpuid()
    assert cpu.change(x86.KVM_XCRS, xcrs=one) == expected
    assert cpu.change(x86.KVM_XCRS, nr_xcrs=17) == -EINVAL


# -- CPUID -----------------------------------------------------------------------------------------


def leaves(cpu: Cpu) -> dict[tuple[int, int], x86.kvm_cpuid_entry2]:
    size = x86.KVM_CPUID_ENTRY2.size
    address = cpu.program.put(x86.KVM_CPUID2.pack_fields(100, 0) + bytes(100 * size))
    assert cpu.program.ioctl(cpu.fd, x86.KVM_GET_CPUID2, address) == 0
    count = x86.KVM_CPUID2.unpack(cpu.program.mm.read(address, 8)).nent
    data = cpu.program.mm.read(address + 8, count * size)
    found = (x86.KVM_CPUID_ENTRY2.unpack(data[at : at + size]) for at in range(0, len(data), size))
    return {(entry.function, entry.index): entry for entry in found}


def test_cpuid_follows_the_state_of_the_processor() -> None:
    cpu = Cpu()
    cpu.supported_cpuid()
    assert leaves(cpu)[1, 0].ecx >> 27 & 1 == 0
    assert leaves(cpu)[0xD, 0].ebx == 576
    assert cpu.change(x86.KVM_SREGS, cr4=1 << 18 | 1 << 22) == 0
    assert leaves(cpu)[1, 0].ecx >> 27 & 1 == 1
    assert leaves(cpu)[7, 0].ecx >> 4 & 1 == 1
    one = x86.KVM_XCR.pack_fields(0, 0, 7).ljust(256, b"\0")
    assert cpu.change(x86.KVM_XCRS, xcrs=one) == 0
    assert leaves(cpu)[0xD, 0].ebx == 832
    assert cpu.change(x86.KVM_SREGS, apic_base=0xFEE00000) == 0
    assert leaves(cpu)[1, 0].edx >> 9 & 1 == 0


def test_cpuid_that_cannot_be() -> None:
    cpu = Cpu()
    leaf = x86.kvm_cpuid_entry2(0x80000008, 0, 0, 47 << 8, 0, 0, 0, bytes(12))
    one = x86.KVM_CPUID2.pack_fields(1, 0) + x86.KVM_CPUID_ENTRY2.pack(leaf)
    assert cpu.call(x86.KVM_SET_CPUID2, one) == -EINVAL
    assert cpu.call(x86.KVM_SET_CPUID2, x86.KVM_CPUID2.pack_fields(257, 0)) == -E2BIG
    old = x86.KVM_CPUID.pack_fields(1, 0) + x86.KVM_CPUID_ENTRY.pack_fields(1, 2, 3, 4, 5, 0)
    assert cpu.call(x86.KVM_SET_CPUID, old) == 0
    assert leaves(cpu)[1, 0].ecx == 4


# -- MSRs ------------------------------------------------------------------------------------------

COUPLED = {0x40000000, 0x40000001, 0x40000003}  # where one register changes another


def as_recorded(cpu: Cpu, index: int, recorded: Any) -> None:  # noqa: ANN401  # an Msr
    """Each single bit is taken, and kept, as the recording says."""
    if not recorded.clock:
        assert cpu.msr(index) == recorded.value
    assert (cpu.msr(index, 0) is not None) == recorded.takes_zero
    before = cpu.msr(index)
    taken = kept = 0
    changes = before != recorded.value
    for bit in (1 << n for n in range(64)):
        if cpu.msr(index, bit) is not None:
            taken |= bit
            now = cpu.msr(index)
            kept |= bit if now == bit else 0
            changes |= now != recorded.value
    assert taken == recorded.taken
    if not recorded.clock:
        assert (kept if changes else 0) == recorded.kept


@pytest.mark.parametrize("linux", ["6.1", "6.12", "6.18", "7.3"])
@pytest.mark.parametrize("cpuid", [False, True], ids=["bare", "cpuid"])
def test_every_register_takes_the_bits_it_was_recorded_to_take(linux: str, cpuid: bool) -> None:
    cpu = Cpu(PROFILES[linux])
    table = cpu.recorded.msrs_with_cpuid if cpuid else cpu.recorded.msrs
    assert len(table) > 150
    for index in table.keys() - COUPLED:
        cpu = Cpu(PROFILES[linux])
        if cpuid:
            cpu.supported_cpuid()
        as_recorded(cpu, index, table[index])


def test_registers_that_are_seen_elsewhere_too() -> None:
    cpu = Cpu()
    assert cpu.msr(0xC0000080, 1 << 11) is not None
    assert cpu.get(x86.KVM_SREGS).efer == 1 << 11
    assert cpu.msr(0xC0000100, 0x7000) is not None
    assert cpu.get(x86.KVM_SREGS).fs[:8] == (0x7000).to_bytes(8, "little")
    assert cpu.msr(0x1B, 0xFEE00100) is not None
    assert cpu.get(x86.KVM_SREGS).apic_base == 0xFEE00100
    assert cpu.msr(0x12, 0x5000) is not None
    assert cpu.msr(0x4B564D01) == 0x5000


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0x277, 0x0007040600070406),
        (0x277, None),
        (0x250, 0x0606060606060606),
        (0xC0000082, 0xFFFF_8000_0000_0000),
        (0x401, (1 << 64) - 1),
        (0x400, (1 << 64) - 1),
    ],
)
def test_values_of_many_bits(index: int, value: int | None) -> None:
    cpu = Cpu()
    if value is None:
        assert cpu.msr(index, 0x0202) is None
    else:
        assert cpu.msr(index, value) is not None
        assert cpu.msr(index) == value


def test_hyper_vs_registers_are_the_vms() -> None:
    cpu = Cpu()
    other = cpu.program.ioctl(cpu.vm, KVM_CREATE_VCPU, 1)
    assert cpu.msr(0x40000021, 0x1234) is not None
    cpu.fd = other
    assert cpu.msr(0x40000021) == 0x1234
    assert cpu.msr(0x40000002) == 1


def one_reg(cpu: Cpu, request: int, name: int, address: int) -> int:
    return cpu.program.ioctl(
        cpu.fd, request, cpu.program.put(x86.KVM_ONE_REG.pack_fields(name, address))
    )


def test_msrs_have_names_too() -> None:
    cpu = Cpu(PROFILES["7.3"])
    value = cpu.program.put((7).to_bytes(8, "little"))
    named = 0x2030_0002 << 32
    assert one_reg(cpu, x86.KVM_SET_ONE_REG, named | 0x174, value) == 0
    assert cpu.msr(0x174) == 7
    read = cpu.program.put(bytes(8))
    assert one_reg(cpu, x86.KVM_GET_ONE_REG, named | 0x174, read) == 0
    assert cpu.program.mm.read(read, 1) == b"\x07"
    assert one_reg(cpu, x86.KVM_GET_ONE_REG, named | 0x174, 0) == -EFAULT
    for wrong in (named + (1 << 32), named | 1 << 40, named ^ 1 << 52, 0x6030 << 48):
        assert one_reg(cpu, x86.KVM_GET_ONE_REG, wrong | 0x174, read) == -EINVAL
    assert one_reg(cpu, x86.KVM_GET_ONE_REG, named | 0xE1, read) == -EINVAL
    assert one_reg(Cpu(), x86.KVM_GET_ONE_REG, named | 0x174, read) == -EINVAL


# -- machine checks --------------------------------------------------------------------------------


def test_machine_checks_are_set_up_and_reported() -> None:
    cpu = Cpu()

    def report(status: int, bank: int = 1) -> int:
        mce = x86.KVM_X86_MCE.pack_fields(status, 0x1000, 0, 0, bank, bytes(7), bytes(24))
        return cpu.call(x86.KVM_X86_SET_MCE, mce)

    for wrong in (0, 33, 1 << 24 | 1 << 9 | 4):
        assert cpu.call(x86.KVM_X86_SETUP_MCE, wrong.to_bytes(8, "little")) == -EINVAL
    assert cpu.call(x86.KVM_X86_SETUP_MCE, (0x104).to_bytes(8, "little")) == 0
    assert (cpu.msr(0x179), cpu.msr(0x17B), cpu.msr(0x404)) == (0x104, (1 << 64) - 1, (1 << 64) - 1)
    assert cpu.msr(0x410) is None
    assert report(0) == report(1 << 63, bank=4) == -EINVAL
    assert report(1 << 63 | 5) == 0
    assert (cpu.msr(0x405), cpu.msr(0x406)) == (1 << 63 | 5, 0x1000)
    assert report(1 << 63 | 6) == 0
    assert cpu.msr(0x405) == 1 << 63 | 1 << 62 | 6


# -- a local APIC of KVM's -------------------------------------------------------------------------


class WithApic(Cpu):
    """The same where the VM has an interrupt controller in the kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int = 0) -> None:
        from kvm_vfio.kernel.kvm.vm import Vm  # noqa: PLC0415  # patched before a vCPU is made

        for name in ("irqchip_in_kernel", "pic_in_kernel"):
            monkeypatch.setattr(Vm, name, property(lambda _: True))
        super().__init__()
        if number:
            self.fd = self.program.ioctl(self.vm, KVM_CREATE_VCPU, number)


def test_a_fresh_local_apic_is_as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = WithApic(monkeypatch)
    assert cpu.get(x86.KVM_LAPIC_STATE).regs == cpu.recorded.fresh("lapic")
    assert cpu.get(x86.KVM_MP_STATE).mp_state == x86.KVM_MP_STATE_RUNNABLE
    second = WithApic(monkeypatch, 5)
    assert second.get(x86.KVM_LAPIC_STATE).regs[0x20:0x24] == bytes(3) + b"\x05"
    assert second.get(x86.KVM_MP_STATE).mp_state == x86.KVM_MP_STATE_UNINITIALIZED


def test_the_task_priority_is_in_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = WithApic(monkeypatch)
    regs = bytearray(cpu.get(x86.KVM_LAPIC_STATE).regs)
    regs[0x80] = 0x5F
    assert cpu.set(x86.KVM_LAPIC_STATE, x86.kvm_lapic_state(bytes(regs))) == 0
    assert cpu.get(x86.KVM_SREGS).cr8 == 5
    assert cpu.get(x86.KVM_LAPIC_STATE).regs[0xA0] == 0x5F
    assert cpu.change(x86.KVM_SREGS, cr8=3) == 0
    assert cpu.get(x86.KVM_LAPIC_STATE).regs[0x80] == 0x30


def test_a_start_up_interrupt_starts_a_vcpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = WithApic(monkeypatch, 1)
    flags = x86.KVM_VCPUEVENT_VALID_SIPI_VECTOR
    assert cpu.change(x86.KVM_VCPU_EVENTS, flags=flags, sipi_vector=0x9A) == 0
    assert cpu.change(x86.KVM_MP_STATE, mp_state=x86.KVM_MP_STATE_SIPI_RECEIVED) == 0
    assert cpu.get(x86.KVM_MP_STATE).mp_state == x86.KVM_MP_STATE_RUNNABLE
    cs = x86.KVM_SEGMENT.unpack(cpu.get(x86.KVM_SREGS).cs)
    assert (cs.selector, cs.base, cpu.get(x86.KVM_REGS).rip) == (0x9A00, 0x9A000, 0)


def test_smm_holds_a_start_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = WithApic(monkeypatch)
    assert cpu.change(x86.KVM_VCPU_EVENTS, flags=x86.KVM_VCPUEVENT_VALID_SMM, smi_smm=1) == 0
    assert cpu.change(x86.KVM_MP_STATE, mp_state=x86.KVM_MP_STATE_INIT_RECEIVED) == -EINVAL
    assert cpu.change(x86.KVM_MP_STATE, mp_state=x86.KVM_MP_STATE_HALTED) == 0


def test_an_interrupt_comes_from_a_pic_in_user_space_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = WithApic(monkeypatch)
    vector = (9).to_bytes(4, "little")
    assert cpu.call(x86.KVM_INTERRUPT, vector) < 0
    from kvm_vfio.kernel.kvm.vm import Vm  # noqa: PLC0415  # as above

    monkeypatch.setattr(Vm, "pic_in_kernel", property(lambda _: False))
    assert cpu.call(x86.KVM_INTERRUPT, vector) == 0
    assert cpu.call(x86.KVM_INTERRUPT, vector) == -EEXIST


# -- the rest --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "expected"), [(0, -E2BIG), (127, -E2BIG), (128, 0), (9999, 0)])
def test_room_for_the_nested_state(size: int, expected: int) -> None:
    cpu = Cpu()
    state = cpu.program.struct(x86.KVM_NESTED_STATE, size=size)
    assert cpu.program.ioctl(cpu.fd, x86.KVM_GET_NESTED_STATE, state) == expected
    assert state.value.size == 128


def test_without_paging_every_address_is_its_own() -> None:
    cpu = Cpu()
    asked = cpu.program.struct(x86.KVM_TRANSLATION, linear_address=0x1234)
    assert cpu.program.ioctl(cpu.fd, x86.KVM_TRANSLATE, asked) == 0
    assert (asked.value.physical_address, asked.value.valid) == (0x1234, 1)
    assert cpu.change(x86.KVM_SREGS, cr0=PG | PE) == 0
    assert cpu.program.ioctl(cpu.fd, x86.KVM_TRANSLATE, asked) == 0
    assert (asked.value.physical_address, asked.value.valid) == ((1 << 64) - 1, 0)


@pytest.mark.parametrize(("size", "expected"), [(4, -EINVAL), (8, 0), (16, -EINVAL)])
def test_a_signal_mask_has_eight_bytes(size: int, expected: int) -> None:
    assert Cpu().call(x86.KVM_SET_SIGNAL_MASK, size.to_bytes(4, "little") + bytes(16)) == expected


def test_the_tsc_cannot_be_slowed_down() -> None:
    cpu = Cpu()
    khz = cpu.program.ioctl(cpu.fd, KVM_GET_TSC_KHZ)
    assert khz == cpu.recorded.tsc_khz
    assert cpu.program.ioctl(cpu.fd, KVM_SET_TSC_KHZ, khz + 10_000) == 0
    assert cpu.program.ioctl(cpu.fd, KVM_SET_TSC_KHZ, khz - 10_000) == -EINVAL
    assert cpu.program.ioctl(cpu.fd, KVM_GET_TSC_KHZ) == khz - 10_000
