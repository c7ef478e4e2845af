"""Networks of their own for steps, made by CNI plugins.

- `conflist`: what a network is: a chain of plugins, read from a file, or the bridge that is built in;
- `plugins`: the protocol by which each plugin of the chain is asked to add and delete (CNI 1.0);
- `namespace`: a network namespace, held by a descriptor;
- `steps`: lends a namespace with its network to each step, keeps some for the next, sweeps what a killed process left.
"""
