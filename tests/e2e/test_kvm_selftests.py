# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own KVM selftests, on the model's KVM and on a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.supervised import supervised
from tools.kvm_selftests.build import PARTS, PROGRAMS, programs
from tools.kvm_selftests.guest import verdicts

pytestmark = [pytest.mark.slow, pytest.mark.qemu, pytest.mark.gcc]


@pytest.fixture(scope="module")
def built() -> dict[str, Path]:
    return programs()


@pytest.mark.parametrize("linux", ["6.1", "6.12"])
def test_the_model_gets_the_verdicts_of_a_real_kernel(linux: str, built: dict[str, Path]) -> None:
    real = verdicts(linux, built)
    assert len(real) == len(PROGRAMS) + len(PARTS)
    for name, program in built.items():
        done = supervised("--kvm", "model", "--linux", linux, str(program))
        assert done.returncode == real[name] == 0, name
        assert "NOT MODELLED" not in done.stderr
