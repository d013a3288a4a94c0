# SPDX-License-Identifier: GPL-2.0-only
"""An errno inside the model."""

from __future__ import annotations

from errno import EBUSY

from kvm_vfio.kernel.error import KernelError


def test_it_carries_the_errno_and_the_reason_and_is_no_oserror() -> None:
    error = KernelError(EBUSY, "the VM has one already")
    assert (error.errno, error.why) == (EBUSY, "the VM has one already")
    assert OSError not in KernelError.__mro__
