# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own KVM selftests: built from Debian's source package, run on a real kernel."""
