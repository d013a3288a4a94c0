# SPDX-License-Identifier: GPL-2.0-only
"""The page as a file: what is in it, and what cannot be."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import zlib
from base64 import b64decode
from pathlib import Path

import msgspec
from click.testing import CliRunner

import kvm_vfio.report
from kvm_vfio.cli import main
from kvm_vfio.report.course import CHUNK, course
from kvm_vfio.report.page import page
from tests.unit.report.records import GROUP, Trace, a_vm_and_a_group

VENDOR = Path(kvm_vfio.report.__file__).parent / "vendor"


def unpacked(html: str, place: str) -> list[str]:
    match = re.search(rf'<script type="text/plain" id="{place}">(.*?)</script>', html, re.DOTALL)
    assert match
    return [zlib.decompress(b64decode(packed)).decode() for packed in match[1].split()]


def test_the_columns_say_what_the_history_says() -> None:
    made = course(a_vm_and_a_group().end())
    (text,) = unpacked(page(made), "data")
    data = json.loads(text)
    rows = data["rows"]
    assert rows["text"].split("\n") == [row.text for row in made.rows]
    assert [sum(rows["n"][: i + 1]) for i in range(len(made.rows))] == [r.n for r in made.rows]
    assert sum(rows["count"]) == len(rows["nodes"])
    assert dict(data["facts"])["program"] == "vmm --fast"


def test_every_row_has_its_record() -> None:
    trace = Trace()
    for number in range(CHUNK + 3):
        trace.call("VFIO_GROUP_GET_STATUS", GROUP, args={"argsz": number})
    chunks = unpacked(page(course(trace.end())), "packed-details")
    assert [len(chunk.split("\n")) for chunk in chunks] == [CHUNK, 3]
    assert json.loads(chunks[1].split("\n")[2])["args"] == {"argsz": CHUNK + 2}


def test_nothing_of_a_trace_is_markup() -> None:
    trace = Trace()
    trace.records[0].program = ["</script><script>alert(1)</script>", "{{data}}", "\x1b[31m"]  # type: ignore[union-attr]
    path = "</script><img src=x onerror=alert(2)>\n{{script}}"
    trace.call("openat", args={"path": path}, answer="ENOENT", why=path)
    html = page(course(trace.end()))
    assert "alert(" not in html.replace(
        "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; {{data}}", ""
    )
    (text,) = unpacked(html, "data")
    assert len(json.loads(text)["rows"]["text"].split("\n")) == 1


def test_nothing_is_fetched() -> None:
    html = page(course(a_vm_and_a_group().end()))
    assert "default-src 'none'" in html
    assert not re.search(r"<(link|img|iframe|script)\b[^>]*\b(src|href)=", html)


def test_what_is_vendored_is_what_is_recorded() -> None:
    recorded = tomllib.loads((VENDOR / "vendor.toml").read_text())["package"]
    files = {file["name"]: file["sha256"] for package in recorded for file in package["file"]}
    there = {path.name: path for path in VENDOR.iterdir() if path.name != "vendor.toml"}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()}
    assert digests == files
    for package in recorded:
        assert package["licence"] == "MIT"
        assert "MIT" in (VENDOR / f"{package['name']}.LICENSE").read_text() or (
            "Permission is hereby granted" in (VENDOR / f"{package['name']}.LICENSE").read_text()
        )


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    encode = msgspec.json.Encoder().encode
    file.write_bytes(b"".join(encode(r) + b"\n" for r in a_vm_and_a_group().end()))
    result = CliRunner().invoke(main, ["report", str(file)], prog_name="kvm-vfio")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'a.html'}\n")
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")


def test_no_trace_no_page(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("nonsense\n")
    for name, reason in (("a.jsonl", "name a file that --trace wrote"), ("b", "No such file")):
        result = CliRunner().invoke(main, ["report", str(tmp_path / name)], prog_name="kvm-vfio")
        assert result.exit_code == 2
        assert reason in result.stderr
    assert not (tmp_path / "a.html").exists()
