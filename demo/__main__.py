# SPDX-License-Identifier: GPL-2.0-only
"""An unmodified QEMU gives a PCI device to a VM, on a machine that need not have VFIO.

Rule of this file: it starts what is installed, listens, and prints what was said; whatever it
prints about a call comes from the trace of `kvm-vfio run`.

Where /dev/kvm does not open, KVM is the model's own (`--model-kvm` asks for that). Where QEMU is
missing too, a small C program makes its calls; where there is no compiler either, the same in
Python. `--without-qemu` asks for that.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from demo.conversation import Conversation

HERE = Path(__file__).parent
DEVICE = "0000:00:12.0"  # the NVMe drive of the built-in machine `default`
GROUP = "3"
RUN = [sys.executable, "-m", "kvm_vfio", "run"]


def opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def say(text: str = "") -> None:
    print(text, flush=True)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="kvm-vfio-demo-") as directory:
        scratch = Path(directory)
        qemu = None if "--without-qemu" in sys.argv else shutil.which("qemu-system-x86_64")
        reason = "qemu-system-x86_64 is not installed"
        if qemu:
            try:
                return asyncio.run(with_qemu(qemu, scratch, host_kvm=host_kvm()))
            except ConnectionError as error:
                reason = str(error)
                say()
        say(f"{reason}, so a small program of ours makes QEMU's calls,")
        say("and KVM is the model's own: it makes VMs and devices, and runs no guest.")
        return without_qemu(scratch)


def host_kvm() -> bool:
    """Whether QEMU gets this computer's KVM."""
    return "--model-kvm" not in sys.argv and opens("/dev/kvm")


def version(qemu: str) -> str:
    """What QEMU says it is."""
    answer = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()[0]


async def with_qemu(qemu: str, scratch: Path, *, host_kvm: bool) -> int:
    from demo.machine_monitor import Qemu  # noqa: PLC0415  # qemu.qmp is needed here only

    if host_kvm:
        say(f"{version(qemu)}, unmodified, on this computer's /dev/kvm.")
    else:
        reason = "is not wanted" if opens("/dev/kvm") else "does not open here"
        say(f"{version(qemu)}, unmodified. This computer's /dev/kvm {reason},")
        say("so KVM is the model's own: it makes VMs and devices, and runs no guest.")
    say("VFIO, the IOMMU and the device are described, not there: kvm-vfio machine show default")
    talk = Conversation(scratch / "trace")
    command = [
        qemu,
        "-accel",
        "kvm",
        "-S",
        "-machine",
        "pc",
        "-nodefaults",
        "-display",
        "none",
    ]
    command += ["-device", f"vfio-pci,host={DEVICE},id=drive"]
    say()
    kvm = ["--kvm", "host" if host_kvm else "model"]
    say(f"$ kvm-vfio run {' '.join(kvm)} -- qemu-system-x86_64 {' '.join(command[1:])}")
    wrapper = [*RUN, *kvm, "--trace", str(talk.trace), "--summary", str(scratch / "summary"), "--"]
    async with Qemu([*wrapper, *command], scratch / "qmp") as monitor:
        talk.show()
        say()
        say("QMP> device_del drive, system_reset (which lets a paused guest's device go)")
        await monitor.unplug("drive")
        talk.show()
        say()
        say("QMP> device_add vfio-pci drive")
        await monitor.execute("device_add", driver="vfio-pci", host=DEVICE, id="drive")
        talk.show()
        say()
        say("QMP> device_del drive, system_reset, quit")
        await monitor.unplug("drive")
    talk.show()
    return conclude(talk, scratch / "summary", monitor.status)


def without_qemu(scratch: Path) -> int:
    talk = Conversation(scratch / "trace")
    compiler = shutil.which("gcc") or shutil.which("cc")
    program = [sys.executable, str(HERE / "vmm.py")]
    if compiler:
        binary = scratch / "vmm"
        build = [compiler, "-O2", "-static", "-o", str(binary), str(HERE / "vmm.c")]
        if subprocess.run(build, check=False).returncode == 0:
            program = [str(binary)]
    say()
    say(f"$ kvm-vfio run --kvm model -- {Path(program[-1]).name} {GROUP} {DEVICE}")
    wrapper = [*RUN, "--kvm", "model", "--trace", str(talk.trace)]
    wrapper += ["--summary", str(scratch / "summary"), "--"]
    status = subprocess.run([*wrapper, *program, GROUP, DEVICE], check=False).returncode
    talk.show()
    return conclude(talk, scratch / "summary", status)


def conclude(talk: Conversation, summary: Path, status: int) -> int:
    """Print the summary and whether all that was to be seen was seen; the exit status."""
    say()
    say(summary.read_text().rstrip())
    say()
    lacking = talk.lacking()
    if status or lacking:
        say(f"The demonstration failed: exit status {status}; not seen: {', '.join(lacking)}.")
        return 1
    say("GROUP_ADD and GROUP_DEL were answered 0, WBINVD was executed in between, nothing leaked.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
