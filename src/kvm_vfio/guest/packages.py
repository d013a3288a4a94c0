# SPDX-License-Identifier: GPL-2.0-only
"""Debian's kernel packages, fetched by apt and unpacked into a cache.

Rule of this file: nothing is installed, nothing outside the cache is written, no privilege is
needed. apt works on its own lists and its own state; which mirror it asks, and whose signatures it
believes, is what this computer's apt has been told.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

import msgspec

from kvm_vfio.errors import InputError, Unsupported
from kvm_vfio.guest import force, image, modules

Progress = Callable[[str], None]
"""Hears, in a few words, what is being done."""

SUITES = MappingProxyType(
    {
        "5.10": "bullseye-security",
        "6.1": "bookworm-security",
        "6.12": "trixie-security",
        "6.18": "trixie-backports",
        "7.3": "trixie-backports",
    }
)
"""The kernels that can be had, and the suite of Debian that each is in."""

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_NEEDED_PROGRAMS = ("apt-get", "apt-cache", "dpkg-deb")
_APT_CONFIG = """\
Dir::State "{root}/state";
Dir::State::status "/dev/null";
Dir::Cache "{root}/cache";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
"""


@dataclass(frozen=True, slots=True)
class Package:
    """A package as Debian published it: name, version, and the SHA-256 of its file."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class GuestKernel:
    """A kernel in the cache. `version` is what it is called here, `release` what it calls itself.

    `modules` are file names under `directory`, in an order in which they load.
    """

    version: str
    release: str
    packages: tuple[Package, ...]
    modules: tuple[str, ...]
    directory: Path
    no_force: str = ""
    """Why the module `force` could not be built for it; empty where it was."""
    drivers: tuple[str, ...] = ()
    """Modules for devices (`modules.DRIVERS`), likewise; none where they were not asked for."""

    @property
    def image(self) -> Path:
        """What boots."""
        unpacked = self.directory / "vmlinux"
        return unpacked if unpacked.exists() else self.directory / "vmlinuz"


_DRIVERS = "drivers.json"
"""A record of its own, so that a cache from before there was one can be read."""


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """What `kernel.json` in the cache says of the files beside it."""

    release: str
    packages: list[Package]
    modules: list[str]
    no_force: str = "it was prepared without"


def cache_directory() -> Path:
    """Where this user's caches are: $XDG_CACHE_HOME/kvm-vfio, ~/.cache/kvm-vfio."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "kvm-vfio"


def prepared(version: str) -> GuestKernel | None:
    """The kernel, if it is in the cache."""
    directory = _directory(version)
    try:
        text = (directory / "kernel.json").read_bytes()
    except FileNotFoundError:
        return None
    record = msgspec.json.decode(text, type=_Record)
    return GuestKernel(
        version=version,
        release=record.release,
        packages=tuple(record.packages),
        modules=tuple(record.modules),
        directory=directory,
        no_force=record.no_force,
        drivers=_drivers(directory),
    )


def _drivers(directory: Path) -> tuple[str, ...]:
    try:
        text = (directory / _DRIVERS).read_bytes()
    except FileNotFoundError:
        return ()
    return msgspec.json.decode(text, type=tuple[str, ...])


def kernel(version: str) -> GuestKernel:
    """The kernel from the cache. Unsupported, with the remedy, when it is not there."""
    found = prepared(version)
    if found is None:
        raise Unsupported(
            f"the kernel {version} is not in {cache_directory()}; "
            f"fetch it with: kvm-vfio guest prepare {version}"
        )
    return found


def prepare(version: str, progress: Progress) -> GuestKernel:
    """Fetch the newest package of this kernel and unpack what a guest needs of it.

    Unsupported, in one sentence, when apt or the network cannot.
    """
    directory = _directory(version)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetch-") as name:
        scratch = Path(name)
        apt = Apt(scratch, SUITES[version])
        progress(f"Linux {version}: reading Debian's package list")
        apt.update()
        release = _newest(version, apt.package_names())
        wanted = apt.packages_of(release)
        progress(f"Linux {version}: downloading {', '.join(wanted)}")
        debs = apt.download(wanted)
        progress(f"Linux {version}: unpacking")
        made = scratch / "kernel"
        order = _unpack(debs, made)
        no_force = _add_force(apt, release, scratch, made)
        _write_record(made, _Record(release, [*debs.values()], order, no_force))
        shutil.rmtree(directory, ignore_errors=True)
        made.rename(directory)
    return kernel(version)


def _directory(version: str) -> Path:
    if version not in SUITES:
        known = ", ".join(SUITES)
        raise InputError(f"there is no guest kernel {version!r}; there are {known}.")
    return cache_directory() / "kernels" / version


def _newest(version: str, names: Iterable[str]) -> str:
    """The newest release among `linux-image-RELEASE-amd64`, as in 6.12.117+deb13-amd64."""
    form = re.compile(
        rf"linux-image-({re.escape(version)}\.\d+(?:\.\d+)*(?:-\d+|\+deb[\d.]+)-amd64)"
    )
    releases = [found[1] for name in names if (found := form.fullmatch(name))]
    if not releases:
        raise Unsupported(f"Debian's {SUITES[version]} has no Linux {version} any more.")
    return max(releases, key=_numbers)


def _numbers(release: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", release.removesuffix("-amd64"))]


# -- apt, in a directory of its own ----------------------------------------------------------------


class Apt:
    """apt with its own sources, lists and state under `root`; it knows one suite."""

    def __init__(self, root: Path, suite: str) -> None:
        for program in _NEEDED_PROGRAMS:
            if shutil.which(program) is None:
                raise Unsupported(f"{program} is not here; kernels are fetched on Debian only.")
        self._root = root
        self._suite = suite
        for part in ("state/lists/partial", "cache/archives/partial"):
            (root / part).mkdir(parents=True)
        (root / "sources.list").write_text(_source(suite))
        (root / "apt.conf").write_text(_APT_CONFIG.format(root=root))

    def update(self) -> None:
        self._run("apt-get", "--quiet", "update")

    def package_names(self) -> list[str]:
        return self._run("apt-cache", "pkgnames", "linux-").split()

    def packages_of(self, release: str) -> list[str]:
        """Newer kernels come in three parts; the image is then an empty one."""
        there = set(self.package_names())
        parts = [f"linux-{part}-{release}" for part in ("binary", "modules")]
        return parts if there.issuperset(parts) else [f"linux-image-{release}"]

    def download(self, names: Iterable[str], into: str = "debs") -> dict[Path, Package]:
        """The files, and what they are."""
        directory = self._root / into
        directory.mkdir()
        self._run("apt-get", "--quiet", "download", *names, cwd=directory)
        return {deb: self._identify(deb) for deb in sorted(directory.glob("*.deb"))}

    def unpack(self, deb: Path, into: Path) -> None:
        """All that is in a package."""
        self._run("dpkg-deb", "--extract", str(deb), str(into))

    def _identify(self, deb: Path) -> Package:
        name, version = (
            self._run("dpkg-deb", "--field", str(deb), field).strip()
            for field in ("Package", "Version")
        )
        return Package(name, version, sha256(deb.read_bytes()).hexdigest())

    def _run(self, *command: str, cwd: Path | None = None) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._root / "apt.conf"), "LC_ALL": "C"}
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            reason = reasons[0][2:].strip() if reasons else f"status {done.returncode}"
            raise Unsupported(f"{' '.join(command[:3])} failed for {self._suite}: {reason}")
        return done.stdout


def _source(suite: str) -> str:
    """A line of sources.list for `suite`, on the mirror that this computer uses."""
    mirror = _mirror(security=suite.endswith("-security"))
    signed = f" signed-by={_KEYRING}" if _KEYRING.exists() else ""
    return f"deb [arch=amd64{signed}] {mirror} {suite} main\n"


def _mirror(*, security: bool) -> str:
    """Debian's archive, or its security archive, which stands beside it on a mirror."""
    uris = dict(_archives())
    if security in uris:
        return uris[security]
    beside = re.fullmatch(r"(.*/debian)/?", uris.get(False, ""))
    if security and beside:
        return f"{beside[1]}-security/"
    archive = "security archive" if security else "archive"
    raise Unsupported(f"this computer's apt sources do not have Debian's {archive}; add it first.")


def _archives() -> Iterator[tuple[bool, str]]:
    """Debian's archives that this computer's apt knows: whether it is security's, and where."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Component: main"],  # noqa: S607 - Debian's
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for line in listed.splitlines():
        suite, _, uri = line.partition(" ")
        if _is_debian(suite):
            yield suite.endswith("-security"), uri


def _is_debian(suite: str) -> bool:
    names = ("bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable")
    return suite.startswith(names)


def _add_force(apt: Apt, release: str, scratch: Path, into: Path) -> str:
    """Build the module `force` for this kernel; why not, where that cannot be."""
    headers = [f"linux-headers-{part}" for part in (release, release.replace("-amd64", "-common"))]
    if not set(apt.package_names()).issuperset(headers):
        return "Debian no longer has its headers"
    for deb in apt.download(headers, "headers"):
        apt.unpack(deb, scratch / "headers")
    arch, common = (scratch / "headers" / "usr" / "src" / name for name in headers)
    try:
        module = force.build(arch, common, scratch)
    except Unsupported as error:
        return str(error)
    (into / force.FILE).write_bytes(module)
    return ""


# -- unpacking -------------------------------------------------------------------------------------


def _write_record(into: Path, record: _Record) -> None:
    (into / "kernel.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def _unpack(debs: Mapping[Path, Package], into: Path) -> list[str]:
    """Take the kernel and the modules a guest needs out of the packages: the modules, in order."""
    into.mkdir()
    found: dict[str, bytes] = {}
    for deb in debs:
        _unpack_deb(deb, into, found)
    order, drivers = modules.load_order(found), modules.load_order(found, modules.DRIVERS)
    for name in {*order, *drivers}:
        (into / name).write_bytes(found[name])
    (into / _DRIVERS).write_bytes(msgspec.json.encode(drivers) + b"\n")
    return order


def _unpack_deb(deb: Path, into: Path, found: dict[str, bytes]) -> None:
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive,
    ):
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            if Path(member.name).name.startswith("vmlinuz"):
                _keep_kernel(file.read(), into)
            elif modules.may_be_needed(member.name):
                name, plain = modules.plain(Path(member.name).name, file.read())
                found[name] = plain


def _keep_kernel(bzimage: bytes, into: Path) -> None:
    unpacked = image.vmlinux(bzimage)
    (into / ("vmlinux" if unpacked else "vmlinuz")).write_bytes(unpacked or bzimage)
