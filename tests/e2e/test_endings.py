# SPDX-License-Identifier: GPL-2.0-only
"""However it ends: the exit status, signals, and that nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvm_vfio.trace.jsonl import read_trace
from kvm_vfio.trace.schema import Call, Close, End, Header
from tests.e2e.conftest import Builder
from tests.e2e.supervised import (
    AS_NOBODY,
    COMMAND,
    TIMEOUT,
    eventually,
    processes,
    steps,
    supervised,
)
from tests.support import NOT_A_PACKAGE


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9)],
)
def test_the_exit_status_is_the_programs(script: str, status: int) -> None:
    assert supervised("--quiet", "sh", "-c", script).returncode == status


def test_arguments_and_streams_pass_through() -> None:
    script = 'cat; printf "%s\\n" "$@"; echo error >&2; exit 5'
    arguments = ["--machine", "-x", "a b", "--", ""]
    done = supervised("--quiet", "sh", "-c", script, "sh", *arguments, stdin="in\n")
    assert done.stdout == "in\n" + "\n".join(arguments) + "\n"
    assert done.stderr == "error\n"
    assert done.returncode == 5


def test_the_program_starts_with_what_a_shell_would_give_it() -> None:
    script = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ulimit -n; ls /proc/self/fd | wc -l"
    plain = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert supervised("--quiet", "sh", "-c", script).stdout == plain.stdout


def test_standard_output_ends_with_the_program() -> None:
    # A pipe's reader must not wait for us.
    script = "exec >&- 2>&-; exec sleep 1000"
    with subprocess.Popen(
        [*COMMAND, "--quiet", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        assert run.stdout.read() == ""
        assert run.poll() is None
        run.terminate()
        assert run.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_program_once(number: signal.Signals) -> None:
    script = f"trap 'echo caught' {number.value}; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*COMMAND, "--quiet", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        assert run.stdout.readline() == "ready\n"
        run.send_signal(number)
        assert run.stdout.readline() == "caught\n"
        run.kill()
        assert run.stdout.read() == ""


def test_we_stay_while_a_descendant_lives() -> None:
    script = "(setsid sh -c 'sleep 0.5; test -c /dev/vfio/1 && echo still here' &) ; exit 3"
    done = supervised("--quiet", "sh", "-c", script)
    assert done.stdout == "still here\n"
    assert done.returncode == 3


def test_a_signal_after_the_programs_end_ends_its_descendants(marker: str, start: Start) -> None:
    run = start("sh", "-c", "(setsid sleep 1000 &) ; exit 3")
    assert eventually(lambda: [comm(pid) for pid in processes(marker)].count("sleep") == 1)
    assert eventually(lambda: "sh" not in map(comm, processes(marker)))
    run.terminate()
    assert run.wait(10) == 3
    assert eventually(lambda: not processes(marker))


# -- nothing is left -------------------------------------------------------------------------------


@pytest.fixture
def marker() -> Iterator[str]:
    """Something in the environment of every process of a run, whatever becomes of it."""
    name = f"KVM_VFIO_TEST={os.getpid()}-{random.random()}"
    yield name
    for pid in processes(name):
        os.kill(pid, signal.SIGKILL)


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(marker: str) -> Iterator[Start]:
    """Begin a run that the test itself ends."""
    name, _, value = marker.partition("=")
    runs: list[subprocess.Popen[bytes]] = []

    def begin(*command: str) -> subprocess.Popen[bytes]:
        runs.append(
            subprocess.Popen(
                [*COMMAND, "--quiet", "--kvm", "model", *command],
                env={**os.environ, name: value},
                stdout=subprocess.DEVNULL,
            )
        )
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()
        run.wait()


def comm(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except OSError:
        return ""


def traces() -> tuple[list[str], list[str]]:
    """What a run must not change: mounts over what it covers, files with its name."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    mounts = [point for point in points if point.startswith(("/dev", "/sys"))]
    places = ("/dev", "/dev/shm", "/run", "/tmp", "/var/tmp")
    files = [name for place in places for name in os.listdir(place) if "kvm-vfio" in name]
    return mounts, files


@pytest.mark.parametrize("victim", ["front", "supervisor", "program"])
@pytest.mark.parametrize("seed", range(6))
def test_sigkill_at_any_moment_leaves_nothing(
    build: Builder, marker: str, start: Start, victim: str, seed: int
) -> None:
    before = traces()
    program = build("hammer.c")
    run = start("sh", "-c", f"(setsid {program} 2 1000000 &) ; {program} 2 1000000; :")
    moment = random.Random(seed).uniform(0, 0.25)
    if victim == "front":
        time.sleep(moment + 0.05)
        run.kill()
    else:
        assert eventually(lambda: len(processes(marker)) >= 4)
        time.sleep(moment)
        killed = children(run.pid)[0] if victim == "supervisor" else program_of(run.pid)
        os.kill(killed, signal.SIGKILL)
        if victim == "program":  # its descendants live on
            assert eventually(lambda: killed not in map(int, processes(marker)))
            run.terminate()
    status = run.wait(20)
    assert status == {"front": -9, "supervisor": 2, "program": 128 + 9}[victim]
    assert eventually(lambda: not processes(marker)), [comm(pid) for pid in processes(marker)]
    assert traces() == before


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def program_of(front: int) -> int:
    (supervisor,) = children(front)
    return next(pid for pid in children(supervisor) if comm(pid) == "sh")


def test_a_normal_end_leaves_nothing(build: Builder) -> None:
    before = traces()
    assert supervised("--quiet", build("whole.c")).returncode == 0
    assert traces() == before


# -- what cannot be run ----------------------------------------------------------------------------


def refused(*arguments: str, prefix: tuple[str, ...] = ()) -> tuple[int, str]:
    done = supervised(*arguments, prefix=prefix)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_program_that_does_not_exist() -> None:
    assert refused("no-such-program") == (
        127,
        "kvm-vfio: no-such-program: no such file or directory\n",
    )
    assert refused("./no/such/program")[0] == 127


def test_a_program_that_is_not_executable(tmp_path: Path) -> None:
    file = tmp_path / "plain"
    file.write_text("text")
    assert refused(str(file)) == (126, f"kvm-vfio: {file}: permission denied\n")
    assert refused(str(tmp_path))[0] == 126
    file.chmod(0o755)
    assert refused(str(file)) == (126, f"kvm-vfio: {file}: exec format error\n")


def test_a_program_that_uses_notification_itself(build: Builder) -> None:
    status, text = refused("--quiet", build("listener.c"))
    assert status == 2
    assert text == (
        "kvm-vfio: listener-c uses seccomp user notification itself, and Linux allows one listener"
        " in a chain of filters; it cannot run under kvm-vfio\n"
    )


def test_a_program_that_only_asks_for_notification_runs(build: Builder) -> None:
    done = supervised("--quiet", build("listener.c"), "ask")
    assert steps(done.stdout) == {"ask": "EFAULT", "filter": "0"}


def test_inside_another_supervisor() -> None:
    inner = f"{sys.executable} -m kvm_vfio run true"
    done = supervised("--quiet", "sh", "-c", inner)
    assert done.returncode == 2
    assert "uses seccomp user notification itself" in done.stderr


@pytest.mark.parametrize("call", ["seccomp", "addfd"])
def test_a_kernel_that_is_too_old(build: Builder, call: str) -> None:
    status, text = refused("true", prefix=(build("old.c"), call))
    assert status == 2
    assert text == (
        "kvm-vfio: this kernel has no seccomp user notification that hands out files; use Linux"
        " 5.9 or newer\n"
    )


@pytest.mark.root
def test_where_user_namespaces_are_forbidden(build: Builder) -> None:
    status, text = refused("true", prefix=(build("old.c"), "unshare", *AS_NOBODY))
    assert status == 2
    assert text.startswith("kvm-vfio: a private /dev and /sys cannot be made here")
    assert text.count("\n") == 1


def test_a_file_that_cannot_be_written() -> None:
    status, text = refused("--trace", "/no/such/directory/file", "true")
    assert status == 2
    assert text == (
        "kvm-vfio: /no/such/directory/file: No such file or directory; name a file that can be"
        " written\n"
    )


@pytest.mark.root
def test_a_kvm_that_may_not_be_used() -> None:
    if os.path.exists("/dev/kvm") and os.stat("/dev/kvm").st_mode & 0o006:
        pytest.skip(f"everybody may use /dev/kvm here; chmod 660 /dev/kvm {NOT_A_PACKAGE}")
    status, text = refused("--kvm", "host", "true", prefix=AS_NOBODY)
    assert status == 2
    assert text.startswith("kvm-vfio: /dev/kvm does not open: ")
    assert text.endswith("; use --kvm model, or a user who may\n")


def test_no_inotify_left(build: Builder) -> None:
    status, text = refused("true", prefix=(build("old.c"), "inotify"))
    assert status == 2
    assert text == (
        "kvm-vfio: inotify cannot be used (Too many open files); end another user of it, or as"
        " root: sysctl fs.inotify.max_user_instances=1024\n"
    )


def test_the_trace_survives_a_killed_supervisor(build: Builder, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    command = [*COMMAND, "--kvm", "model", "--quiet", "--trace", str(file), build("hammer.c")]
    with subprocess.Popen([*command, "1", "100000000"], stdout=subprocess.DEVNULL) as front:
        assert eventually(lambda: file.exists() and file.stat().st_size > 100_000)
        (supervisor,) = children(front.pid)
        os.kill(supervisor, signal.SIGKILL)
        front.wait(TIMEOUT)
    header, *records = read_trace(file)
    assert isinstance(header, Header)
    numbers = [record.n for record in records if isinstance(record, Call | Close)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 100
    assert not isinstance(records[-1], End)
