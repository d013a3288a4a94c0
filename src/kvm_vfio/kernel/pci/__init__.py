# SPDX-License-Identifier: GPL-2.0-only
"""PCI functions as software sees them: configuration space and BARs."""
