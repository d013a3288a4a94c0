# SPDX-License-Identifier: GPL-2.0-only
"""Who calls, from Python: typed objects over any Syscalls, and programs in this process."""
