# SPDX-License-Identifier: GPL-2.0-only
"""The record of what a program did and what came of it."""
