# SPDX-License-Identifier: GPL-2.0-only
"""What a function has in configuration space where the description gives it byte by byte."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvm_vfio.kernel.pci.config import hardware
from kvm_vfio.machine.load import load_machine
from kvm_vfio.machine.model import ConfigBytes
from kvm_vfio.profiles.profile import Profile
from kvm_vfio.profiles.table import LINUX_6_18, LINUX_7_3
from tests.unit.kernel.program import edu

REFEREE = {device.address: device for _, device in load_machine("referee").devices()}
E1000E = REFEREE["0000:00:13.0"]


def test_bars_say_where_they_are() -> None:
    data, _ = hardware(E1000E, LINUX_6_18, dict(E1000E.addresses))
    assert data[0x10:0x20].hex() == "0000b0fe0000b2fe41c100000000b4fe"


def test_described_bytes_stand_in_the_place_of_what_would_be_laid_out() -> None:
    device = edu(
        "0000:00:10.0", config=(ConfigBytes(0x34, b"\x50"), ConfigBytes(0x50, b"\x09\0\4"))
    )
    data, writable = hardware(device, LINUX_6_18, {0: 0})
    assert (data[0x34], data[0x40], bytes(data[0x50:0x53])) == (0x50, 0, b"\x09\0\4")
    assert writable[0x4F:0x55] == b"\xff\0\0\0\0\xff"  # the capability's four bytes are its own


@pytest.mark.parametrize(("profile", "masked"), [(LINUX_6_18, 0xE000), (LINUX_7_3, 0xC000)])
def test_linux_lets_advisory_errors_be_reported(profile: Profile, masked: int) -> None:
    data, _ = hardware(E1000E, profile, dict(E1000E.addresses))
    assert int.from_bytes(data[0x114:0x118], "little") == masked


def test_a_list_that_leads_back_to_itself_ends() -> None:
    loop = (ConfigBytes(0x34, b"\x40"), ConfigBytes(0x40, b"\x01\x40\x03\0"))
    assert hardware(replace(E1000E, config=loop), LINUX_6_18, dict(E1000E.addresses))
