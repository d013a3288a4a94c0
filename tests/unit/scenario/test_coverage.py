# SPDX-License-Identifier: GPL-2.0-only
"""What was met is told apart from what was not, and nothing happens that is not on the list."""

from __future__ import annotations

import pytest

from kvm_vfio.profiles import PROFILES
from kvm_vfio.scenario.coverage import DEVICE, GROUP, TRANSITIONS, Asked, Coverage, Transition
from kvm_vfio.scenario.fuzz import Campaign
from kvm_vfio.scenario.kernels import ModelHands, model_kernel
from kvm_vfio.scenario.language import parse
from kvm_vfio.scenario.runner import Runner


def met(script: str, linux: str = "6.12") -> Coverage:
    """What one script meets."""
    coverage = Coverage()
    with model_kernel(linux, snoop=False).hands() as hands:
        assert isinstance(hands, ModelHands)
        for _ in Runner(hands).run(parse(script)):
            hands.watch.look()
        coverage.asked += hands.watch.asked
        coverage.transitions += hands.watch.transitions
    return coverage


def test_a_request_is_met_with_its_answers() -> None:
    coverage = met("kvm_open k\nvm_create v\ndev_create d v\ndev_create e v\nioctl d 0x3b64 0")
    assert coverage.asked == {
        Asked("/dev/kvm", "KVM_CREATE_VM", "ok"): 1,
        Asked("a VM", "KVM_CREATE_DEVICE", "ok"): 1,
        Asked("a VM", "KVM_CREATE_DEVICE", "EBUSY"): 1,
    }
    never = coverage.never_asked()
    assert "KVM_SET_DEVICE_ATTR of a KVM device" in never
    assert "KVM_CREATE_DEVICE of a VM" not in never
    assert "KVM_CREATE_DEVICE EFAULT ENODEV ENOMEM EMFILE" in coverage.never_answered()


def test_transitions_follow_a_device_and_a_group() -> None:
    coverage = met(
        "kvm_open k\nvm_create v\ndev_create d v\ncontainer_open c\ngroup_open g @00:10.0\n"
        "set_container g c\nset_iommu c\nget_device_fd x g 00:10.0\ngroup_add d g\nclose d\n"
        "close x\nunset_container g\nclose g"
    )
    assert list(coverage.transitions) == [
        Transition(DEVICE, "absent", "empty"),
        Transition(GROUP, "closed", "open"),
        Transition(GROUP, "open", "contained"),
        Transition(GROUP, "contained", "translated"),
        Transition(GROUP, "translated", "in-use"),
        Transition(DEVICE, "empty", "noncoherent"),
        Transition(DEVICE, "noncoherent", "absent"),
        Transition(GROUP, "in-use", "translated"),
        Transition(GROUP, "translated", "open"),
        Transition(GROUP, "open", "closed"),
    ]
    assert str(Transition(GROUP, "open", "closed")) == "open -> closed"
    assert Transition(GROUP, "open", "closed") not in coverage.never_gone()


def test_in_5_10_a_closed_group_stays_in_its_container_while_a_device_is_open() -> None:
    coverage = met(
        "container_open c\ngroup_open g @00:10.0\nset_container g c\nset_iommu c\n"
        "get_device_fd x g 00:10.0\nclose g\nclose x",
        "5.10",
    )
    assert Transition(GROUP, "in-use", "kept") in coverage.transitions
    assert Transition(GROUP, "kept", "closed") in coverage.transitions


@pytest.mark.parametrize("linux", PROFILES)
def test_no_random_script_goes_a_way_that_is_not_listed(linux: str) -> None:
    kernel = model_kernel(linux, snoop=False)
    campaign = Campaign(kernel, kernel)
    for seed in range(20):
        campaign.script(seed)
    assert campaign.coverage.transitions.keys() <= TRANSITIONS
    seen = {step.what for step in campaign.coverage.transitions}
    assert seen == {DEVICE, GROUP}
