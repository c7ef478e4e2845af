"""Containers of images: what was asked for and what became of it lies in files; each has a process of its own.

`store` has the containers of one state directory, `create` makes one of an image, and
`monitor` is the process that runs one, keeps its log and answers whoever calls
(`call`): there is no daemon. A container ends with its monitor.
"""
