"""Starting sooner: one file with the code of all modules that commands load."""
