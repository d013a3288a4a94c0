# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin, as pytest runs it: in processes of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs/pytest.md"


class Session:
    """A directory with tests, and what pytest said of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("pytest.ini", "[pytest]\naddopts = --strict-markers -p no:cacheprovider\n")

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(textwrap.dedent(text))

    def run(self, *options: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--color=no", *options],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout + done.stderr

    def outcomes(self, *options: str) -> dict[str, int]:
        output = self.run(*options)
        print(output)
        counts = re.findall(r"(\d+) (passed|failed|error|warning)s?", output.splitlines()[-1])
        return {what: int(number) for number, what in counts}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def test_the_documented_example_runs_12_times_and_finds_a_leak(session: Session) -> None:
    vmm, tests, _ = examples()
    session.write("tinyvmm.py", vmm)
    session.write("test_tinyvmm.py", tests)
    output = session.run()
    assert re.search(r"12 passed, 6 errors in", output)
    shown = re.search(r"```text\n_+ (.*?) _+\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert shown
    assert shown[1] in output
    assert shown[2] in output
    session.write("tinyvmm.py", vmm.replace("delete(group)  #", "delete(group); group.close()  #"))
    assert session.outcomes() == {"passed": 12}


def test_each_case_has_a_name(session: Session) -> None:
    session.write(
        "test_names.py",
        """
        import pytest
        MACHINES = ["default", "referee"]
        @pytest.mark.vfio(linux=["5.10", "7.3"], snoop=[True, False], machine=MACHINES)
        def test_it(vfio_case): pass
        def test_plain(vfio_case): assert (vfio_case.linux, vfio_case.snoop) == ("6.12", None)
        """,
    )
    output = session.run("-v")
    for name in ("5.10-snoop]", "5.10-nosnoop-referee]", "7.3-snoop-referee]"):
        assert f"test_it[{name} PASSED" in output
    assert "9 passed" in output


def test_a_failure_is_explained(session: Session) -> None:
    session.write(
        "test_failure.py",
        """
        import pytest
        from kvm_vfio import Group, Kvm
        @pytest.mark.vfio(linux="5.10", leaks=False)
        def test_it(vfio_kernel):
            Kvm(vfio_kernel).create_vm().create_kvm_vfio().add(Group(vfio_kernel, 1))
        """,
    )
    output = session.run()
    assert "-- kvm-vfio explain, call --" in output
    assert "REFUSED with EINVAL: KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_ADD, group 1" in output
    assert "  fix:  Call VFIO_GROUP_SET_CONTAINER and VFIO_SET_IOMMU before" in output


def test_a_bad_mark_is_one_sentence(session: Session) -> None:
    bad = {
        'linux="6.99"': "test_bad0.py::test_it: there is no Linux '6.99'; there are 2013, ",
        'snoop="on"': "snoop is True, False or a list, and not 'on'",
        "kernel=1": "the marker vfio knows no kernel; say linux, snoop, machine, fail, ",
        '"6.1"': "the marker vfio knows no '6.1'; say linux",
    }
    for number, mark in enumerate(bad):
        session.write(
            f"test_bad{number}.py",
            f"""
            import pytest
            @pytest.mark.vfio({mark})
            def test_it(vfio_kernel): pass
            """,
        )
    output = session.run("--continue-on-collection-errors")
    for sentence in bad.values():
        assert sentence in output
    assert "Traceback" not in output
    assert "4 errors in" in output


LEAKS = """
    import pytest
    from kvm_vfio import Group
    def test_default(vfio_kernel): Group(vfio_kernel, 1)
    @pytest.mark.vfio(leaks=False)
    def test_off(vfio_kernel): Group(vfio_kernel, 1)
    @pytest.mark.vfio(leaks=True)
    def test_on(vfio_kernel): Group(vfio_kernel, 1)
"""


def test_leaks_fail_unless_they_may(session: Session) -> None:
    session.write("test_leaks.py", LEAKS)
    assert session.outcomes() == {"passed": 3, "error": 2}
    assert session.outcomes("-o", "vfio_leaks=false") == {"passed": 3, "error": 1}


def test_it_works_with_xdist(session: Session) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is missing; pip install pytest-xdist")
    session.write("test_leaks.py", LEAKS)
    output = session.run("-n", "2", "-v")
    assert re.search(r"3 passed, 2 errors in", output)
    assert 'group 1 (fd 3) is open since open("/dev/vfio/1") by python[1] [#1]' in output


def test_an_own_machine(session: Session) -> None:
    session.write(
        "test_machine.py",
        """
        import pytest
        from kvm_vfio import Group, load_machine
        @pytest.fixture
        def vfio_machine(): return load_machine("referee")
        def test_it(vfio_kernel, vfio_run):
            Group(vfio_kernel, 4).close()
            assert vfio_run("ls", "/dev/vfio", kvm="model").stdout.split() == [
                "1", "2", "3", "4", "5", "vfio"]
        """,
    )
    assert session.outcomes() == {"passed": 1}


def test_a_program_is_run_and_its_leaks_are_found(session: Session) -> None:
    session.write(
        "test_program.py",
        """
        import sys
        import pytest
        LEAKY = '''
        import fcntl, os
        container, group = os.open("/dev/vfio/vfio", 2), os.open("/dev/vfio/1", 2)
        fcntl.ioctl(group, 15208, container.to_bytes(4, "little"))
        os.close(container)
        '''
        GOOD = LEAKY + "os.close(group)"
        @pytest.mark.vfio(linux="6.1")
        @pytest.mark.parametrize("program", [LEAKY, GOOD], ids=["leaky", "good"])
        def test_it(vfio_run, program):
            done = vfio_run(sys.executable, "-c", program, kvm="model")
            assert done.returncode == 0, done.stderr
            assert done.explanation.linux == "6.1"
        """,
    )
    output = session.run("-v")
    assert re.search(r"test_it\[(leaky-6.1|6.1-leaky)\] ERROR", output)
    assert "2 passed, 1 error in" in output
    assert "which it was used with, had been closed." in output
