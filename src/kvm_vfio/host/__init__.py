# SPDX-License-Identifier: GPL-2.0-only
"""Who answers, for real: the Linux of this computer."""

from kvm_vfio.host.running import HostSyscalls

__all__ = ["HostSyscalls"]
