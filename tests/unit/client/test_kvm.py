# SPDX-License-Identifier: GPL-2.0-only
"""The client's KVM objects: each method makes its call, and says no as Linux does."""

from __future__ import annotations

import pytest

from kvm_vfio import Container, Group, Kvm, KvmVfio, ModelSyscalls, Vm, model
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.machine.load import load_machine
from kvm_vfio.profiles import PROFILES
from kvm_vfio.uapi.kvm import (
    KVM_API_VERSION,
    KVM_CAP_DEVICE_CTRL,
    KVM_CAP_NR_VCPUS,
    KVM_CREATE_DEVICE_TEST,
    KVM_DEV_TYPE_VFIO,
)
from tests.unit.client.refusal import errno_of, note_of


@pytest.fixture
def linux() -> ModelSyscalls:
    return model()


@pytest.fixture
def vm(linux: ModelSyscalls) -> Vm:
    return Kvm(linux).create_vm()


@pytest.fixture
def device(vm: Vm) -> KvmVfio:
    return vm.create_kvm_vfio()


def without_kvm_vfio() -> ModelSyscalls:
    kernel = Kernel(load_machine("default"), PROFILES["6.12"], selects_kvm_vfio=False)
    return ModelSyscalls(kernel)


def test_the_system(linux: ModelSyscalls) -> None:
    kvm = Kvm(linux)
    assert kvm.api_version() == KVM_API_VERSION
    assert kvm.check_extension(KVM_CAP_DEVICE_CTRL) == 1
    assert errno_of(lambda: kvm.create_vm(7)) == "EINVAL"
    assert kvm.check_extension(KVM_CAP_NR_VCPUS) == 1


def test_a_vm_answers_for_its_extensions(vm: Vm) -> None:
    assert vm.check_extension(KVM_CAP_DEVICE_CTRL) == 1


def test_a_kernel_with_kvm_vfio_says_so_and_makes_nothing(linux: ModelSyscalls, vm: Vm) -> None:
    before = linux.files.numbers()
    assert vm.has_kvm_vfio()
    assert vm.create_device(KVM_DEV_TYPE_VFIO, KVM_CREATE_DEVICE_TEST) == -1
    assert linux.files.numbers() == before


def test_a_kernel_without_kvm_vfio_says_so() -> None:
    vm = Kvm(without_kvm_vfio()).create_vm()
    assert not vm.has_kvm_vfio()
    assert errno_of(vm.create_kvm_vfio) == "ENODEV"


def test_an_error_that_is_no_answer_to_the_question_is_raised(linux: ModelSyscalls) -> None:
    vm = Kvm(linux).create_vm()
    assert errno_of(Vm(linux.fork(), vm.fileno()).has_kvm_vfio) == "EIO"


def test_a_vm_has_one_kvm_vfio_device(vm: Vm, device: KvmVfio) -> None:
    assert errno_of(vm.create_kvm_vfio) == "EBUSY"
    assert note_of(vm.create_kvm_vfio) == (
        "KVM_CREATE_DEVICE: the VM has a KVM-VFIO device already, and can have one"
    )


def test_what_attributes_the_device_has(device: KvmVfio) -> None:
    assert device.has_attr(1, 1)
    assert device.has_attr(1, 2)
    assert not device.has_attr(1, 3)
    assert not device.has_attr(2, 1)


def test_an_attribute_asked_for_from_another_process_is_an_error(
    linux: ModelSyscalls, device: KvmVfio
) -> None:
    child = linux.fork()
    assert errno_of(lambda: KvmVfio(child, device.fileno()).has_attr(1, 1)) == "EIO"


def test_members_come_and_go_by_object_and_by_fd(linux: ModelSyscalls, device: KvmVfio) -> None:
    group = Group(linux, 1)
    device.add(group)
    assert errno_of(lambda: device.add(group.fileno())) == "EEXIST"
    assert note_of(lambda: device.add(group.fileno())) == (
        "KVM_SET_DEVICE_ATTR: VFIO group 1 is a member already"
    )
    device.delete(group.fileno())
    assert errno_of(lambda: device.delete(group)) == "ENOENT"


def test_what_is_no_member(linux: ModelSyscalls, device: KvmVfio) -> None:
    assert errno_of(lambda: device.add(Container(linux))) == "EINVAL"
    assert errno_of(lambda: device.add(-1)) == "EBADF"
    assert errno_of(lambda: device.delete(device)) == "ENOENT"


def test_an_attribute_is_set_by_address_or_from_a_buffer(
    linux: ModelSyscalls, device: KvmVfio
) -> None:
    group = Group(linux, 1)
    fd = linux.buffer(4)
    fd.write(group.fileno().to_bytes(4, "little"))
    device.set_attr(1, 1, fd)
    device.set_attr(1, 2, fd.address)
    assert errno_of(lambda: device.set_attr(1, 1, 0)) == "EFAULT"
    assert errno_of(lambda: device.set_attr(1, 9, 0)) == "ENXIO"


def test_no_attribute_can_be_read(linux: ModelSyscalls, device: KvmVfio) -> None:
    assert errno_of(lambda: device.get_attr(1, 1, 0)) == "EPERM"
    assert errno_of(lambda: device.get_attr(1, 1, linux.buffer(4))) == "EPERM"


def test_legacy_assignment_in_the_kernel_of_the_patch() -> None:
    linux = model("2013")
    vm = Kvm(linux).create_vm()
    vm.assign_pci_device(1, "0000:00:10.0")
    assert linux.explain() == (
        "VM 1: WBINVD is executed: legacy device assignment of 0000:00:10.0: an IOMMU lacks snoop"
        " control"
    )
    assert errno_of(lambda: vm.assign_pci_device(1, "0000:00:11.0")) == "EEXIST"
    assert errno_of(lambda: vm.assign_pci_device(2, "0000:ff:1f.7")) == "EINVAL"
    assert errno_of(lambda: vm.assign_pci_device(2, "0000:00:11.0", flags=0)) == "EINVAL"
    vm.deassign_pci_device(1)
    assert errno_of(lambda: vm.deassign_pci_device(1)) == "ENODEV"


def test_legacy_assignment_is_gone_from_later_kernels(vm: Vm) -> None:
    assert errno_of(lambda: vm.assign_pci_device(1, "0000:00:10.0")) == "ENOTTY"
