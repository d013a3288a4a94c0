# SPDX-License-Identifier: GPL-2.0-only
"""A hypothesis profile for a long look: pytest tests/model --hypothesis-profile=slow."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("slow", max_examples=2000)
