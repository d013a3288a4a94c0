# SPDX-License-Identifier: GPL-2.0-only
"""A VM's memory, interrupts and events as typed calls."""

from __future__ import annotations

from errno import EBUSY, EEXIST, EINVAL, ENOENT, ENXIO

import pytest

from kvm_vfio import Kvm, ModelSyscalls, Vm, model
from kvm_vfio.kernel.kvm.io_bus import Bus
from kvm_vfio.kernel.kvm.vm import VmFile

PAGE = 4096


@pytest.fixture
def linux() -> ModelSyscalls:
    return model("6.12")


@pytest.fixture
def vm(linux: ModelSyscalls) -> Vm:
    return Kvm(linux).create_vm()


def refused(error: pytest.ExceptionInfo[OSError]) -> int | None:
    return error.value.errno


def test_memory_slots(linux: ModelSyscalls, vm: Vm) -> None:
    memory = linux.mmap(-1, 70 * PAGE)
    vm.set_memory_slot(0, 0, memory)
    vm.set_memory_slot(0, 0, memory, log_dirty=True)
    assert vm.dirty_log(0, 70) == bytes(16)
    with pytest.raises(OSError) as error:  # noqa: PT011  # the errno is checked below
        vm.set_memory_slot(1, 0, memory)
    assert refused(error) == EEXIST
    assert "slot 0x0 is there already" in error.value.__notes__[0]
    vm.set_memory_slot(1, 70 * PAGE, memory, read_only=True)
    vm.delete_memory_slot(0)
    with pytest.raises(OSError) as error:  # noqa: PT011
        vm.delete_memory_slot(0)
    assert refused(error) == EINVAL
    with pytest.raises(FileNotFoundError):
        vm.dirty_log(1, 70)


def test_irqfds(linux: ModelSyscalls, vm: Vm) -> None:
    event, other = linux.eventfd(), linux.eventfd()
    with pytest.raises(OSError) as error:  # noqa: PT011
        vm.set_irq_line(5, level=True)
    assert refused(error) == ENXIO
    vm.create_irqchip()
    assert [vm.set_irq_line(5, level=level) for level in (True, False)] == [1, 2]
    assert vm.set_irq_line(20, level=True) == -1
    vm.add_irqfd(event, 5)
    with pytest.raises(OSError) as error:  # noqa: PT011
        vm.add_irqfd(event, 6)
    assert refused(error) == EBUSY
    vm.add_irqfd(other, 7, resample=event)
    linux.write(event, (1).to_bytes(8, "little"))
    with pytest.raises(BlockingIOError):  # the interrupt took it
        linux.read(event, 8)
    vm.remove_irqfd(event, 5)
    vm.remove_irqfd(event, 5)
    linux.write(event, (1).to_bytes(8, "little"))
    assert linux.read(event, 8) == (1).to_bytes(8, "little")


def test_ioeventfds(linux: ModelSyscalls, vm: Vm) -> None:
    event = linux.eventfd()
    vm.add_ioeventfd(event, 0x1000, 4)
    vm.add_ioeventfd(event, 0x1000, 2, data=7, port=True)
    with pytest.raises(FileExistsError):
        vm.add_ioeventfd(event, 0x1000, 4, data=1)
    file = linux.files.get(vm.fileno())
    assert isinstance(file, VmFile)
    assert file.vm.buses.write(Bus.PIO, 0x1000, b"\7\0")
    assert file.vm.buses.write(Bus.MMIO, 0x1000, b"ring")
    assert linux.read(event, 8) == (2).to_bytes(8, "little")
    vm.remove_ioeventfd(event, 0x1000, 2, data=7, port=True)
    with pytest.raises(OSError) as error:  # noqa: PT011
        vm.remove_ioeventfd(event, 0x1000, 2, data=7, port=True)
    assert refused(error) == ENOENT
