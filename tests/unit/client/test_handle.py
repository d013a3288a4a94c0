# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from kvm_vfio import Kvm, Vm, model
from kvm_vfio.client.handle import Handle, fd_of
from tests.unit.client.refusal import errno_of


def test_a_handle_closes_its_fd_when_the_block_ends() -> None:
    linux = model()
    with Kvm(linux) as kvm:
        fd = kvm.fileno()
    assert linux.files.peek(fd) is None


def test_it_closes_also_when_the_block_raises() -> None:
    linux = model()
    with pytest.raises(RuntimeError), Kvm(linux):
        raise RuntimeError
    assert linux.files.numbers() == [0, 1, 2]


def test_closing_twice_does_nothing() -> None:
    linux = model()
    kvm = Kvm(linux)
    kvm.close()
    other = Kvm(linux)  # has the same number now
    kvm.close()
    assert other.api_version() == 12


def test_a_closed_handle_gets_the_kernels_own_ebadf() -> None:
    kvm = Kvm(model())
    kvm.close()
    assert kvm.fileno() == -1
    assert errno_of(kvm.api_version) == "EBADF"


def test_an_fd_is_a_number_or_an_object_that_has_one() -> None:
    handle = Handle(model(), 7)
    assert fd_of(handle) == fd_of(7) == 7


def test_a_handle_says_what_it_is() -> None:
    assert repr(Vm(model(), 5)) == "<Vm fd 5>"


def test_an_fd_that_came_from_elsewhere_is_taken_over() -> None:
    linux = model()
    there = Kvm(linux)
    other = linux.fork()
    with Kvm(other, fd=linux.send(there.fileno(), other)) as kvm:
        assert kvm.api_version() == 12
