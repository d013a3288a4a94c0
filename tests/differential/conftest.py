# SPDX-License-Identifier: GPL-2.0-only
"""A real Linux 6.1 under QEMU, booted once for all tests that want it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvm_vfio.guest import packages
from kvm_vfio.guest.guest import Guest
from kvm_vfio.guest.process import GuestSyscalls
from kvm_vfio.scenario.kernels import GuestKernel
from tests.support import need_guest_kernel

LINUX = "6.1"


@pytest.fixture(scope="session")
def kernel() -> packages.GuestKernel:
    """The kernel, fetched if it is not there."""
    return need_guest_kernel(LINUX)


@pytest.fixture(scope="session", params=[False, True], ids=["off", "on"])
def linux(kernel: packages.GuestKernel, request: pytest.FixtureRequest) -> Iterator[GuestKernel]:
    guest = GuestKernel(LINUX, snoop=request.param)
    yield guest
    guest.close()


@pytest.fixture(scope="session")
def guest(kernel: packages.GuestKernel) -> Iterator[Guest]:
    with Guest(kernel, snoop=False) as guest:
        yield guest.ready()


@pytest.fixture
def process(guest: Guest) -> Iterator[GuestSyscalls]:
    yield GuestSyscalls(guest)
    guest.renew()
