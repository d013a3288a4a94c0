# SPDX-License-Identifier: GPL-2.0-only
"""What is x86's own."""
