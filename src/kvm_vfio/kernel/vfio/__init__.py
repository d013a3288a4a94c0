# SPDX-License-Identifier: GPL-2.0-only
"""VFIO: containers, groups and devices for user space, and what KVM may ask of them."""
