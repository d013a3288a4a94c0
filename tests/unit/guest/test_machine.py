# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU is told, and what the agent is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from kvm_vfio.guest import plan
from kvm_vfio.guest.machine import CHANNEL_BYTES, MEMORY_BYTES, Files, command
from kvm_vfio.guest.packages import GuestKernel
from kvm_vfio.machine.load import load_machine

FILES = Files("/memory", "/console", "/vmlinuz", "/initrd")
KERNEL = GuestKernel("6.1", "6.1.0", (), ("kvm.ko", "vfio.ko"), Path("/cache"))


def devices(*, snoop: bool) -> list[str]:
    words = list(command(FILES, snoop=snoop))
    return [after for word, after in pairwise(words) if word == "-device"]


def test_every_device_that_vfio_can_have_is_where_the_described_machine_has_it() -> None:
    places = {
        word.partition("addr=")[2].split(",")[0] for word in devices(snoop=True) if "addr=" in word
    }
    described = {
        device.address.removeprefix("0000:00:") for _, device in load_machine("referee").devices()
    }
    assert places <= described
    assert places == {address.removeprefix("0000:00:") for address in plan.DRIVERS}


def test_snoop_control_is_the_iommus() -> None:
    assert devices(snoop=True)[0] == "intel-iommu,intremap=on,snoop-control=on"
    assert devices(snoop=False)[0] == "intel-iommu,intremap=on,snoop-control=off"


def test_the_kernel_leaves_the_channel_alone() -> None:
    words = list(command(FILES, snoop=True))
    line = words[words.index("-append") + 1]
    size, _, place = line.partition("memmap=")[2].split()[0].partition("$")
    assert int(place.removesuffix("M")) << 20 == plan.CHANNEL_ADDRESS
    assert int(size.removesuffix("M")) << 20 >= CHANNEL_BYTES
    assert plan.CHANNEL_ADDRESS + CHANNEL_BYTES < MEMORY_BYTES


def test_the_plan_maps_the_channel_before_anything_can_fail() -> None:
    lines = plan.text(KERNEL).splitlines()
    assert (
        lines[0]
        == f"channel {plan.CHANNEL_ADDRESS:#x} {plan.REQUEST_BYTES:#x} {plan.ANSWER_BYTES:#x}"
    )
    assert [line.split()[1] for line in lines if line.startswith("module ")] == [
        "/modules/kvm.ko",
        "/modules/vfio.ko",
        "/modules/kvm_vfio_force.ko",
    ]


def test_what_forces_answers_is_loaded_before_what_watches_them() -> None:
    lines = plan.text(KERNEL).splitlines()
    first_probe = next(i for i, line in enumerate(lines) if line.startswith("probe "))
    assert lines.index("module /modules/kvm_vfio_force.ko") < first_probe
    without = plan.text(replace(KERNEL, no_force="no headers"))
    assert "kvm_vfio_force" not in without


def test_drivers_are_bound_as_in_the_described_machine() -> None:
    described = {d.address: d.driver for _, d in load_machine("referee").devices() if d.driver}
    assert described == plan.DRIVERS


def test_a_probe_has_a_line_for_each_name_its_function_has_had() -> None:
    lines = [line for line in plan.text(KERNEL).splitlines() if line.startswith("probe ")]
    assert len(lines) == sum(len(probe.functions) for probe in plan.PROBES)
    assert "probe 6 p:x/p6 vfio_file_set_kvm a=$arg2" in lines
    assert "probe 6 p:x/p6 vfio_group_set_kvm a=$arg2" in lines
    assert "probe 7 r:x/p7 vfio_file_enforced_coherent a=$retval:u8" in lines
