"""What confines a program: a child process that `rejoule.graphs.tools.sandbox` starts, and the kernel's walls.

`main` is the supervisor, which stays outside and watches; `keeper` is the first process inside, and makes the program.
It is run by a bare interpreter, whose start is paid for every program. So nothing here imports what it can do without,
and imports are relative: as a package of its own, this one loads none of those around it.
"""
