# SPDX-License-Identifier: GPL-2.0-only
"""A guest with noncoherent DMA: played step by step, searched for stale data, drawn."""
