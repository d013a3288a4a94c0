# SPDX-License-Identifier: GPL-2.0-only
"""An unmodified program meets a described machine: `kvm-vfio run`.

General layout. Three processes, parent to child:

- the *front* is what was started. It passes signals on, waits, and if the supervisor is killed it
  ends what is left;
- the *supervisor* answers. If the front is killed it ends everything;
- the *program* has a filter that makes its calls on our devices wait for the supervisor's answer,
  and a private /dev and /sys in which those devices exist.

`filter` says which calls wait, `notify` receives and answers them, `launch` starts the program.
`syscalls` has a handler for each kind of call; it reaches the program through `memory`, `files` and
`processes`, and asks the model. `kvm_host` is for programs that keep this computer's own /dev/kvm.
`loop` turns the wheel.
"""
