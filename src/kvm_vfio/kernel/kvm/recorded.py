# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel that is modelled said of itself.

Rule of this file: what nobody has recorded is not made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvm_vfio.errors import NotModelled
from kvm_vfio.profiles.recording import KvmRecording

if TYPE_CHECKING:
    from kvm_vfio.kernel.kernel import Kernel

LARGEST_CAPABILITY = 0xFFFF  # far above any: an unknown one is 0 in every kernel


def recorded(kernel: Kernel) -> KvmRecording:
    """The recording of this kernel's KVM. NotModelled: there is none."""
    of_kernel = kernel.profile.kvm_recording
    if of_kernel is None:
        raise NotModelled(f"nobody has recorded what the KVM of Linux {kernel.profile.name} can do")
    return of_kernel
