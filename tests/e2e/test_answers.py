# SPDX-License-Identifier: GPL-2.0-only
"""Programs in three languages, and what they are answered."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvm_vfio.machine.load import load_machine
from kvm_vfio.profiles import PROFILES
from kvm_vfio.trace.history import History
from kvm_vfio.trace.jsonl import read_trace
from kvm_vfio.trace.schema import Call, Close, Decision, End, Header, Task
from kvm_vfio.trace.text import call_text
from tests.e2e.conftest import PROGRAMS, Builder
from tests.e2e.supervised import AS_NOBODY, steps, supervised
from tests.support import NOT_A_PACKAGE

WHOLE = """\
open kvm: 0
create vm: 0
open container: 0
open group: 0
open group again: EBUSY
api version: 0
type1v2: 1
status: 0
flags: 1
set iommu too early: EINVAL
set container: 0
set iommu: 0
create device: 0
create device again: EBUSY
has add: 0
has 9: ENXIO
add: 0
add again: EEXIST
add container: EINVAL
add closed: EBADF
open member: EBUSY
open other group: 0
add other: 0
del other: 0
del other again: ENOENT
reopen group: 0
create device anew: 0
"""


@pytest.mark.parametrize("program", ["whole.c", "whole.go", "whole.py"])
def test_the_whole_sequence(build: Builder, kvm: str, program: str) -> None:
    if program.endswith(".py"):
        command = [sys.executable, str(PROGRAMS / program)]
    else:
        command = [build(program)]
    done = supervised("--kvm", kvm, *command)
    assert done.stdout == WHOLE
    assert done.returncode == 0
    assert "a bug in kvm-vfio" not in done.stderr


@pytest.mark.root
def test_the_whole_sequence_for_an_ordinary_user(build: Builder) -> None:
    done = supervised("--kvm", "model", build("whole.c"), prefix=AS_NOBODY)
    assert done.stdout == WHOLE
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("linux", "flips"),
    [
        ("2013", {"create device anew": "0", "add other": "EINVAL", "del other": "EINVAL"}),
        ("5.10", {"create device anew": "EBUSY", "add other": "EINVAL", "reopen group": "EBUSY"}),
        ("6.1", {"create device anew": "0"}),
        ("7.3", {"create device anew": "0"}),
    ],
)
def test_kernels_differ(build: Builder, kvm: str, linux: str, flips: dict[str, str]) -> None:
    done = supervised("--quiet", "--kvm", kvm, "--linux", linux, build("whole.c"))
    answers = steps(done.stdout)
    assert {name: answers[name] for name in flips} == flips


def test_files_in_the_hands_of_several(build: Builder, kvm: str) -> None:
    done = supervised("--kvm", kvm, build("family.c"))
    assert done.returncode == 0
    assert "a bug in kvm-vfio" not in done.stderr
    assert steps(done.stdout) == {
        "add": "0",
        "add dup": "EEXIST",
        "del dup": "0",
        "dup holds": "EBUSY",
        "nobody holds": "0",
        "child: has": "EIO",
        "child: create device": "EIO",
        "child: open": "EBUSY",
        "child: closed its own": "EBUSY",
        "after the child": "EBUSY",
        "has": "0",
        "vfork": "0",
        "the parent still may": "0",
        "failed exec": "3",
        "sendmsg": "0",
        "in flight": "EBUSY",
        "recvmsg": "0",
        "received": "EBUSY",
        "add received": "0",
        "del received": "0",
        "reopen by /proc": "EBUSY",
        "reopen a device by /proc": "ENXIO",
        "O_PATH": "EBADF",
        "openat": "0",
        "openat again": "EBUSY",
        "symlink": "0",
        "no such group": "ENOENT",
        "read only": "EACCES",
        "exec: has": "EIO",
        "exec: create device": "EIO",
        "exec: open": "EBUSY",
        "exec: unset container": "EINVAL",
        "exec: own vm": "0",
        "exec: own device": "0",
        "exec: own device again": "EBUSY",
    }


def test_regions_memory_and_interrupts(build: Builder) -> None:
    done = supervised("--kvm", "model", build("regions.c"), "0000:00:10.0", "/dev/vfio/1")
    assert steps(done.stdout) == {
        "set iommu": "0",
        "device": "0",
        "config": "4",
        "id": "1234 11e8",
        "sizing": "4",
        "preadv": "4",
        "bar": "fff00000",
        "beyond": "EFAULT",
        "to a bad address": "EFAULT",
        "map": "0",
        "read what is mapped": "8",
        "bytes read": "mapped",
        "write what is mapped": "8",
        "bytes written": "written",
        "map too much": "EINVAL",
        "map privately": "EINVAL",
        "map configuration": "EINVAL",
        "map a group": "ENODEV",
        "map a file": "0",
        "enable": "0",
        "trigger": "0",
        "read": "8",
        "count": "1",
        "dma to a bar": "0",
        "dma to no memory": "EFAULT",
        "answer to read-only memory": "EFAULT",
        "question in no memory": "EFAULT",
        "mapping holds the device": "EBUSY",
        "nothing holds it": "0",
    }


def test_calls_of_32_bits_reach_no_device(build: Builder) -> None:
    plain = subprocess.run([build("foreign.c")], capture_output=True, text=True, check=False)
    if plain.returncode != 0:
        pytest.skip(f"this kernel has no 32-bit calls; boot with ia32_emulation=1 {NOT_A_PACKAGE}")
    assert steps(plain.stdout) == {"getpid": "1", "status": "-25", "io_uring": "-14"}
    done = supervised("--quiet", build("foreign.c"))
    assert steps(done.stdout) == {"getpid": "1", "status": "-38", "io_uring": "-38"}


def test_threads_at_once(build: Builder, kvm: str) -> None:
    done = supervised("--kvm", kvm, build("hammer.c"), "8", "15")
    assert steps(done.stdout) == {"wrong": "0", "open": "0"}
    assert "a bug in kvm-vfio" not in done.stderr


# -- what is said about it -------------------------------------------------------------------------


def test_the_summary_says_why_wbinvd_is_executed(build: Builder) -> None:
    done = supervised("--kvm", "model", build("whole.c"))
    lines = done.stderr.splitlines()
    (on,) = [line for line in lines if "WBINVD is executed" in line]
    (off,) = [line for line in lines if "WBINVD is a no-op" in line]
    for part in ("VM 1", "KVM_SET_DEVICE_ATTR on fd", "whole-c[", "ADD of VFIO group 1", "dmar0"):
        assert part in on
    assert "has no snoop control" in on
    assert "the last close of a KVM device" in off
    assert any("failed, 1 x: KVM_SET_DEVICE_ATTR: EEXIST" in line for line in lines)
    assert any("left open: VFIO group 2: fd" in line and "exited" in line for line in lines)
    assert all(line.startswith("kvm-vfio: ") for line in lines)


def test_with_snoop_control_wbinvd_stays_a_no_op(build: Builder) -> None:
    done = supervised("--kvm", "model", "--snoop", "on", build("whole.c"))
    assert "WBINVD was a no-op all the time" in done.stderr
    assert "is executed" not in done.stderr


def test_quiet_and_a_summary_in_a_file(build: Builder, tmp_path: Path) -> None:
    file = tmp_path / "summary"
    done = supervised("--quiet", "--summary", str(file), build("whole.c"))
    assert done.stderr == ""
    assert "KVM-VFIO: 2 members added" in file.read_text()
    assert supervised("--quiet", "true").stderr == ""


def test_not_modelled_is_named(build: Builder) -> None:
    done = supervised("--kvm", "model", build("unknown.c"))
    assert steps(done.stdout) == {"xen": "ENOTTY"}
    assert "NOT MODELLED, 1 x, answered ENOTTY: KVM_XEN_HVM_CONFIG" in done.stderr


@pytest.mark.root
def test_a_program_that_may_not_be_looked_into_goes_on(build: Builder) -> None:
    done = supervised("--kvm", "model", build("private.c"), prefix=AS_NOBODY)
    assert steps(done.stdout) == {"open": "EACCES", "map": "0"}
    assert "NOT ANSWERED, 1 x: calls of private-c[" in done.stderr


@pytest.mark.parametrize("seed", range(8))
def test_calls_at_random(build: Builder, seed: int) -> None:
    linux = list(PROFILES)[seed % len(PROFILES)]
    done = supervised("--kvm", "model", "--linux", linux, build("fuzz.c"), str(seed + 1), "4000")
    assert "a bug in kvm-vfio" not in done.stderr
    assert done.stdout == "done: 0\n"
    assert done.returncode == 0
    assert "leaked: VFIO group" not in done.stderr


@pytest.mark.parametrize("seed", range(4))
def test_calls_at_random_on_devices_that_behave(build: Builder, seed: int) -> None:
    options = (
        "--kvm",
        "model",
        "--machine",
        "devices",
        "--coherency",
        ("always", "model")[seed % 2],
    )
    done = supervised(*options, build("fuzz.c"), str(seed + 100), "4000")
    assert "a bug in kvm-vfio" not in done.stderr
    assert done.stdout == "done: 0\n"
    assert done.returncode == 0


@pytest.mark.parametrize(("linux", "seed"), [("5.10", 7), ("6.12", 8)])
def test_calls_at_random_can_be_told_and_replayed(
    build: Builder, tmp_path: Path, linux: str, seed: int
) -> None:
    file = str(tmp_path / "trace")
    options = ("--kvm", "model", "--linux", linux, "--trace", file)
    supervised(*options, build("fuzz.c"), str(seed), "2000")

    def told(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "kvm_vfio", *command, file],
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stderr
        assert done.returncode == (1 if command == ("explain",) else 0), done.stdout
        return done.stdout

    assert "PROBLEM: " in told("explain")
    assert told("trace", "show").count("\n") > 2000
    told("trace", "perfetto")
    replayed = told("trace", "replay", "--on", f"model:{linux}")
    assert re.search(r"(\d{3,4}) of \1 operations are answered as recorded\n", replayed)


def test_the_trace(build: Builder, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    supervised("--kvm", "model", "--trace", str(file), build("whole.c"))
    header, *records, end = read_trace(file)
    assert isinstance(header, Header)
    assert (header.linux, header.kvm, header.machine) == ("6.12", "model", load_machine("default"))
    assert isinstance(end, End)
    assert end.status == 0
    (task,) = (record for record in records if isinstance(record, Task))
    assert (task.comm, task.pid) == ("whole-c", task.tid)
    calls = [record for record in records if isinstance(record, Call)]
    assert calls[0].args == {"path": "/dev/kvm", "flags": os.O_RDWR}
    assert [made.what for made in calls[0].made] == ["kvm"]
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert all(call.tid == task.tid for call in calls)
    numbers = [record.n for record in records if isinstance(record, Call | Close)]
    assert numbers == list(range(1, len(numbers) + 1))
    first, again, *_ = (call for call in calls if call.call == "KVM_SET_DEVICE_ATTR")
    assert call_text(first) == "KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_ADD, group 1 (fd 6)) = 0"
    decisions = [r for r in records if isinstance(r, Decision) and r.n == first.n]
    assert [decision.did for decision in decisions] == ["taken", "coherency", "noncoherent"]
    assert again.answer == "EEXIST"
    assert again.why == "VFIO group 1 is a member already"
    closed = [record for record in records if isinstance(record, Close)]
    assert [(each.what, each.cause) for each in closed[:3]] == [
        ("group 1", "close"),
        ("kvm-vfio 1", "close"),
        ("container 1", "close"),
    ]
    assert {each.cause for each in closed[3:]} == {"exit"}


@pytest.mark.gcc
@pytest.mark.parametrize("linux", ["6.1", "6.12", "7.3"])
def test_three_planted_mistakes_are_explained_and_nothing_else(
    build: Builder, tmp_path: Path, kvm: str, linux: str
) -> None:
    file = str(tmp_path / "trace")
    options = ("--kvm", kvm, "--linux", linux, "--snoop", "on", "--trace", file)
    assert supervised(*options, build("mistakes.c")).returncode == 0
    history = History()
    history(read_trace(file))
    told = history.explanation()
    calls = [(problem.kind, problem.call.text) for problem in told.problems]
    assert calls == [
        (
            "added before SET_IOMMU",
            "KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_ADD, group 1 (fd 7))",
        ),
        ("closed before DEL", "kvm-vfio 1 is closed"),
        ("left open", 'openat("/dev/vfio/2")'),
    ]
    assert not told.refusals
    assert not told.not_modelled
    assert told.whole


@pytest.mark.gcc
def test_faults_reach_a_program(build: Builder, tmp_path: Path, kvm: str) -> None:
    file = str(tmp_path / "trace")
    fail = ("--fail", "KVM_SET_DEVICE_ATTR#1=ENOMEM", "--fail", "KVM_CREATE_DEVICE#9=ENOMEM")
    done = supervised("--kvm", kvm, *fail, "--trace", file, build("whole.c"))
    said = steps(done.stdout)
    assert (said["add"], said["add again"]) == ("ENOMEM", "0")
    assert "NOT INJECTED: KVM_CREATE_DEVICE#9=ENOMEM: no such call came" in done.stderr
    calls = [record for record in read_trace(file) if isinstance(record, Call)]
    assert [call.answer for call in calls if call.fault] == ["ENOMEM"]


@pytest.mark.gcc
def test_a_vm_of_this_computer_can_fail_too(build: Builder, kvm: str) -> None:
    done = supervised("--kvm", kvm, "--fail", "KVM_CREATE_VM=ENOMEM", build("whole.c"))
    assert steps(done.stdout)["create vm"] == "ENOMEM"
