# SPDX-License-Identifier: GPL-2.0-only
"""The demonstration: `./dev demo`."""
