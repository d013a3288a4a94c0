# SPDX-License-Identifier: GPL-2.0-only
"""Recordings of /sys, /proc and /dev: what `kvm-vfio inspect` reads on a machine, as a text."""
