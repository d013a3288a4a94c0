# SPDX-License-Identifier: GPL-2.0-only
"""The model: Linux as far as KVM-VFIO needs it, pure. No os, no ctypes, no threads, no time.

`kvm.vfio` is the heart. `kernel` puts the parts together; `file` and `task` say what an open file
and a caller are; `kvm`, `vfio` and `iommu` are named as the directories of Linux are.
"""
