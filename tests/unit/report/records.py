# SPDX-License-Identifier: GPL-2.0-only
"""Traces by hand, a line a record."""

from __future__ import annotations

from typing import Any

from kvm_vfio.machine.load import load_machine
from kvm_vfio.trace.schema import (
    VERSION,
    Call,
    Close,
    Decision,
    Domain,
    End,
    Header,
    Object,
    Reason,
    Record,
    Task,
)

KVM, VM, DEVICE, CONTAINER, GROUP = (
    Object(fd, fd, what)
    for fd, what in enumerate(("kvm", "vm 1", "kvm-vfio 1", "container 1", "group 3"), 3)
)
DOMAIN = Domain("domain 1", (3,), ("dmar0",), coherent=False)


class Trace:
    """Records in the making; calls are a microsecond apart and take half of one."""

    def __init__(self, linux: str = "6.12") -> None:
        machine = load_machine("default")
        self.n = 0
        self.records: list[Record] = [
            Header(VERSION, "kvm-vfio 0", 0, linux, "model", machine, ("vmm", "--fast")),
            Task(0, 70, 70, "vmm"),
        ]

    def call(self, name: str, on: Object | None = None, **fields: Any) -> Trace:  # noqa: ANN401 - of a Call
        self.n += 1
        called = {} if on is None else {"fd": on.fd, "file": on.file, "on": on.what}
        fields = {"answer": 0, **called, **fields}
        self.records.append(Call(self.n, self.n * 1000, 500, 70, name, **fields))
        return self

    def close(self, found: Object) -> Trace:
        self.n += 1
        self.records.append(Close(self.n, self.n * 1000, found.file, found.what, "close"))
        return self

    def decided(self, did: str, **fields: Any) -> Trace:  # noqa: ANN401 - of a Decision
        self.records.append(Decision(self.n, did, **fields))
        return self

    def end(self) -> list[Record]:
        self.records.append(End(self.n * 1000 + 1000, 0))
        return self.records


def a_vm_and_a_group() -> Trace:
    """A VM, its KVM-VFIO device, a group in a container: rows 0 to 10; the ADD is row 8."""
    trace = Trace()
    trace.call("openat", args={"path": "/dev/kvm"}, answer=3, made=[KVM])
    trace.call("KVM_CREATE_VM", KVM, answer=4, made=[VM]).decided("vm made", vm=1)
    trace.call("KVM_CREATE_DEVICE", VM, made=[DEVICE])
    trace.decided("device made", vm=1, device="kvm-vfio 1")
    trace.call("openat", args={"path": "/dev/vfio/vfio"}, answer=6, made=[CONTAINER])
    trace.call("openat", args={"path": "/dev/vfio/3"}, answer=7, made=[GROUP])
    trace.call("VFIO_GROUP_SET_CONTAINER", GROUP, looked_up=[CONTAINER])
    trace.decided("attached", group=3, container="container 1", domains=[DOMAIN])
    trace.call("KVM_SET_DEVICE_ATTR", DEVICE, looked_up=[GROUP])
    trace.decided("taken", vm=1, device="kvm-vfio 1", member="group 3", file=7)
    reasons = [Reason("group 3", "dmar0 has no snoop control", iommu="dmar0")]
    trace.decided("noncoherent", vm=1, on=True, count=1, reasons=reasons)
    return trace
