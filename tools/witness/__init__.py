# SPDX-License-Identifier: GPL-2.0-only
"""The second witness of `kvm_vfio.uapi`: a C compiler and a named kernel's headers."""
