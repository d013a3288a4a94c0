# SPDX-License-Identifier: GPL-2.0-only
"""Locks change no answer; they are seen, and a deadlock is one."""

from __future__ import annotations

import pytest

from kvm_vfio.kernel.lock import Lock
from tests.unit.kernel.program import start_vmm


class Watcher:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def acquired(self, name: str) -> None:
        self.seen.append(f"+{name}")

    def released(self, name: str) -> None:
        self.seen.append(f"-{name}")


def test_a_lock_taken_by_its_holder_is_a_deadlock() -> None:
    lock = Lock("kv->lock")
    with lock, pytest.raises(RuntimeError, match="kv->lock"):
        lock.__enter__()
    with lock:
        assert lock.held


def test_a_lock_is_dropped_on_the_way_out_of_an_error() -> None:
    watcher = Watcher()
    lock = Lock("kvm->lock", watcher)
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert not lock.held
    assert watcher.seen == ["+kvm->lock", "-kvm->lock"]


def test_a_watcher_sees_the_order_in_which_a_call_takes_locks() -> None:
    watcher = Watcher()
    vmm = start_vmm(lock_watcher=watcher)
    watcher.seen.clear()
    vmm.program.add(vmm.device, vmm.group)
    vmm.program.close(vmm.device)
    assert watcher.seen == ["+kv->lock", "-kv->lock", "+kvm->lock", "-kvm->lock"]
