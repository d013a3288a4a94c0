# SPDX-License-Identifier: GPL-2.0-only
"""What real kernels' KVM said, a module a kernel, written by tools/record_kvm.py."""
