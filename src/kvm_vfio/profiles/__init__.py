# SPDX-License-Identifier: GPL-2.0-only
"""Where kernels differ, as data: `Profile` names the behaviours, `table` says who has which."""

from kvm_vfio.profiles.profile import Coherency, DeviceEnd, DomainScope, Profile
from kvm_vfio.profiles.table import DEFAULT, PROFILES

__all__ = ["DEFAULT", "PROFILES", "Coherency", "DeviceEnd", "DomainScope", "Profile"]
