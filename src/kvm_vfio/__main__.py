# SPDX-License-Identifier: GPL-2.0-only
"""`python -m kvm_vfio`: the command, where its script is not on PATH."""

from kvm_vfio.cli import main

main(prog_name="kvm-vfio")
