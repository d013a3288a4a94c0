# SPDX-License-Identifier: GPL-2.0-only
"""What `import kvm_vfio` gives, and how little it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kvm_vfio


@pytest.mark.parametrize("name", kvm_vfio.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(kvm_vfio, name).__name__ == name


def test_the_names_are_listed_in_order() -> None:
    assert dir(kvm_vfio) == sorted(kvm_vfio.__all__)


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Iommu'"):
        _ = kvm_vfio.Iommu


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*(m for m in sys.modules if 'kvm_vfio' in m))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    assert loaded_after("import kvm_vfio") == {"kvm_vfio"}


def test_the_model_does_not_load_the_host() -> None:
    loaded = loaded_after("import kvm_vfio; kvm_vfio.model()")
    assert "kvm_vfio.client" in loaded
    assert loaded.isdisjoint({"kvm_vfio.host", "kvm_vfio.cli", "kvm_vfio.supervisor"})
