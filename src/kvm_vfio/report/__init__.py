# SPDX-License-Identifier: GPL-2.0-only
"""The report: a trace as one page that opens from disk, with nothing fetched from anywhere.

history   from records to what there was when: objects, their ties and their states, as spans
problems  what went wrong, first things first
page      the HTML: assets/ and vendor/ put together with the data
"""
