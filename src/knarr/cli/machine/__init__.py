"""What `knarr doctor` looks at on a machine: one module for each kind of thing, all giving `finding.Finding`s."""
