# SPDX-License-Identifier: GPL-2.0-only
"""Faults: which calls they meet, what becomes of these, and what is no fault."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence

import pytest

from kvm_vfio import Container, Group, InputError, Kvm, ModelSyscalls, load_machine, model
from kvm_vfio.faults import KINDS, Faults, parse, possible
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.trace.history import History
from kvm_vfio.trace.schema import Call, Decision, Record

MACHINE = load_machine("default")


def answers(linux: ModelSyscalls, calls: int) -> list[int]:
    """The errno of so many KVM_CREATE_VM, 0 for none."""
    kvm, found = Kvm(linux), []
    for _ in range(calls):
        try:
            kvm.create_vm()
        except OSError as error:
            found.append(error.errno or 0)
        else:
            found.append(0)
    return found


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("", [1, 1, 1, 1, 1]),
        ("#3", [0, 0, 1, 0, 0]),
        ("#2-4", [0, 1, 1, 1, 0]),
        ("#4+", [0, 0, 0, 1, 1]),
        ("@kvm#1", [1, 0, 0, 0, 0]),
    ],
)
def test_which_calls_fail(which: str, expected: list[int]) -> None:
    linux = model(fail=[f"KVM_CREATE_VM{which}=ENOMEM"])
    assert answers(linux, 5) == [errno.ENOMEM * each for each in expected]


def test_chance_is_the_same_for_the_same_seed() -> None:
    def failed(seed: int) -> list[int]:
        return answers(model(fail=["KVM_CREATE_VM%30=ENOMEM"], fail_seed=seed), 200)

    assert failed(1) == failed(1)
    assert failed(1) != failed(2)
    assert 30 < sum(map(bool, failed(1))) < 90


def test_a_call_that_fails_changes_nothing() -> None:
    linux = model(fail=["KVM_SET_DEVICE_ATTR#1=ENOMEM"])
    device, group = Kvm(linux).create_vm().create_kvm_vfio(), Group(linux, 1)
    before = linux.kernel.snapshot()
    with pytest.raises(OSError, match="Cannot allocate memory") as refusal:
        device.add(group)
    assert refusal.value.__notes__ == [
        "KVM_SET_DEVICE_ATTR: injected: KVM_SET_DEVICE_ATTR#1=ENOMEM"
    ]
    assert linux.kernel.snapshot() == before
    device.add(group)


def test_open_by_kind() -> None:
    linux = model(fail=["open@group#2=EMFILE", "open@container=ENODEV"])
    Group(linux, 1)
    with pytest.raises(OSError, match="Too many open files"):
        Group(linux, 2)
    with pytest.raises(OSError, match="No such device"):
        Container(linux)


def test_a_pattern_meets_only_calls_that_linux_answers_so() -> None:
    linux = model(fail=["VFIO_*=EBUSY"])
    group, container = Group(linux, 1), Container(linux)
    assert group.status().viable
    group.set_container(container)
    with pytest.raises(OSError, match="busy"):
        group.unset_container()


def test_a_delay() -> None:
    linux = model(fail=["KVM_CREATE_VM=delay:20ms"])
    begin = time.monotonic()
    assert answers(linux, 1) == [0]
    assert time.monotonic() - begin >= 0.02


def recorded(fail: Sequence[str], linux: str = "6.12") -> tuple[ModelSyscalls, list[Record]]:
    records: list[Record] = []
    return model(linux, fail=fail, trace=records.extend), records


def changes(records: list[Record]) -> list[str]:
    return [r.because for r in records if isinstance(r, Decision) and r.did == "machine changed"]


def test_a_device_that_is_unplugged() -> None:
    linux, records = recorded(["VFIO_GROUP_GET_STATUS#2=unplug:0000:00:10.0"])
    group = Group(linux, 1)
    assert group.status().viable
    with pytest.raises(OSError, match="No such device"):
        group.status()
    assert changes(records) == ["the device 0000:00:10.0 is unplugged"]


def test_a_device_in_use_is_unplugged_when_the_program_lets_go() -> None:
    linux, records = recorded(["VFIO_GROUP_GET_STATUS#1=unplug:0000:00:10.0"])
    group, container = Group(linux, 1), Container(linux)
    group.set_container(container)
    container.set_iommu()
    device = group.device("0000:00:10.0")
    assert group.status().viable
    assert changes(records) == []
    device.close()
    with pytest.raises(OSError, match="No such device"):
        group.status()
    assert changes(records) == ["the device 0000:00:10.0 is unplugged"]


def test_vfio_is_unloaded_unless_it_is_in_use() -> None:
    linux, records = recorded(["KVM_CREATE_VM=unload"])
    group, kvm = Group(linux, 1), Kvm(linux)
    kvm.create_vm()
    group.close()
    kvm.create_vm()
    assert changes(records) == [
        "VFIO cannot be unloaded: 1 VFIO files are open",
        "VFIO is unloaded",
    ]
    with pytest.raises(FileNotFoundError):
        Group(linux, 1)


def test_a_group_that_another_driver_gets_into() -> None:
    linux, records = recorded(["VFIO_GROUP_GET_STATUS#2=unviable:5"])
    shared = model("6.12", fail=[]).kernel.iommu_groups[5]
    assert len(shared.functions) > 1
    group = Group(linux, 5)
    group.status()
    assert not group.status().viable
    assert changes(records)[0].startswith("group 5 is not viable any more: a native driver has")


def test_the_trace_and_the_explanation_name_the_fault() -> None:
    history, records = History(), []

    def hear(heard: list[Record]) -> None:
        history(heard)
        records.extend(heard)

    linux = model(fail=["KVM_CREATE_VM=ENOMEM"], trace=hear)
    answers(linux, 2)
    faults = {record.fault for record in records if isinstance(record, Call)}
    assert faults == {"", "KVM_CREATE_VM=ENOMEM"}
    (refusal,) = history.explanation().refusals
    assert (refusal.injected, refusal.rule, refusal.times) == (True, "KVM_CREATE_VM=ENOMEM", 2)


def test_what_no_call_met_is_known() -> None:
    faults = Faults([parse("KVM_CREATE_VM#2=ENOMEM", MACHINE)], model().kernel)
    faults.before("KVM_CREATE_VM", "kvm")
    assert list(faults.unmet()) == ["KVM_CREATE_VM#2=ENOMEM"]
    with pytest.raises(KernelError):
        faults.before("KVM_CREATE_VM", "kvm")
    assert list(faults.unmet()) == []


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("x", "is not one; say CALL=ERRNO, such as KVM_SET_DEVICE_ATTR#3=ENOMEM"),
        ("KVM_SET_DEVICE_ATR=ENOMEM", "no call 'KVM_SET_DEVICE_ATR'; did you mean KVM_SET_DEVICE_"),
        ("KVM_SET_DEVICE_ATTR=EBUSY", "no Linux answers KVM_SET_DEVICE_ATTR with EBUSY; it can be"),
        ("KVM_SET_DEVICE_ATTR=ENOMEN", "there is no errno 'ENOMEN'; did you mean ENOMEM?"),
        ("open=errorcode", "there is no errno 'errorcode'"),
        ("VFIO_SET_IOMMU@group=EINVAL", "VFIO_SET_IOMMU is no call on a group; it is one on a con"),
        ("VFIO_SET_IOMMU@grp=EINVAL", "there is no kind of file 'grp'; there are kvm, vm"),
        ("VFIO_*=EXDEV", "no Linux answers one of these "),
        ("open#0=ENOENT", "calls are counted from 1, upwards; write #3, #3-5 or #3+"),
        ("open#5-3=ENOENT", "calls are counted from 1, upwards"),
        ("open%0=ENOENT", "a percentage above 0, such as %10"),
        ("open%101=ENOENT", "a percentage above 0"),
        ("open=delay:1h", "say how long, up to 60s, such as delay:10ms"),
        ("open=delay:61s", "say how long, up to 60s"),
        ("open=unplug:00:10.0", "the machine has no device '00:10.0'; it has 0000:00:10.0"),
        ("open=unviable:99", "the machine has no group '99'; it has 1, 2"),
        ("open=unviable:1", "group 1 has one device, and another driver would take the group away"),
        ("open=unload:kvm", "unload stands alone; only VFIO can be unloaded"),
    ],
)
def test_what_is_no_fault_is_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse(spec, MACHINE)
    assert str(refusal.value).startswith(f"the fault {spec!r}")
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_any_errno_if_asked_for() -> None:
    linux = model(fail=["KVM_CREATE_VM=EXDEV"], fail_any=True)
    assert answers(linux, 1) == [errno.EXDEV]


def test_every_request_of_the_model_can_fail_with_what_its_table_says() -> None:
    for call, kinds in possible().items():
        for kind, errnos in kinds.items():
            assert kind in KINDS
            for number in set(errnos) & set(errno.errorcode):  # one has no name
                spec = f"{call}@{kind}={errno.errorcode[number]}"
                assert parse(spec, MACHINE).errno == number
