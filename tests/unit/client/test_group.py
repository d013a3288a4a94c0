# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from kvm_vfio import Container, Group, ModelSyscalls, model
from kvm_vfio.client import GroupStatus
from tests.unit.client.refusal import errno_of, note_of, refusal


@pytest.fixture
def linux() -> ModelSyscalls:
    return model()


def test_a_group_has_one_opener(linux: ModelSyscalls) -> None:
    with Group(linux, 1) as group:
        assert group.number == 1
        assert errno_of(lambda: Group(linux, 1)) == "EBUSY"
        assert note_of(lambda: Group(linux, 1)) == (
            "open /dev/vfio/1: VFIO group 1 is open already, and has one opener"
        )
    Group(linux, 1).close()


def test_a_group_that_does_not_exist(linux: ModelSyscalls) -> None:
    with pytest.raises(FileNotFoundError):
        Group(linux, 99)


def test_the_status_follows_the_container(linux: ModelSyscalls) -> None:
    group, container = Group(linux, 1), Container(linux)
    assert group.status() == GroupStatus(viable=True, container_set=False)
    group.set_container(container)
    assert group.status() == GroupStatus(viable=True, container_set=True)
    group.unset_container()
    assert not group.status().container_set
    assert errno_of(group.unset_container) == "EINVAL"


def test_a_group_that_is_not_viable_says_who_is_in_it(linux: ModelSyscalls) -> None:
    group = Group(linux, 5)
    assert not group.status().viable
    error = refusal(lambda: group.set_container(Container(linux)))
    assert isinstance(error, PermissionError)
    assert "0000:00:14.1 (snd_hda_intel)" in error.__notes__[0]


def test_only_a_container_is_a_container(linux: ModelSyscalls) -> None:
    group = Group(linux, 1)
    assert errno_of(lambda: group.set_container(group)) == "EBADFD"


def test_devices_by_their_address(linux: ModelSyscalls) -> None:
    group, container = Group(linux, 1), Container(linux)
    group.set_container(container)
    assert errno_of(lambda: group.device("0000:00:10.0")) == "EINVAL"
    container.set_iommu()
    with group.device("0000:00:10.0") as device:
        assert device.info().pci
        assert errno_of(group.unset_container) == "EBUSY"
    assert errno_of(lambda: group.device("0000:00:11.0")) == "ENODEV"
