# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own VFIO tests: a real kernel and `kvm-vfio run` side by side."""
