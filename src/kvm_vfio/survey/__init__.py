# SPDX-License-Identifier: GPL-2.0-only
"""The machine that is really here: its IOMMUs and groups, and what a VM would make of them.

facts     what was read, as values
tree      /sys, /proc and /dev, read with bounds; never written
system    from the trees to facts
holders   which processes have files of VFIO open
judge     from facts to judgements: viable or not, what is missing, what WBINVD would do
record    from facts to a machine file
picture   the groups as SVG

All but `tree`, `system` and `holders` are pure.
"""
