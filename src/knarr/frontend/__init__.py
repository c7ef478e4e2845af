"""Frontends: from what a user wrote to LLB. Pure: a frontend asks the world only through `bridge`."""
