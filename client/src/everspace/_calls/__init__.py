"""Every call of the service, without any I/O: how it is asked and how its answer is read.

`call` has the form that all share; `spaces`, `segments`, `tasks` and `memory` have one function per call, named as in
the C interface. The sync and the async client and both kinds of batch send what these functions build.
"""
