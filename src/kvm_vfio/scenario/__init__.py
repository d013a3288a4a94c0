# SPDX-License-Identifier: GPL-2.0-only
"""Sequences of calls as text: `language` reads them, `runner` performs them on any kernel.

The same script on two kernels gives two texts, and their difference is the difference of the
kernels.
"""
