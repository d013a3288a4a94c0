# SPDX-License-Identifier: GPL-2.0-only
"""KVM of Linux 6.18.15+deb13-amd64 on QEMU's AMD processor.

Written by tools/record_kvm.py from
linux-image-6.18.15+deb13-amd64 6.18.15-1~bpo13+1
"""

RELEASE = "6.18.15+deb13-amd64"
EXTENSIONS = """
0 1
1 1
2 1
3 1
4 1
6 1
7 1
8 1
9 1
10 32764
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
38 511
39 14
40 1
41 1
44 1
45 1
46 1
47 1
50 1
51 1
54 1
55 1
56 1
59 1
61 1
66 4096
70 1
72 1
74 7
76 1
77 1
81 1
82 1
89 1
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
127 1
128 16384
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
191 1
192 1048576
195 2031619
196 1
197 1
199 1
200 1
201 4096
203 1
204 1
206 1
208 4096
209 1
213 1023
215 1
218 1
220 1
223 1048576
226 1
231 1
232 1
233 8
234 1
235 1
236 1
237 1
238 1
244 3
"""
VM_EXTENSIONS = """
233 0
"""
SUPPORTED_CPUID = """
0 0 0 d 68747541 444d4163 69746e65
1 0 0 60fb1 800 f7f83203 f8bfbfd
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
80000005 0 0 1ff01ff 1ff01ff 40020140 40020140
80000006 0 0 0 42004200 2008140 808140
80000007 0 0 0 0 0 0
80000008 0 0 283928 4000000 0 0
80000009 0 0 0 0 0 0
8000000a 0 0 1 8 0 10010061
40000000 0 0 40000001 4b4d564b 564b4d56 4d
40000001 0 0 1007efb 0 0 0
"""
EMULATED_CPUID = """
0 0 0 7 0 0 0
1 0 0 0 0 400000 0
7 0 1 0 0 400000 0
"""
SUPPORTED_HV_CPUID = """
40000000 0 0 40000082 756e694c 564b2078 7648204d
40000001 0 0 31237648 0 0 0
40000002 0 0 3839 a0000 0 0
40000003 0 0 aaff 100830 0 84d12
40000004 0 0 40e2c fff 0 0
40000005 0 0 1000 40 0 0
40000080 0 0 0 756e694c 564b2078 7648204d
40000081 0 0 31235356 0 0 0
40000082 0 0 2 0 0 0
4000000a 0 0 a0000 1 0 0
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
40000118
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
c0000104
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
ce 80000000
"""
TSC_KHZ = """
2596121
"""
MCE_CAP = """
1000100
"""
ATTRIBUTES = """
0 0 207
1 0 0
"""
VCPU_MMAP_SIZE = """
12288
"""
MSRS = """
10 clock 0 ffffffffffffffff 0
11 0 0 ffffffffffffffff ffffffffffffffff
12 0 0 ffffffffffffffff ffffffffffffffff
17 0 - 0 0
1b fee00900 0 ffffff900 ffffff900
2a 0 - 0 0
2c 1000000 - 0 0
33 - - 0 0
34 0 0 ffffffffffffffff ffffffffffffffff
3a 0 0 0 0
3b clock 0 ffffffffffffffff 0
48 0 0 ffffffffffffffff ffffffffffffffff
79 - 0 ffffffffffffffff 0
8b 1000065 0 ffffffffffffffff ffffffffffffffff
9e 30000 0 ffffffffffffffff ffffffffffffffff
c1 0 0 ffffffffffffffff 0
cd 3 - 0 0
ce 80000000 0 ffffffffffffffff ffffffffffffffff
e1 - - 0 0
e7 - - 0 0
e8 - - 0 0
fe 508 - 0 0
10a 0 0 0 0
119 - - 0 0
122 - - 0 0
140 0 0 1 1
174 0 0 ffffffffffffffff ffffffffffffffff
175 0 0 ffffffffffffffff ffffffffffffff
176 0 0 ffffffffffffffff ffffffffffffff
179 20 - 0 0
17a 0 0 ffffffffffffffff ffffffffffffffff
17b 0 0 0 0
186 0 0 ffffffffffffffff 0
198 400000003e8 - 0 0
199 0 - 0 0
19a - - 0 0
19c - - 0 0
1a0 1800 0 ffffffffffffffff ffffffffffffffff
1c4 0 0 0 0
1c5 0 0 0 0
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
280 0 0 0 0
281 0 0 0 0
29f 0 0 0 0
2ff 0 0 c05 c05
345 0 0 0 0
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
da0 0 - 0 0
12345 - - 0 0
40000000 0 0 ffffffffffffffff ffffffffffffffff
40000001 0 0 ffffffffffffffff 0
40000002 0 0 ffffffff00000fff fff
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
40000118 0 0 1 1
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
c0000082 0 0 ffffffffffffff ffffffffffffff
c0000083 0 0 ffffffffffffff ffffffffffffff
c0000084 0 0 ffffffffffffffff ffffffffffffffff
c00000e7 - - 0 0
c0000100 0 0 ffffffffffffff ffffffffffffff
c0000101 0 0 ffffffffffffff ffffffffffffff
c0000102 0 0 ffffffffffffff ffffffffffffff
c0000103 0 0 ffffffff ffffffff
c0000104 100000000 0 100000000 0
c0010010 0 - 0 0
c0010015 0 0 1040148 1040000
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
c0011020 - - 0 0
c0011022 0 0 ffffffffffffffff 0
c0011023 0 0 ffffffffffffffff 0
c0011029 0 0 2 2
c001102a 0 0 ffffffffffffffff 0
c001102c 0 0 ffffffffffffffff 0
"""
MSRS_WITH_CPUID = """
1b fee00900 0 fffffff900 fffffff900
10a 400000000c000079 0 ffffffffffffffff ffffffffffffffff
175 0 0 ffffffffffffffff ffffffff
176 0 0 ffffffffffffffff ffffffff
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
c0000103 0 0 ffffffffffffffff ffffffff
"""
FRESH_REGS = """
10 00000000000000000006000000000000
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
10 0000000000000000801f0000ffff0000
1d0 1f020000000000000000000000000000
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
0 48 15 24 72 1032
0 0 1 0 0 remote_tlb_flush
0 0 1 8 0 remote_tlb_flush_requests
0 0 1 16 0 mmu_shadow_zapped
0 0 1 24 0 mmu_pte_write
0 0 1 32 0 mmu_pde_zapped
0 0 1 40 0 mmu_flooded
0 0 1 48 0 mmu_recycled
0 0 1 56 0 mmu_cache_miss
1 0 1 64 0 mmu_unsync
1 0 1 72 0 pages_4k
1 0 1 80 0 pages_2m
1 0 1 88 0 pages_1g
1 0 1 96 0 nx_lpage_splits
2 0 1 112 0 max_mmu_rmap_size
2 0 1 104 0 max_mmu_page_hash_collisions
"""
VCPU_STATS = """
0 48 45 24 72 2952
0 0 1 0 0 halt_successful_poll
0 0 1 8 0 halt_attempted_poll
0 0 1 16 0 halt_poll_invalid
0 0 1 24 0 halt_wakeup
32 -9 1 32 0 halt_poll_success_ns
32 -9 1 40 0 halt_poll_fail_ns
32 -9 1 48 0 halt_wait_ns
36 -9 32 56 0 halt_poll_success_hist
36 -9 32 312 0 halt_poll_fail_hist
36 -9 32 568 0 halt_wait_hist
65 0 1 824 0 blocking
0 0 1 832 0 pf_taken
0 0 1 840 0 pf_fixed
0 0 1 848 0 pf_emulate
0 0 1 856 0 pf_spurious
0 0 1 864 0 pf_fast
0 0 1 872 0 pf_mmio_spte_created
0 0 1 880 0 pf_guest
0 0 1 888 0 tlb_flush
0 0 1 896 0 invlpg
0 0 1 904 0 exits
0 0 1 912 0 io_exits
0 0 1 920 0 mmio_exits
0 0 1 928 0 signal_exits
0 0 1 936 0 irq_window_exits
0 0 1 944 0 nmi_window_exits
0 0 1 952 0 l1d_flush
0 0 1 960 0 halt_exits
0 0 1 968 0 request_irq_exits
0 0 1 976 0 irq_exits
0 0 1 984 0 host_state_reload
0 0 1 992 0 fpu_reload
0 0 1 1000 0 insn_emulation
0 0 1 1008 0 insn_emulation_fail
0 0 1 1016 0 hypercalls
0 0 1 1024 0 irq_injections
0 0 1 1032 0 nmi_injections
0 0 1 1040 0 req_event
0 0 1 1048 0 nested_run
0 0 1 1056 0 directed_yield_attempted
0 0 1 1064 0 directed_yield_successful
0 0 1 1072 0 preemption_reported
0 0 1 1080 0 preemption_other
65 0 1 1088 0 guest_mode
0 0 1 1096 0 notify_window_exits
"""
