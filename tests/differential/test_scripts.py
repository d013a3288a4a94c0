# SPDX-License-Identifier: GPL-2.0-only
"""Programs that Hypothesis writes, on the model and on a real Linux: every line is the same.

What differs shrinks to the shortest script that shows it. It is written to the directory of the
environment variable KVM_VFIO_FOUND (default: the current one), ready to be kept.

More examples: pytest tests/differential/test_scripts.py -m guest --hypothesis-profile=slow
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from kvm_vfio.errors import NotModelled
from kvm_vfio.scenario.compare import Difference, difference, operations
from kvm_vfio.scenario.kernels import GuestKernel, ModelKernel, ScenarioKernel, model_kernel, run

DEVICES = ["00:10.0", "00:11.0", "00:12.0", "00:13.0", "00:14.0"]
START = ["kvm_open k", "vm_create v0", "dev_create d0 v0", "container_open c0"]


def names(kind: str, count: int) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{kind}{number}" for number in range(count)])


vms, devices, containers = names("v", 2), names("d", 2), names("c", 2)
groups, opened = names("g", 3), names("x", 2)
members = st.one_of(groups, groups, opened)
anything = st.one_of(vms, devices, containers, groups, opened, st.just("k"), st.just("nothing"))
addresses = st.sampled_from([*DEVICES, "00:14.1"])
bad_addresses = st.sampled_from(["null", "bad", "unmapped", "straddle", "max", "closed", "int:-1"])
numbers = st.sampled_from(["0", "0x1000", "0x2000", "0x7ffffff000", "0x8000000000", "0x800"])
in_child = st.sampled_from(["", "", "", "child "])


class Script(RuleBasedStateMachine):
    """Writes a script. At its end both kernels perform it."""

    model: ClassVar[ModelKernel]
    linux: ClassVar[ScenarioKernel]
    found: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        self.script = list(START)

    def teardown(self) -> None:
        differs = self.compare()
        if differs is not None:
            type(self).found = [
                f"# {self.model.name}: {differs.one}",
                f"# {self.linux.name}: {differs.other}",
                *self.script,
            ]
        assert differs is None

    def compare(self) -> Difference | None:
        """Up to what the model does not know."""
        expected: list[str] = []
        try:
            expected += run(self.model, operations(self.script))
        except NotModelled:
            return None
        return difference(expected, run(self.linux, operations(self.script)))

    def do(self, *words: str) -> None:
        self.script.append(" ".join(words))

    # -- files

    @rule(vm=vms)
    def vm(self, vm: str) -> None:
        self.do("vm_create", vm)

    @rule(device=devices, vm=vms, kind=st.sampled_from(["", "vfio", "vfio TEST", "3"]))
    def device(self, device: str, vm: str, kind: str) -> None:
        self.do("dev_create", device, vm, kind)

    @rule(container=containers)
    def container(self, container: str) -> None:
        self.do("container_open", container)

    @rule(group=groups, address=addresses)
    def group(self, group: str, address: str) -> None:
        self.do("group_open", group, f"@{address}")

    @rule(file=opened, group=groups, address=addresses)
    def device_fd(self, file: str, group: str, address: str) -> None:
        self.do("get_device_fd", file, group, address)

    @rule(file=anything)
    def close(self, file: str) -> None:
        self.do("close", file)

    @rule(new=st.one_of(groups, opened, devices, containers), old=anything)
    def dup(self, new: str, old: str) -> None:
        self.do("dup", new, old)

    @rule()
    def close_everything(self) -> None:
        self.do("reset")
        self.script += START

    # -- KVM

    @rule(child=in_child, verb=st.sampled_from(["group_add", "group_del"]), d=devices, m=members)
    def member(self, child: str, verb: str, d: str, m: str) -> None:
        self.do(child + verb, d, m)

    @rule(child=in_child, d=anything, attr=st.sampled_from(["ADD", "DEL", "3"]), at=bad_addresses)
    def attribute(self, child: str, d: str, attr: str, at: str) -> None:
        self.do(f"{child}set_attr", d, "GROUP", attr, at)

    # -- VFIO

    @rule(group=groups, container=containers, address=addresses, device=devices, more=st.booleans())
    def vmm(self, group: str, container: str, address: str, device: str, more: bool) -> None:
        """What a VMM does, or its first part."""
        self.do("group_open", group, f"@{address}")
        self.do("set_container", group, container)
        self.do("set_iommu", container)
        if more:
            self.do("group_add", device, group)

    @rule(child=in_child, group=groups, file=st.one_of(containers, anything))
    def set_container(self, child: str, group: str, file: str) -> None:
        self.do(f"{child}set_container", group, file)

    @rule(child=in_child, group=groups)
    def unset_container(self, child: str, group: str) -> None:
        self.do(f"{child}unset_container", group)

    @rule(child=in_child, file=containers, kind=st.sampled_from(["", "type1", "nesting", "8"]))
    def set_iommu(self, child: str, file: str, kind: str) -> None:
        self.do(f"{child}set_iommu", file, kind)

    @rule(group=groups, container=containers, extension=st.sampled_from(["CC", "6", "9", "10"]))
    def ask(self, group: str, container: str, extension: str) -> None:
        self.do("group_status", group)
        self.do("check_extension", container, extension)

    @rule(child=in_child, container=containers, iova=numbers, size=numbers)
    def map_dma(self, child: str, container: str, iova: str, size: str) -> None:
        self.do(f"{child}dma_map", container, iova, size)

    @rule(container=containers, iova=numbers, size=numbers, flags=st.sampled_from(["", "2", "4"]))
    def unmap_dma(self, container: str, iova: str, size: str, flags: str) -> None:
        self.do("dma_unmap", container, iova, size, flags)

    @rule(file=anything, verb=st.sampled_from(["read", "write", "mmap"]))
    def content(self, file: str, verb: str) -> None:
        self.do(verb, file)


def write_down(script: list[str]) -> Path:
    file = Path(os.environ.get("KVM_VFIO_FOUND", ".")) / "found.ops"
    file.write_text("\n".join([*script, ""]))
    return file


def compare(model: ModelKernel, linux: ScenarioKernel, *, steps: int = 40) -> None:
    class Compared(Script):
        pass

    Compared.model, Compared.linux, Compared.found = model, linux, []
    try:
        run_state_machine_as_test(
            Compared,
            settings=settings(stateful_step_count=steps, suppress_health_check=list(HealthCheck)),
        )
    except AssertionError as error:
        error.add_note(f"the script is in {write_down(Compared.found)}")
        raise


@pytest.mark.guest
@pytest.mark.qemu
def test_programs_find_no_difference(linux: GuestKernel) -> None:
    compare(model_kernel("6.1", snoop=linux.snoop), linux)


def test_a_difference_shrinks_to_a_script_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVM_VFIO_FOUND", str(tmp_path))
    with pytest.raises(AssertionError) as found:
        compare(model_kernel("6.1", snoop=False), model_kernel("6.12", snoop=True), steps=8)
    assert str(tmp_path / "found.ops") in found.value.__notes__[-1]
    comments: list[str] = []
    script: list[str] = []
    for line in (tmp_path / "found.ops").read_text().splitlines():
        (comments if line.startswith("#") else script).append(line)
    assert [line.split()[1] for line in comments] == ["model:6.1:", "model:6.12:"]
    assert script[: len(START)] == START
    assert len(script) <= len(START) + 6
