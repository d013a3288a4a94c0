# SPDX-License-Identifier: GPL-2.0-only
"""What the KVM-VFIO device is for: whether a device can read what the guest has overwritten.

The claim: if every VFIO group of a VM is registered with its KVM-VFIO device, a guest that issues
WBINVD before No-Snoop DMA never lets a device read stale data, whatever CPUs its vCPU runs on. Take
the registration of one group away, and a search finds a counterexample.

The CPUs have one cache. Where each has its own, KVM must know where the vCPU has been, and the
tests below show what it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kvm_vfio.kernel.x86.cache import CpuCaches
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from tools.coherency.__main__ import PAGE, counterexample, page
from tools.coherency.play import GROUPS, PLACES, Guest, Step, play

CPUS = st.integers(0, 3)
PLACE = st.integers(0, PLACES - 1)
VALUES = st.integers(0, 255)
DEVICES = st.sampled_from(GROUPS)


class Driven(RuleBasedStateMachine):
    """A guest whose driver does what it must. `register`: the groups that KVM is told of."""

    register: Sequence[int] = GROUPS
    sharing: int | None = None

    @initialize(profile=st.sampled_from(list(PROFILES.values())), snoop_control=st.booleans())
    def boot(self, profile: Profile, snoop_control: bool) -> None:
        self.start(profile, snoop_control=snoop_control)

    def start(self, profile: Profile, *, snoop_control: bool) -> None:
        self.guest = Guest(profile, snoop_control, CpuCaches(self.sharing))
        self.guest.assign(register=self.register)
        self.stored = [0] * PLACES

    def write_back(self) -> None:
        """What the driver does before DMA."""
        self.guest.wbinvd()

    @rule(cpu=CPUS)
    def the_vcpu_moves(self, cpu: int) -> None:
        self.guest.run_on(cpu)

    @rule(place=PLACE, value=VALUES)
    def the_guest_stores(self, place: int, value: int) -> None:
        self.guest.store(place, value)
        self.stored[place] = value

    @rule(device=DEVICES, place=PLACE)
    def a_device_reads(self, device: int, place: int) -> None:
        self.write_back()
        assert self.guest.device_reads(device, place) == self.stored[place]

    @rule(device=DEVICES, place=PLACE, value=VALUES)
    def a_device_writes(self, device: int, place: int, value: int) -> None:
        self.write_back()
        self.guest.device_writes(device, place, value)
        self.stored[place] = value

    @rule(device=DEVICES)
    def a_group_is_added_again(self, device: int) -> None:
        if device in self.register:
            with pytest.raises(FileExistsError):
                self.guest.kvm_vfio.add(self.guest.groups[device])

    @invariant()
    def the_guest_sees_the_newest(self) -> None:
        if hasattr(self, "guest"):
            assert [self.guest.load(place) for place in range(PLACES)] == self.stored


class Forgotten(Driven):
    """The group whose IOMMU cannot force snooping is not registered, on the default kernel."""

    register = (1,)

    @initialize()
    def boot(self) -> None:
        self.start(DEFAULT, snoop_control=False)


class Apart(Driven):
    """Each CPU has its own cache, and the vCPU is scheduled in anew after each WBINVD."""

    sharing = 1

    def write_back(self) -> None:
        self.guest.wbinvd()
        self.guest.run_on(self.guest.vcpu.cpu)


SEARCH = settings(max_examples=100, stateful_step_count=25)


@pytest.mark.parametrize("guest", [Driven, Apart])
def test_with_every_group_registered_no_device_reads_stale_data(guest: type[Driven]) -> None:
    run_state_machine_as_test(guest, settings=SEARCH)


def test_with_one_forgotten_there_is_a_counterexample() -> None:
    search = settings(
        SEARCH, phases=[Phase.generate], database=None, derandomize=True, max_examples=5000
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Forgotten, settings=search)


def test_the_shortest_counterexample() -> None:
    assert counterexample(register=[1]) == [Step("store", 1), Step("dma", 2)]
    assert counterexample(register=[]) == [Step("store", 1), Step("dma", 2)]


@pytest.mark.parametrize("register", [[], [1], [2], [1, 2]])
def test_an_iommu_that_forces_snooping_needs_nobody(register: list[int]) -> None:
    guest = Guest(snoop_control=True)
    guest.assign(register=register)
    told = play(guest, [Step("store", 7), Step("dma", 1), Step("store", 8), Step("dma", 2)])
    assert told[2::3] == ["the device reads 7", "the device reads 8"]
    assert [line for line in told if "WBINVD" in line] == ["the guest executes WBINVD: a no-op"] * 2


def test_a_registration_that_comes_late_does_not_cover_a_cpu_that_was_left() -> None:
    """kvm_arch_vcpu_load marks a CPU only while noncoherent DMA is registered."""
    guest = Guest(caches=CpuCaches(sharing=1))
    guest.assign(register=[])
    guest.store(0, 7)  # on CPU 0
    guest.run_on(1)
    guest.kvm_vfio.add(guest.groups[2])
    (_, reads) = play(guest, [Step("dma", 2)])
    assert reads == "STALE: the device reads 0, and the guest has stored 7"


def test_a_cpu_that_the_vcpu_stayed_on_after_a_wbinvd_and_then_left_is_not_covered() -> None:
    """kvm_emulate_wbinvd clears the mask, and only kvm_arch_vcpu_load marks the CPU again."""
    guest = Guest(caches=CpuCaches(sharing=1))
    guest.assign(register=GROUPS)
    steps = [Step("dma", 2), Step("store", 7), Step("run", 1), Step("dma", 2)]
    assert play(guest, steps)[-2:] == [
        "the guest executes WBINVD: executed on CPU 1",
        "STALE: the device reads 0, and the guest has stored 7",
    ]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_group_that_is_registered_before_it_has_a_container(profile: Profile) -> None:
    """In 6.1 it counts as coherent then, and nobody looks again; in older kernels it is refused."""
    guest = Guest(profile)
    if profile.member_is_group:
        with pytest.raises(OSError, match="Invalid argument"):
            guest.assign(register=GROUPS, container_first=False)
        return
    guest.assign(register=GROUPS, container_first=False)
    stale = play(guest, [Step("store", 7), Step("dma", 2)])[-1].startswith("STALE")
    assert stale == (profile.name == "6.1")


def test_a_no_snoop_write_below_a_dirty_line_is_lost() -> None:
    guest = Guest()
    guest.assign(register=GROUPS)
    guest.store(0, 1)
    guest.device_writes(2, 0, 9)
    assert (guest.load(0), guest.in_memory(0)) == (1, 9)
    guest.wbinvd()
    assert (guest.load(0), guest.in_memory(0)) == (1, 1)


def test_a_snooped_write_is_not() -> None:
    guest = Guest(snoop_control=True)
    guest.assign(register=GROUPS)
    guest.store(0, 1)
    guest.device_writes(2, 0, 9)
    assert (guest.load(0), guest.in_memory(0)) == (9, 9)


def test_the_page_shows_what_is_found() -> None:
    assert page() == PAGE.read_text(), "run: python -m tools.coherency"
