# SPDX-License-Identifier: GPL-2.0-only
"""The second witness: what a C compiler reads in a named kernel's headers.

From the repository's root, with the package's headers unpacked (dpkg -x) anywhere::

    python -m tools.witness.witness --headers DIR/usr/include "linux-libc-dev 6.12.117-1"

That is all of tests/data/witness/linux-libc-dev_6.12.117.txt.

Every fact of `facts` is one line of a C program. A line that does not compile is one that these
headers cannot answer; it is dropped and recorded as absent. Only the kernel's headers are used:
the C library's would lend their own.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tools.witness import facts
from tools.witness.facts import Fact

_PROLOGUE = "int printf(const char *, ...);\n"

# A number as C has it, in its own width: 1 << 31 is not to become 64 bits of sign.
_LINE = (
    'printf("{name} %#llx\\n", '
    "sizeof({c}) == 4 ? (unsigned long long)(unsigned)({c}) : (unsigned long long)({c}));"
)


def ask(asked: Iterable[Fact], headers: Iterable[str], include: Path, arch: str) -> list[str]:
    """One line a fact: its name and the value in hexadecimal, or its name and `absent`."""
    search = ["-nostdinc", "-isystem", str(include), "-isystem", str(include / f"{arch}-linux-gnu")]
    prologue = _PROLOGUE + "".join(f"#include <{header}>\n" for header in headers)
    questions = list(asked)
    absent: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        source, program = Path(directory, "ask.c"), Path(directory, "ask")
        while True:
            body = [_LINE.format(name=fact.name, c=fact.expression) for fact in questions]
            text = prologue + "int main(void) {\n" + "\n".join(body) + "\nreturn 0; }\n"
            source.write_text(text)
            bad = _compile([*search, "-o", str(program), str(source)], source.name)
            if not bad:
                break
            first = text[: text.index("int main")].count("\n") + 2
            absent += [fact.name for n, fact in enumerate(questions, first) if n in bad]
            questions = [fact for n, fact in enumerate(questions, first) if n not in bad]
        answered = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return answered.splitlines() + [f"{name} absent" for name in absent]


def _compile(arguments: list[str], source: str) -> set[int]:
    """The lines of `source` that do not compile; none when there is a program now."""
    command = ["gcc", "-fmax-errors=0", "-ftrack-macro-expansion=0", "-w", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    bad = {int(n) for n in re.findall(rf"{re.escape(source)}:(\d+):\d+: error", done.stderr)}
    if done.returncode and not bad:
        sys.exit(f"gcc cannot read these headers: {done.stderr.strip()}")
    return bad


def witness(include: Path) -> list[str]:
    """All that the headers under `include` say, sorted."""
    lines = ask(facts.x86_64(), facts.HEADERS, include, "x86_64")
    if (include / "aarch64-linux-gnu").is_dir():
        lines += ask(facts.syscalls("aarch64"), ["asm/unistd.h"], include, "aarch64")
    return sorted(lines)


def main() -> None:
    """Print the witness; its first line names the package that the headers are from."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--headers", type=Path, default=Path("/usr/include"))
    parser.add_argument("package", help="name and version, as dpkg-query -W prints them")
    arguments = parser.parse_args()
    print(arguments.package, *witness(arguments.headers), sep="\n")


if __name__ == "__main__":
    main()
