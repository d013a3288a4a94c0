# SPDX-License-Identifier: GPL-2.0-only
"""Random scripts on two models: what is the same agrees, what is not is found and made short."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvm_vfio.scenario.coverage import Coverage
from kvm_vfio.scenario.fuzz import Campaign
from kvm_vfio.scenario.generate import Generator
from kvm_vfio.scenario.kernels import ModelKernel, model_kernel
from kvm_vfio.scenario.language import VERBS, parse

SEEDS = range(40)


def model(linux: str = "6.12", *, snoop: bool = False) -> ModelKernel:
    return model_kernel(linux, snoop=snoop)


def test_a_script_follows_from_its_seed() -> None:
    def script(seed: int) -> list[str]:
        generator = Generator(seed, force=True)
        return [generator.next() for _ in range(50)]

    assert script(7) == script(7)
    assert script(7) != script(8)
    assert len(parse("\n".join(script(7)))) == 50


def test_a_kernel_agrees_with_itself_and_everything_is_met() -> None:
    campaign = Campaign(model(), model())
    assert [campaign.script(seed) for seed in SEEDS] == [None] * len(SEEDS)
    met = {verb for verb, _ in campaign.coverage.answers}
    assert met == VERBS.keys()
    assert campaign.coverage.calls > 100 * len(SEEDS)
    assert campaign.coverage.answers["group_add", "ok"] > 100
    assert campaign.coverage.events["reg"] > 50
    assert campaign.coverage.died == []


def test_a_difference_is_found_once_and_shrinks_to_what_it_takes() -> None:
    campaign = Campaign(model("7.3"), model("6.12"))
    found = [each for seed in SEEDS if (each := campaign.script(seed))]
    assert found
    kinds = [each.difference.kind for each in found]
    assert len(kinds) == len(set(kinds))
    assert min(len(each.script) for each in found) <= 6


def test_a_single_changed_behaviour_is_named_by_the_difference() -> None:
    other = model()
    changed = replace(other, profile=replace(other.profile, wrong_container_errno=1))
    campaign = Campaign(other, changed)
    found = [each for seed in SEEDS if (each := campaign.script(seed))]
    verbs = {verb for verb, answers in (each.difference.kind for each in found)}
    assert "set_container" in verbs
    assert verbs <= {"set_container", "child", "ioctl"}  # by whichever name it is called
    assert {each.difference.kind[1] for each in found} == {"-EBADFD -EPERM"}
    assert len(found[0].script) <= 6  # an fd that is named by its number needs those before it


def test_coverage_adds_up() -> None:
    one, other = Coverage(), Coverage()
    one.add(["1 close v => 0 reg=0 unreg=0 net[v:gone=0] | devrel vmdel(v)", "--- text"])
    other.add(["1 close v => -EBADF reg=0 unreg=0 net[] |"])
    one.merge(other)
    assert one.calls == 3
    assert one.answers == {("close", "ok"): 1, ("close", "-EBADF"): 1}
    assert one.events == {"devrel": 1, "vmdel": 1}


@pytest.mark.parametrize("linux", ["5.10", "6.1", "6.12", "6.18", "7.3"])
def test_what_the_model_does_not_know_ends_a_script_early(linux: str) -> None:
    campaign = Campaign(model(linux), model(linux))
    for seed in SEEDS:
        assert campaign.script(seed, length=200) is None
    assert campaign.coverage.died == []
