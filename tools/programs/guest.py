# SPDX-License-Identifier: GPL-2.0-only
"""A program in a guest, in a process that nothing came before."""

from __future__ import annotations

from pathlib import Path

from kvm_vfio.guest.guest import Guest
from kvm_vfio.guest.process import GuestSyscalls
from kvm_vfio.guest.program import run_program
from tools.programs import transcript


def run_in(guest: Guest, program: Path, device: str) -> str:
    """What it says of the device, and how it ends."""
    process = GuestSyscalls(guest)
    ended = run_program(process, program.read_bytes(), [program.name, device], seconds=120)
    guest.renew()
    return transcript(ended.output, ended.status)
