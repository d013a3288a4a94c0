# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio trace` and `kvm-vfio explain`, from the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvm_vfio import Group, Kvm, model
from kvm_vfio.cli import main
from kvm_vfio.trace.jsonl import TraceWriter, read_trace
from kvm_vfio.trace.schema import Call


def command(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """A program that closes its KVM-VFIO device before DEL, and is refused once."""
    path = tmp_path / "trace.jsonl"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    writer = TraceWriter(fd)
    linux = model("6.12", snoop_control=False, trace=writer)
    group, vm = Group(linux, 1), Kvm(linux).create_vm()
    with vm.create_kvm_vfio() as device:
        device.add(group)
        with pytest.raises(FileExistsError):
            device.add(group)
    writer.close()
    os.close(fd)
    return str(path)


def test_show(trace: str) -> None:
    shown = command("trace", "show", trace, "--failed")
    assert shown.exit_code == 0
    assert "= -EEXIST (VFIO group 1 is a member already)" in shown.output
    assert "-> " not in shown.output


def test_filter_gives_a_trace(trace: str, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_text(command("trace", "filter", trace, "--call", "KVM_CREATE_*").output)
    calls = [record.call for record in read_trace(part) if isinstance(record, Call)]
    assert calls == ["KVM_CREATE_VM", "KVM_CREATE_DEVICE"]
    assert command("trace", "show", str(part)).exit_code == 0


def test_explain_says_what_is_wrong_and_that_something_is(trace: str) -> None:
    told = command("explain", trace)
    assert told.exit_code == 1
    assert "PROBLEM: kvm-vfio 1, the KVM-VFIO device of vm 1, was closed while" in told.output
    assert "REFUSED with EEXIST: " in told.output
    assert told.output.endswith("\n1 problem.\n")


def test_explain_for_machines(trace: str) -> None:
    told = json.loads(command("explain", trace, "--json").output)
    assert told["problems"][0]["kind"] == "closed before DEL"
    assert told["vms"][0]["turns"][0]["executed"] is True


@pytest.mark.parametrize("words", [("explain",), ("trace", "show"), ("trace", "filter")])
def test_no_trace_is_one_sentence(words: tuple[str, ...]) -> None:
    refused = command(*words, "/no/such/file")
    assert refused.exit_code == 2
    assert refused.output == (
        "kvm-vfio: /no/such/file: No such file or directory; name a file that --trace wrote\n"
    )


def test_perfetto(trace: str, tmp_path: Path) -> None:
    pytest.importorskip("perfetto", reason="Perfetto's library is missing; pip install perfetto")
    done = command("trace", "perfetto", trace)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "trace.pftrace").stat().st_size > 500
    refused = command("trace", "perfetto", trace, "-o", "/no/such/directory/x")
    assert refused.exit_code == 2
    assert "name a file that can be written" in refused.output


def test_replay(trace: str) -> None:
    script = command("trace", "replay", trace)
    assert script.output.startswith("group_open group_1 @0000:00:10.0\n")
    same = command("trace", "replay", trace, "--on", "model:6.12", "--on", "model:6.1")
    assert same.exit_code == 0
    assert "model:6.1: 7 of 7 operations are answered as recorded" in same.output
    other = command("trace", "replay", trace, "--on", "model:5.10")
    assert other.exit_code == 1
    assert "group_add kvm-vfio_4 group_1\n     recorded 0, model:5.10 -EINVAL" in other.output
