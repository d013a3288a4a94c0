# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own VFIO tests on real kernels and under `kvm-vfio run`, device by device.

    python -m tools.selftests [LINUX...]

Exit status 1 if any verdict differs.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping

from kvm_vfio.errors import KvmVfioError
from kvm_vfio.guest.process import boot
from tools.selftests.build import TESTS, built
from tools.selftests.verdicts import DEVICES, on_guest, under_run


def main() -> int:
    """A line for each program and device."""
    directory = built()
    differ = 0
    for linux in sys.argv[1:] or ("6.12", "7.3"):
        with boot(linux) as process:
            for test in TESTS:
                for device in DEVICES:
                    real = on_guest(process, directory / test, device)
                    ours = under_run(linux, directory / test, device)
                    print(f"{linux} {test} {device}: {_told(real)}", end="", flush=True)
                    print("" if ours == real else f"; under run: {_told(ours)}")
                    differ += ours != real
    return 1 if differ else 0


def _told(verdicts: Mapping[str, str]) -> str:
    counted = Counter(verdicts.values())
    return ", ".join(f"{counted[word]} {word}" for word in ("pass", "fail", "skip"))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KvmVfioError as error:
        sys.exit(f"tools.selftests: {error}")
