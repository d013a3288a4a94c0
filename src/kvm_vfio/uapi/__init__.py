# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's user interface as data: numbers, structures, requests. No behaviour.

`layout` says how C lays a structure out; every other module is one header of Linux.
"""
