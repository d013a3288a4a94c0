# SPDX-License-Identifier: GPL-2.0-only
"""KVM of Linux 5.10.0-46-amd64 on QEMU's AMD processor.

Written by tools/record_kvm.py from
linux-image-5.10.0-46-amd64 5.10.262-1
"""

RELEASE = "5.10.0-46-amd64"
EXTENSIONS = """
0 1
1 1
2 1
3 1
4 1
6 1
7 1
8 1
9 240
10 509
11 1
12 1
14 1
15 2
16 1
21 1
22 1
23 1
24 1
25 4096
26 1
30 1
31 32
32 1
33 1
34 1
35 1
36 1
37 1
38 1
39 2
40 1
41 1
44 1
45 1
46 1
47 1
50 1
51 1
55 1
56 1
59 1
61 1
66 288
72 1
74 7
76 1
77 1
81 1
82 1
95 1
96 1
97 1
98 1
100 1
105 1
116 1
117 1
118 2
121 1
122 1
123 1
128 1023
129 3
136 1
143 15
148 1
149 1
153 1
154 1
155 1
157 4224
159 1
161 1
162 1
164 1
167 1
168 3
173 1
182 1
183 1
184 1
187 1
188 1
189 1
190 1
"""
VM_EXTENSIONS = """
"""
SUPPORTED_CPUID = """
0 0 0 d 68747541 444d4163 69746e65
1 0 0 60fb1 800 76f83203 f8bfbfd
2 0 0 0 0 0 0
3 0 0 0 0 0 0
4 0 1 0 0 0 0
5 0 0 0 0 0 0
6 0 0 4 0 0 0
7 0 1 0 19803ab 1020c 20000000
8 0 0 0 0 0 0
9 0 0 0 0 0 0
a 0 0 0 0 0 0
b 0 1 0 0 0 0
c 0 0 0 0 0 0
d 0 1 207 a88 a88 0
d 1 1 5 0 0 0
d 2 1 100 240 0 0
d 9 1 8 a80 0 0
80000000 0 0 8000000a 68747541 444d4163 69746e65
80000001 0 0 60fb1 0 75 edd3fbfd
80000002 0 0 0 0 0 0
80000003 0 0 0 0 0 0
80000004 0 0 0 0 0 0
80000005 0 0 0 0 0 0
80000006 0 0 0 42004200 2008140 808140
80000007 0 0 0 0 0 0
80000008 0 0 3928 4000000 0 0
80000009 0 0 0 0 0 0
8000000a 0 0 1 8 0 1
40000000 0 0 40000001 4b4d564b 564b4d56 4d
40000001 0 0 1007efb 0 0 0
"""
EMULATED_CPUID = """
0 0 0 7 0 0 0
1 0 0 0 0 400000 0
7 0 1 0 0 400000 0
"""
SUPPORTED_HV_CPUID = """
"""
MSR_INDICES = """
174
175
176
c0000081
c0000083
c0000102
c0000084
c0000082
10
277
c0010117
3a
c0000103
48
309
30a
30b
38d
38e
38f
390
c1
c2
c3
c4
186
187
188
189
c0010000
c0010001
c0010002
c0010003
c0010004
c0010005
c0010006
c0010007
c0010200
c0010202
c0010204
c0010206
c0010208
c001020a
c0010201
c0010203
c0010205
c0010207
c0010209
c001020b
12
11
4b564d01
4b564d00
40000000
40000001
40000020
40000021
40000022
40000023
40000100
40000101
40000102
40000103
40000104
40000105
40000003
40000002
40000010
40000080
400000b0
40000073
40000106
40000107
40000108
400000ff
400000f1
400000f2
400000f3
400000f4
400000f5
4b564d02
4b564d03
4b564d04
4b564d06
4b564d07
3b
6e0
10a
345
1a0
17a
17b
9e
34
ce
140
c001011f
1fc
8b
c0010015
4b564d05
"""
FEATURE_MSRS = """
c0011029 2
8b 1000065
10a 400000000c000079
345 0
"""
TSC_KHZ = """
2596120
"""
MCE_CAP = """
1000100
"""
ATTRIBUTES = """
"""
VCPU_MMAP_SIZE = """
12288
"""
MSRS = """
10 clock 0 ffffffffffffffff 0
11 0 0 ffffffffffffffff ffffffffffffffff
12 0 0 ffffffffffffffff ffffffffffffffff
17 0 - 0 0
1b fee00900 0 ffffff900 100
2a 0 - 0 0
2c 1000000 - 0 0
33 - - 0 0
34 0 0 ffffffffffffffff ffffffffffffffff
3a - - 0 0
3b clock 0 ffffffffffffffff 0
48 0 0 ffffffffffffffff ffffffffffffffff
79 - 0 ffffffffffffffff 0
8b 1000065 0 ffffffffffffffff ffffffffffffffff
9e 30000 0 ffffffffffffffff ffffffffffffffff
c1 0 0 ffffffffffffffff 0
c2 0 0 ffffffffffffffff 0
c3 - - 0 0
c4 - - 0 0
cd 3 - 0 0
ce 80000000 0 ffffffffffffffff ffffffffffffffff
e1 - - 0 0
e7 - - 0 0
e8 - - 0 0
fe 508 - 0 0
10a 400000000c000079 0 ffffffffffffffff ffffffffffffffff
119 - - 0 0
122 - - 0 0
140 0 0 1 1
174 0 0 ffffffffffffffff ffffffffffffffff
175 0 0 ffffffffffffffff 7fffffffffff
176 0 0 ffffffffffffffff 7fffffffffff
179 20 - 0 0
17a 0 0 ffffffffffffffff ffffffffffffffff
17b 0 0 0 0
186 0 0 ffffffffffffffff 0
187 0 0 ffffffffffffffff 0
188 - - 0 0
189 - - 0 0
198 400000003e8 - 0 0
199 0 - 0 0
19a - - 0 0
19c - - 0 0
1a0 0 0 ffffffffffffffff ffffffffffffffff
1c4 - - 0 0
1c5 - - 0 0
1d9 0 0 ffffffffffffffff 0
1da - - 0 0
1db 0 - 0 0
1dc 0 - 0 0
1dd 0 - 0 0
1de 0 - 0 0
1fc 0 0 ffffffffffffffff ffffffffffffffff
200 0 0 ffffff005 ffffff005
201 0 0 ffffff800 ffffff800
202 0 0 ffffff005 ffffff005
203 0 0 ffffff800 ffffff800
204 0 0 ffffff005 ffffff005
205 0 0 ffffff800 ffffff800
206 0 0 ffffff005 ffffff005
207 0 0 ffffff800 ffffff800
208 0 0 ffffff005 ffffff005
209 0 0 ffffff800 ffffff800
20a 0 0 ffffff005 ffffff005
20b 0 0 ffffff800 ffffff800
20c 0 0 ffffff005 ffffff005
20d 0 0 ffffff800 ffffff800
20e 0 0 ffffff005 ffffff005
20f 0 0 ffffff800 ffffff800
210 - - 0 0
250 0 0 505050505050505 505050505050505
258 0 0 505050505050505 505050505050505
259 0 0 505050505050505 505050505050505
268 0 0 505050505050505 505050505050505
269 0 0 505050505050505 505050505050505
26a 0 0 505050505050505 505050505050505
26b 0 0 505050505050505 505050505050505
26c 0 0 505050505050505 505050505050505
26d 0 0 505050505050505 505050505050505
26e 0 0 505050505050505 505050505050505
26f 0 0 505050505050505 505050505050505
277 7040600070406 0 505050505050505 505050505050505
280 - - 0 0
281 - - 0 0
29f - - 0 0
2ff 0 0 c05 c05
309 - - 0 0
30a - - 0 0
30b - - 0 0
345 0 0 0 0
38d - - 0 0
38e - - 0 0
38f - - 0 0
390 - - 0 0
400 0 0 0 0
401 0 0 ffffffffffffffff ffffffffffffffff
402 0 0 ffffffffffffffff ffffffffffffffff
403 0 0 ffffffffffffffff ffffffffffffffff
404 0 0 0 0
405 0 0 ffffffffffffffff ffffffffffffffff
406 0 0 ffffffffffffffff ffffffffffffffff
407 0 0 ffffffffffffffff ffffffffffffffff
47c 0 0 0 0
47d 0 0 ffffffffffffffff ffffffffffffffff
47e 0 0 ffffffffffffffff ffffffffffffffff
47f 0 0 ffffffffffffffff ffffffffffffffff
480 - - 0 0
4e0 - - 0 0
560 - - 0 0
570 - - 0 0
60d - - 0 0
6a0 - - 0 0
6a2 - - 0 0
6a4 - - 0 0
6e0 0 0 ffffffffffffffff 0
802 - - 0 0
808 - - 0 0
80e - - 0 0
830 - - 0 0
da0 0 0 0 0
12345 - - 0 0
40000000 0 0 ffffffffffffffff ffffffffffffffff
40000001 0 0 ffffffffffffffff 0
40000002 0 0 ffffffff000001ff 1ff
40000003 0 0 ffffffffffffffff 0
40000010 clock 0 ffffffffffffffff 0
40000020 clock 0 ffffffffffffffff 0
40000021 0 0 ffffffffffffffff ffffffffffffffff
40000022 clock 0 ffffffffffffffff 0
40000023 3b9aca00 0 ffffffffffffffff 0
40000073 0 0 fffffffffffffffe fffffffffffffffe
40000080 0 0 0 0
400000b0 0 0 0 0
400000b1 0 0 0 0
400000b2 0 0 0 0
400000b3 0 0 0 0
400000b4 0 0 0 0
400000b5 0 0 0 0
400000b6 0 0 0 0
400000b7 0 0 0 0
400000f1 0 0 ffffffffffffffff ffffffffffffffff
400000f2 0 0 ffffffffffffffff ffffffffffffffff
400000f3 0 0 ffffffffffffffff ffffffffffffffff
400000f4 0 0 ffffffffffffffff ffffffffffffffff
400000f5 0 0 ffffffffffffffff ffffffffffffffff
400000ff 0 0 ffffffffffffffff ffffffffffffffff
40000100 0 0 ffffffffffffffff ffffffffffffffff
40000101 0 0 ffffffffffffffff ffffffffffffffff
40000102 0 0 ffffffffffffffff ffffffffffffffff
40000103 0 0 ffffffffffffffff ffffffffffffffff
40000104 0 0 ffffffffffffffff ffffffffffffffff
40000105 0 0 ffffffffffffffff 8000000000000000
40000106 0 0 ffffffffffffffff ffffffffffffffff
40000107 0 0 ffffffffffffffff ffffffffffffffff
40000108 0 0 ffffffffffffffff ffffffffffffffff
40000118 - - 0 0
4b564d00 0 0 ffffffffffffffff ffffffffffffffff
4b564d01 0 0 ffffffffffffffff ffffffffffffffff
4b564d02 0 0 0 0
4b564d03 0 0 ffffffffffffffc1 ffffffffffffffc1
4b564d04 0 0 fffffffffffffffc fffffffffffffffc
4b564d05 1 0 1 1
4b564d06 0 - 0 0
4b564d07 0 0 ffffffffffffffff 0
c0000080 0 0 3d01 3901
c0000081 0 0 ffffffffffffffff ffffffffffffffff
c0000082 0 0 7fffffffffff 7fffffffffff
c0000083 0 0 7fffffffffff 7fffffffffff
c0000084 0 0 ffffffffffffffff ffffffffffffffff
c00000e7 - - 0 0
c0000100 - - 0 0
c0000101 - - 0 0
c0000102 0 0 7fffffffffff 7fffffffffff
c0000103 0 0 ffffffffffffffff ffffffffffffffff
c0010000 0 0 ffffffffffffffff fffd7ffff
c0010001 0 0 ffffffffffffffff fffd7ffff
c0010002 0 0 ffffffffffffffff fffd7ffff
c0010003 0 0 ffffffffffffffff fffd7ffff
c0010004 0 0 ffffffffffffffff ffffffffffff
c0010005 0 0 ffffffffffffffff ffffffffffff
c0010006 0 0 ffffffffffffffff ffffffffffff
c0010007 0 0 ffffffffffffffff ffffffffffff
c0010010 0 - 0 0
c0010015 0 0 40148 40000
c001001b 20000000 0 ffffffffffffffff 0
c001001f 0 0 ffffffffffffffff 0
c0010030 - - 0 0
c0010055 0 - 0 0
c0010058 0 0 0 0
c0010112 0 - 0 0
c0010113 0 - 0 0
c0010114 0 0 1f 1f
c0010115 - 0 ffffffffffffffff 0
c0010117 0 0 ffffffffffffffff fffffffffffff000
c001011f 0 0 4 4
c0010130 - - 0 0
c0010131 - - 0 0
c0010140 - - 0 0
c0010141 - - 0 0
c0010200 0 0 ffffffffffffffff fffd7ffff
c0010201 0 0 ffffffffffffffff ffffffffffff
c0010202 0 0 ffffffffffffffff fffd7ffff
c0010203 0 0 ffffffffffffffff ffffffffffff
c0010204 0 0 ffffffffffffffff fffd7ffff
c0010205 0 0 ffffffffffffffff ffffffffffff
c0010206 0 0 ffffffffffffffff fffd7ffff
c0010207 0 0 ffffffffffffffff ffffffffffff
c0010208 0 0 ffffffffffffffff fffd7ffff
c0010209 0 0 ffffffffffffffff ffffffffffff
c001020a 0 0 ffffffffffffffff fffd7ffff
c001020b 0 0 ffffffffffffffff ffffffffffff
c0011020 - - 0 0
c0011022 0 0 ffffffffffffffff 0
c0011023 0 0 ffffffffffffffff 0
c0011029 0 0 2 2
c001102a 0 0 ffffffffffffffff 0
c001102c 0 0 ffffffffffffffff 0
"""
MSRS_WITH_CPUID = """
1b fee00900 0 fffffff900 100
200 0 0 fffffff005 fffffff005
201 0 0 fffffff800 fffffff800
202 0 0 fffffff005 fffffff005
203 0 0 fffffff800 fffffff800
204 0 0 fffffff005 fffffff005
205 0 0 fffffff800 fffffff800
206 0 0 fffffff005 fffffff005
207 0 0 fffffff800 fffffff800
208 0 0 fffffff005 fffffff005
209 0 0 fffffff800 fffffff800
20a 0 0 fffffff005 fffffff005
20b 0 0 fffffff800 fffffff800
20c 0 0 fffffff005 fffffff005
20d 0 0 fffffff800 fffffff800
20e 0 0 fffffff005 fffffff005
20f 0 0 fffffff800 fffffff800
"""
FRESH_REGS = """
80 f0ff0000000000000200000000000000
90
"""
FRESH_SREGS = """
0 0000ffff00000000ffff000000f00a01
10 00000100000000000000000000000000
20 ffff0000000003010000010000000000
30 0000000000000000ffff000000000301
40 00000100000000000000000000000000
50 ffff0000000003010000010000000000
60 0000000000000000ffff000000000301
70 00000100000000000000000000000000
80 ffff0000000002010000010000000000
90 0000000000000000ffff000000000301
b0 ffff0000000002010000000000000000
c0 0000000000000000ffff000000000000
d0 0000000000000000ffff000000000000
e0 10000060000000000000000000000000
110 0009e0fe000000000000000000000000
138
"""
FRESH_FPU = """
80 7f030000000000000000000000000000
1a0
"""
FRESH_XSAVE = """
0 7f030000000000000000000000000000
10 0000000000000000801f000000000000
1000
"""
FRESH_XCRS = """
0 01000000000000000000000000000000
10 01000000000000000000000000000000
188
"""
FRESH_DEBUGREGS = """
20 f00fffff000000000004000000000000
80
"""
FRESH_VCPU_EVENTS = """
10 000000000d0000000000000000000000
40
"""
FRESH_MP_STATE = """
4
"""
FRESH_LAPIC = """
30 14000500000000000000000000000000
e0 ffffffff000000000000000000000000
f0 ff000000000000000000000000000000
320 00000100000000000000000000000000
330 00000100000000000000000000000000
340 00000100000000000000000000000000
350 00070000000000000000000000000000
360 00000100000000000000000000000000
370 00000100000000000000000000000000
400
"""
VM_STATS = """
"""
VCPU_STATS = """
"""
