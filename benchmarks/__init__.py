# SPDX-License-Identifier: GPL-2.0-only
"""What things cost: `./dev bench`."""
